//! Tables of descriptors that repeat a handle: EMFILE counts descriptors, so a table can be full of a handle or two.
//!
//! To count the entries of all tables costs little, and is done at each sample. What a table has in it is read only when it has
//! grown, or is nearly full.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use fdtrace_common::descriptor::InTable;

use crate::{
    kernel::{Filters, TableReader},
    kinds,
    model::{FullTable, Repeat, most_repeated},
    process::{self, Descriptors},
};

/// A table with fewer entries is nobody's trouble.
const FEW: u64 = 32;

/// So many descriptors of one handle are many, if they are a quarter of the table.
const MANY: u64 = 16;
const SHARE: u64 = 4;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A table is nearly full when so many tenths of it are.
const NEARLY_FULL: u64 = 8;

/// What is watched in the tables of processes.
pub struct Tables {
    reader: TableReader,
    filters: Filters,
    used: HashMap<u32, u64>,
    /// Processes that repeated a handle at the last sample.
    repeating: HashSet<u32>,
}

/// What a look at the tables gives.
pub struct TablesSample {
    /// Tables that repeat a handle, the fullest first.
    pub full: Vec<FullTable>,
    /// One of them grows, or is nearly full.
    pub urgent: bool,
}

/// How a table was found.
#[derive(Clone, Copy)]
struct Count {
    pid: u32,
    used: u64,
    grown: bool,
}

impl Tables {
    /// Watches the tables of the processes that the filters admit.
    #[must_use]
    pub fn new(reader: TableReader, filters: Filters) -> Self {
        Self { reader, filters, used: HashMap::new(), repeating: HashSet::new() }
    }

    /// Looks at them.
    ///
    /// # Errors
    /// When the kernel's iterator fails.
    pub fn sample(&mut self) -> io::Result<TablesSample> {
        let counts = self.count();
        let grown: HashSet<u32> = counts.iter().filter(|count| count.grown).map(|count| count.pid).collect();
        let suspects = self.suspects(&counts);
        let found = self.reader.read(&suspects)?;
        let mut full: Vec<FullTable> = suspects
            .iter()
            .filter_map(|pid| full_table(*pid, found.iter().filter(|entry| entry.tgid == *pid)))
            .collect();
        full.sort_by_key(|table| (std::cmp::Reverse(tenths(table.descriptors, table.limit)), table.pid));
        self.repeating = full.iter().map(|table| table.pid).collect();
        let urgent = full.iter().any(|table| grown.contains(&table.pid) || table.is_nearly_full());
        Ok(TablesSample { full, urgent })
    }

    /// How many entries each table has, and whether there were fewer at the last sample.
    fn count(&mut self) -> Vec<Count> {
        let mut counts = Vec::new();
        for pid in self.processes() {
            let Some(used) = Descriptors::used_by(pid) else { continue };
            let grown = self.used.get(&pid).is_some_and(|before| *before < used);
            counts.push(Count { pid, used, grown });
        }
        self.used = counts.iter().map(|count| (count.pid, count.used)).collect();
        counts
    }

    /// Those whose tables are worth reading, the largest ones.
    fn suspects(&self, counts: &[Count]) -> Vec<u32> {
        let is_suspect = |count: &&Count| {
            count.used >= FEW && (count.grown || self.repeating.contains(&count.pid) || is_nearly_full(count))
        };
        let mut suspects: Vec<&Count> = counts.iter().filter(is_suspect).collect();
        suspects.sort_by_key(|count| std::cmp::Reverse(count.used));
        suspects.into_iter().take(TableReader::MAX).map(|count| count.pid).collect()
    }

    fn processes(&self) -> Vec<u32> {
        let filters = &self.filters;
        let own = std::process::id();
        let all = match filters.pids.as_slice() {
            [] => process::all().collect(),
            pids if filters.follow => process::with_descendants(pids),
            pids => pids.to_vec(),
        };
        all.into_iter().filter(|pid| *pid != own && admits(filters, *pid)).collect()
    }
}

/// Whether the filters that do not name processes admit one.
fn admits(filters: &Filters, pid: u32) -> bool {
    if filters.comm.is_none() && filters.uid.is_none() && filters.cgroup.is_none() {
        return true;
    }
    let identity = process::identity(pid);
    let below = |wanted: &std::path::PathBuf| {
        let wanted = wanted.strip_prefix(CGROUPS).unwrap_or(wanted);
        let root = std::path::Path::new("/");
        root.join(identity.cgroup.trim_start_matches('/')).starts_with(root.join(wanted))
    };
    filters.comm.as_ref().is_none_or(|comm| process::is_named(pid, comm))
        && filters.uid.is_none_or(|uid| process::owner(pid) == Some(uid))
        && filters.cgroup.as_ref().is_none_or(below)
}

fn is_nearly_full(count: &Count) -> bool {
    let limit = process::descriptor_limits(count.pid).map_or(u64::MAX, |(soft, _)| soft);
    tenths(count.used, Some(limit)) >= NEARLY_FULL
}

/// How many tenths of its limit a process uses.
fn tenths(used: u64, limit: Option<u64>) -> u64 {
    limit.filter(|limit| *limit > 0).map_or(0, |limit| used.saturating_mul(10) / limit)
}

/// What a table repeats; `None` when that is not worth a word.
fn full_table<'a>(pid: u32, entries: impl Iterator<Item = &'a InTable>) -> Option<FullTable> {
    let mut by_handle: HashMap<u64, (u64, u32)> = HashMap::new();
    for entry in entries {
        by_handle.entry(entry.handle).or_insert((0, entry.fd)).0 += 1;
    }
    let descriptors: u64 = by_handle.values().map(|(count, _)| count).sum();
    let most = by_handle.values().map(|(count, _)| *count).max().unwrap_or(0);
    if !is_much(most, descriptors) {
        return None;
    }
    let identity = process::identity(pid);
    let handles = by_handle.len() as u64;
    let repeated = by_handle.into_values().filter(|(count, _)| *count > 1);
    let repeats = repeated.map(|(count, fd)| repeat(pid, fd, count)).collect();
    Some(FullTable {
        pid,
        comm: identity.comm,
        exe: identity.exe,
        descriptors,
        handles,
        limit: process::descriptor_limits(pid).map(|(soft, _)| soft).filter(|limit| *limit != u64::MAX),
        repeats: most_repeated(repeats),
        site: None,
        place: None,
    })
}

const fn is_much(most: u64, of: u64) -> bool {
    most >= MANY && most * SHARE >= of
}

fn repeat(pid: u32, fd: u32, descriptors: u64) -> Repeat {
    let name =
        process::descriptor_path(pid, fd).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let kind = kinds::of_link(name.as_bytes());
    Repeat { name, kind, descriptors }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_one_handle_is_told_and_one_of_many_is_not() {
        let entry = |handle, fd| InTable { handle, tgid: 1, fd };
        let one: Vec<InTable> = (0..40).map(|fd| entry(8, fd)).collect();
        let table = full_table(1, one.iter()).expect("a handle that is repeated");
        assert_eq!((table.descriptors, table.handles, table.repeats[0].descriptors), (40, 1, 40));
        let many: Vec<InTable> = (0..40).map(|fd| entry(8 + u64::from(fd), fd)).collect();
        assert!(full_table(1, many.iter()).is_none());
    }

    #[test]
    fn a_few_repeats_in_a_large_table_are_no_trouble() {
        assert!(is_much(16, 64) && !is_much(16, 65) && !is_much(15, 20));
        assert_eq!([tenths(80, Some(100)), tenths(80, None), tenths(1, Some(0))], [8, 0, 0]);
    }
}
