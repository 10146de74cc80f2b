//! Hidden handles in a few rows: the same file in many processes is a row, and so are many files of one process.

use std::{cmp::Reverse, collections::HashMap};

use crate::{
    model::explain::{Document, Hidden, SharerLine},
    text::fmt::{number, short},
};

/// A row of hidden handles.
pub(super) struct Row {
    /// What hides them.
    pub(super) holder: String,
    /// What they are.
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) deleted: bool,
    /// Who holds them, most first.
    pub(super) processes: Vec<SharerLine>,
}

/// What hides handles, in the order in which holders are asked for.
pub(super) const HOLDERS: [&str; 8] =
    ["shm_attach", "mapping", "shm_segment", "scm_rights", "io_uring", "executable", "bpf", "unknown"];

/// Handles of one holder that are those of programs and libraries, and of other files that programs share: they are mapped
/// as long as somebody runs.
pub(super) fn ordinary(document: &Document, holder: &str) -> u64 {
    ordinary_of(&document.hidden, holder)
}

fn ordinary_of(groups: &[Hidden], holder: &str) -> u64 {
    groups.iter().filter(|group| group.ordinary && group.holder == holder).map(|group| group.count).sum()
}

/// Handles of one holder that file-nr does not count, and that are no programs and libraries.
pub(super) fn uncounted(document: &Document, holder: &str) -> u64 {
    document.handles.uncounted(holder).saturating_sub(ordinary_of(&document.uncounted, holder))
}

/// Handles of one holder that are not, of those that file-nr counts.
pub(super) fn others(document: &Document, holder: &str) -> u64 {
    document.handles.counted(holder).saturating_sub(ordinary(document, holder))
}

/// What groups are, those with most handles first.
pub(super) fn names(groups: &[&Hidden]) -> String {
    let Some(first) = groups.first() else { return String::new() };
    let count: u64 = groups.iter().map(|group| group.count).sum();
    if groups.len() == 1 || first.count * 2 > count {
        return short(&first.name);
    }
    let things = if first.shmid.is_some() { "segments" } else { "files" };
    format!("{} {things}, such as {}", number(groups.len() as u64), short(&first.name))
}

/// All rows, most handles first; what is ordinary is one, and comes last.
pub(super) fn rows(document: &Document) -> Vec<Row> {
    let (ordinary, others): (Vec<&Hidden>, Vec<&Hidden>) =
        document.hidden.iter().partition(|group| group.ordinary);
    let mut alike: HashMap<(&str, &str, Vec<u32>), Vec<&Hidden>> = HashMap::new();
    for group in others {
        let key = (group.holder.as_str(), group.kind.as_str(), owners(group));
        alike.entry(key).or_default().push(group);
    }
    let mut rows: Vec<Row> = alike.into_values().flat_map(gathered).collect();
    rows.sort_by(|a, b| (Reverse(a.count), &a.name).cmp(&(Reverse(b.count), &b.name)));
    rows.extend(programs(&ordinary));
    let own =
        |pid: u32| document.processes.iter().any(|process| process.pid == pid && document.took(process));
    for row in &mut rows {
        row.processes.retain(|process| !own(process.pid));
    }
    rows
}

/// The processes that hold a group. A segment outlives whoever made it, and a program that makes one in each run makes it
/// as another process, so segments belong together whoever made them.
fn owners(group: &Hidden) -> Vec<u32> {
    if group.holder == "shm_segment" {
        return Vec::new();
    }
    let mut owners: Vec<u32> = group.processes.iter().map(|process| process.pid).collect();
    owners.sort_unstable();
    owners
}

/// Few files each have a row; many files of the same processes have one together.
fn gathered(mut groups: Vec<&Hidden>) -> Vec<Row> {
    const FEW: usize = 3;
    groups.sort_by_key(|group| Reverse(group.count));
    let count: u64 = groups.iter().map(|group| group.count).sum();
    let first = groups[0];
    if groups.len() <= FEW || first.count * 2 > count {
        return groups.into_iter().map(row).collect();
    }
    vec![Row {
        name: names(&groups),
        count,
        bytes: groups.iter().map(|group| group.bytes).sum(),
        deleted: groups.iter().all(|group| group.deleted),
        processes: sharers(&groups),
        ..row(first)
    }]
}

/// The processes of several groups, most handles first.
fn sharers(groups: &[&Hidden]) -> Vec<SharerLine> {
    let mut processes: HashMap<u32, SharerLine> = HashMap::new();
    for process in groups.iter().flat_map(|group| &group.processes) {
        let sum = processes.entry(process.pid).or_insert_with(|| SharerLine { count: 0, ..process.clone() });
        sum.count += process.count;
    }
    let mut processes: Vec<SharerLine> = processes.into_values().collect();
    processes.sort_by_key(|process| (Reverse(process.count), process.pid));
    processes
}

fn row(group: &Hidden) -> Row {
    Row {
        holder: group.holder.clone(),
        name: group.name.clone(),
        count: group.count,
        bytes: group.bytes,
        deleted: group.deleted,
        processes: group.processes.clone(),
    }
}

fn programs(ordinary: &[&Hidden]) -> Option<Row> {
    let files = ordinary.len();
    (!ordinary.is_empty()).then(|| Row {
        holder: ordinary[0].holder.clone(),
        name: format!("programs, libraries: {} files", number(files as u64)),
        count: ordinary.iter().map(|group| group.count).sum(),
        bytes: 0,
        deleted: false,
        processes: sharers(ordinary),
    })
}
