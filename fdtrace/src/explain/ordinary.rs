//! Which hidden handles are there because programs run, and which are not: by sums over each process.
//!
//! A file of its own is a handle for every library and every cache of locales, and there is no end of them to find out
//! by one file. So each sort has a number that a process may have of one file, and one that it may have of all.

use std::collections::HashMap;

use super::HiddenGroup;
use crate::model::{Holder, Kind};

/// Why handles are mapped as long as somebody runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sort {
    /// What a process runs.
    Program,
    /// A program or library on its disk.
    Library,
    /// Code that has no name any more: of a package that was replaced meanwhile, or made by the program itself.
    Nameless,
    /// A file that programs map which know nothing of each other: locales, caches.
    Common,
}

impl Sort {
    fn of(group: &HiddenGroup) -> Option<Self> {
        match group.holder {
            Holder::Executable => Some(Self::Program),
            Holder::Mapping if group.code && (group.deleted || group.kind != Kind::Regular) => {
                Some(Self::Nameless)
            }
            Holder::Mapping if group.code => Some(Self::Library),
            Holder::Mapping if group.kind == Kind::Regular && !group.deleted && is_common(group) => {
                Some(Self::Common)
            }
            _ => None,
        }
    }

    /// The most handles of one file that a process has by merely running.
    const fn of_a_file(self) -> u64 {
        match self {
            Self::Program => u64::MAX,
            Self::Library => 8,
            Self::Nameless | Self::Common => 2,
        }
    }

    /// The most of all files.
    const fn of_all_files(self) -> u64 {
        match self {
            Self::Program => u64::MAX,
            Self::Library => 999,
            Self::Nameless | Self::Common => 64,
        }
    }
}

/// Whether another process than the one with most of them opened some for itself: what a fork copies says nothing.
fn is_common(group: &HiddenGroup) -> bool {
    group.processes.iter().map(|process| process.count).max().is_some_and(|most| most < group.count)
}

/// Marks the groups of which no holder has more than running takes.
pub(super) fn mark(groups: &mut [HiddenGroup]) {
    let mut sums: HashMap<(u32, Sort), u64> = HashMap::new();
    for (group, sort) in groups.iter().filter_map(|group| Some((group, Sort::of(group)?))) {
        for process in &group.processes {
            *sums.entry((process.pid, sort)).or_default() += process.count;
        }
    }
    for group in groups {
        group.ordinary = Sort::of(group).is_some_and(|sort| {
            let within = |pid| sums.get(&(pid, sort)).is_none_or(|sum| *sum <= sort.of_all_files());
            let few = group.processes.iter().all(|process| process.count <= sort.of_a_file());
            few && (group.processes.is_empty() || group.processes.iter().any(|process| within(process.pid)))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Sharer, *};

    fn group(name: &str, count: u64, processes: &[(u32, u64)]) -> HiddenGroup {
        let sharer = |(pid, count): &(u32, u64)| Sharer { pid: *pid, comm: "app".to_owned(), count: *count };
        HiddenGroup {
            holder: Holder::Mapping,
            kind: Kind::Regular,
            name: name.to_owned(),
            count,
            bytes: 0,
            deleted: false,
            code: false,
            uncounted: false,
            ordinary: false,
            shmid: None,
            processes: processes.iter().map(sharer).collect(),
            places: Vec::new(),
        }
    }

    fn code(group: HiddenGroup) -> HiddenGroup {
        HiddenGroup { code: true, ..group }
    }

    /// How many handles of these are ordinary.
    fn ordinary(mut groups: Vec<HiddenGroup>) -> u64 {
        mark(&mut groups);
        groups.iter().filter(|group| group.ordinary).map(|group| group.count).sum()
    }

    #[test]
    fn libraries_and_caches_that_programs_share() {
        let libc = code(group("libc.so.6", 3, &[(1, 1), (2, 1), (3, 1)]));
        let locales = group("locale-archive", 2, &[(1, 1), (2, 1), (3, 1)]);
        let replaced = HiddenGroup { deleted: true, ..code(group("libz.so", 2, &[(1, 1), (2, 1)])) };
        assert_eq!(ordinary(vec![libc, locales, replaced]), 7);
    }

    #[test]
    fn what_a_fork_copies_is_still_a_leak() {
        let files = (0..300).map(|file| group(&format!("/data/{file}"), 1, &[(1, 1), (2, 1)]));
        assert_eq!(ordinary(files.collect()), 0);
        let twice = (0..300).map(|file| group(&format!("/data/{file}"), 2, &[(1, 2), (2, 2)]));
        assert_eq!(ordinary(twice.collect()), 0);
    }

    #[test]
    fn workers_that_each_map_the_same_files_for_ever() {
        let files = (0..300).map(|file| {
            group(&format!("/data/{file}"), 20, &(1..21).map(|pid| (pid, 1)).collect::<Vec<_>>())
        });
        assert_eq!(ordinary(files.collect()), 0);
    }

    #[test]
    fn code_is_no_excuse() {
        assert_eq!(ordinary(vec![code(group("plugin.so", 1000, &[(1, 1000)]))]), 0);
        let copies = (0..1000).map(|copy| code(group(&format!("{copy}.so"), 1, &[(1, 1)])));
        assert_eq!(ordinary(copies.collect()), 0);
        let nameless = (0..100)
            .map(|copy| HiddenGroup { deleted: true, ..code(group(&copy.to_string(), 1, &[(1, 1)])) });
        assert_eq!(ordinary(nameless.collect()), 0);
        let memfd = HiddenGroup { kind: Kind::Memfd, ..code(group("memfd:jit", 300, &[(1, 300)])) };
        assert_eq!(ordinary(vec![memfd]), 0);
    }

    #[test]
    fn a_library_of_a_leaking_process_is_that_of_others_too() {
        let copies = (0..1000).map(|copy| code(group(&format!("{copy}.so"), 1, &[(1, 1)])));
        let libc = code(group("libc.so.6", 2, &[(1, 1), (2, 1)]));
        assert_eq!(ordinary(copies.chain([libc]).collect()), 2);
    }
}
