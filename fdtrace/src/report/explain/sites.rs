//! Who allocated hidden handles, by a trace.

use std::io::{self, Write};

use crate::{
    model::explain::{Document, Hidden, SiteLine, TraceLine},
    text::{
        Terminal,
        fmt::{escape_control, number},
    },
};

/// The most groups that are shown, and the most sites of each.
const GROUPS: usize = 5;
const SITES: usize = 3;

/// Writes who allocated the hidden handles, for a document with a trace.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, trace: &TraceLine) -> io::Result<()> {
    let out = &mut Terminal::new(out, false);
    let clock = |time: &str| escape_control(time.get(11..19).unwrap_or_default());
    writeln!(
        out,
        "by the trace {}, from {} to {} UTC: {} handles are allocated in it, {} are older, {} unknown to it",
        escape_control(&trace.file),
        clock(&trace.start),
        clock(&trace.end),
        number(trace.traced),
        number(trace.older),
        number(trace.unknown)
    )?;
    for remark in &trace.remarks {
        writeln!(out, "  note: {}", escape_control(remark))?;
    }
    // Programs and libraries are allocated by whoever starts them.
    let known = document.hidden.iter().filter(|group| !group.sites.is_empty() && !group.ordinary);
    for group in known.take(GROUPS) {
        write_group(out, group)?;
    }
    Ok(())
}

fn write_group(out: &mut impl Write, group: &Hidden) -> io::Result<()> {
    let traced: u64 = group.sites.iter().map(|site| site.count).sum();
    let name = escape_control(&group.name);
    writeln!(
        out,
        "{:>11} of {} hidden by {}, {name}:",
        number(traced),
        number(group.count),
        escape_control(&group.holder)
    )?;
    for site in group.sites.iter().take(SITES) {
        write_site(out, site)?;
    }
    match group.sites.len().saturating_sub(SITES) {
        0 => Ok(()),
        more => writeln!(out, "{:>11} more sites", number(more as u64)),
    }
}

fn write_site(out: &mut impl Write, site: &SiteLine) -> io::Result<()> {
    let pids: Vec<String> = site.pids.iter().take(SITES).map(u32::to_string).collect();
    let more = if site.pids.len() > SITES { ", ..." } else { "" };
    let (count, stack, pids) = (number(site.count), escape_control(&site.stack), pids.join(", "));
    writeln!(out, "{count:>11}  {stack}  (pid {pids}{more}; site {})", escape_control(&site.id))
}
