//! Processes by what they belong to, as a table.

use std::io::{self, Write};

use crate::{
    model::explain::{Document, ProcessGroupLine, SharerLine},
    text::{
        Terminal,
        fmt::{counted, escape_control, number},
    },
};

/// The most rows of a screen.
const ROWS: usize = 20;
/// What is left of a container's id: as much as its tools show.
const ID: usize = 12;

/// Writes the groups of a document.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let out = &mut Terminal::new(out, false);
    let Some(first) = document.groups.first() else { return writeln!(out, "No process holds such handles.") };
    let (handles, hidden) = (counted(document.handles.total, "handle"), number(document.handles.hidden));
    writeln!(out, "{handles}, {hidden} hidden; what two groups share counts in both")?;
    let by = first.by.to_uppercase();
    writeln!(out, "{:>11} {:>9} {:>11} {:>9}  {by}", "HANDLES", "HIDDEN", "DESCRIPTORS", "PROCESSES")?;
    for group in document.groups.iter().take(ROWS) {
        let (handles, hidden) = (number(group.handles), number(group.hidden));
        let (descriptors, processes) = (number(group.descriptors), number(group.processes));
        writeln!(out, "{handles:>11} {hidden:>9} {descriptors:>11} {processes:>9}  {}", who(group))?;
    }
    let more = document.groups.len().saturating_sub(ROWS);
    if more > 0 {
        writeln!(out, "{:>11} {} more groups", "", number(more as u64))?;
    }
    Ok(())
}

/// A group and, where that is another name, the process with most of it.
fn who(group: &ProcessGroupLine) -> String {
    let is_id = group.by == "container" && !group.name.starts_with("mnt:");
    if group.name.is_empty() {
        return "ended meanwhile".to_owned();
    }
    let name = escape_control(if is_id { group.name.get(..ID).unwrap_or(&group.name) } else { &group.name });
    match &group.largest {
        Some(SharerLine { pid, comm, count }) if group.by != "process" => {
            format!("{name}: {} ({pid}) {}", escape_control(comm), number(*count))
        }
        _ => name,
    }
}
