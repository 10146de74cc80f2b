//! The plain-text view: a table of sites, a footer, and a last line that says where to look.

use std::{
    cmp::Reverse,
    io::{self, Write},
};

use super::{
    repeats,
    stack::{self, Block},
};
use crate::{
    model::{Document, Example, Fastest, FullTable, Handles, Kind, Own, Process, Site, Trace, Trend},
    stacks,
    text::{
        Terminal,
        fmt::{at_least, bytes, change, counted, escape_control, number, process, rate, seconds, span},
    },
};

/// How the text looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Colours, for a terminal.
    pub color: bool,
    /// The most sites that are shown.
    pub top: usize,
    /// Whole stacks, with modules and kernel frames.
    pub verbose: bool,
    /// The trace has ended: nothing is said of now, and nothing of what may come.
    pub finished: bool,
}

/// Looks before which no verdict is given.
const SAMPLES_TO_EVALUATE: u64 = 3;

/// The most processes that are named for what is pre-existing.
const EXISTING_HOLDERS: usize = 3;

/// The most call sites that mapped a site's handles and are shown.
const MAPPED_BY: usize = 3;

/// The stack of who mapped handles, below the row of their site.
const MAPPING_STACK: Block = Block { indent: 12, frames: 3 };

/// Examples of so many characters go on one line.
const SHORT_LINE: usize = 84;

/// Writes a document as text.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    let out = &mut Terminal::new(out, style.color);
    writeln!(out, "{}", paint(style, "1", &headline(&document.trace, &document.handles, style)))?;
    if !document.sites.is_empty() {
        let second = if style.finished { "ALLOCATED" } else { "CHANGE" };
        writeln!(
            out,
            "{:>9} {second:>9} {:>8}  {:<8} {:<11} {:<22} PROCESS",
            "LIVE", "OLDEST", "TREND", "ORIGIN", "KIND"
        )?;
    }
    write_sites(out, document, style)?;
    write_tables(out, document, style)?;
    write_footer(out, document, style)?;
    write_last_line(out, document, style)?;
    out.flush()
}

/// What a document is about.
pub(super) fn headline(trace: &Trace, handles: &Handles, style: Style) -> String {
    if style.finished {
        return at_the_end(trace, handles);
    }
    let age = span(trace.duration_ns);
    format!("{} live handles made in the last {age} {}", number(handles.live), where_from(trace))
}

/// The headline of a trace that has ended.
pub(super) fn at_the_end(trace: &Trace, handles: &Handles) -> String {
    let length = span(trace.duration_ns);
    format!("{} live handles at the end of a trace of {length} {}", number(handles.live), where_from(trace))
}

fn where_from(trace: &Trace) -> String {
    format!("({} backend, Linux {})", escape_control(&trace.backend), escape_control(&trace.kernel))
}

/// The sites, without those that only loaded what programs run: these are a sum.
fn write_sites(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    let (loaded, sites): (Vec<&Site>, Vec<&Site>) = document
        .sites
        .iter()
        .partition(|site| !style.verbose && site.loaded && site.verdict != Trend::Growing);
    for site in sites.iter().take(style.top) {
        write_site(out, site, document.trace.lost.events > 0, style)?;
    }
    let hidden = sites.len().saturating_sub(style.top);
    if hidden > 0 {
        writeln!(out, "          and {} more sites (--top)", number(hidden as u64))?;
    }
    let handles: u64 = loaded.iter().map(|site| site.aged).sum();
    if handles > 0 {
        writeln!(out, "{:>9} of programs, libraries and locales in use (-v lists them)", number(handles))?;
    }
    Ok(())
}

fn write_site(out: &mut impl Write, site: &Site, lossy: bool, style: Style) -> io::Result<()> {
    let line = format!(
        "{:>9} {:>9} {:>8}  {:<8} {:<11} {:<22} {}",
        number(site.aged),
        if style.finished { at_least(site.allocated, lossy) } else { change(site.change) },
        if site.live == 0 { String::new() } else { span(site.oldest_age_ns) },
        trend(site.verdict),
        site.origin,
        kinds(site),
        processes(&site.processes)
    );
    let growing = site.verdict == Trend::Growing;
    writeln!(out, "{}", if growing { paint(style, "31", &line) } else { line })?;
    stack::write_below_row(out, &site.user_stack, &site.kernel_stack, site.user_stack_complete, style)?;
    write_repeats(out, site)?;
    write_mappings(out, site, style)?;
    write_examples(out, site)
}

/// The processes whose tables of descriptors repeat a handle.
fn write_tables(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    // That of the last line is said there.
    let last = document.processes.iter().position(FullTable::is_nearly_full);
    let others = (0..).zip(&document.processes).filter(|(index, _)| Some(*index) != last);
    for (_, table) in others.take(style.top) {
        writeln!(out, "descriptors: {}", repeats::of_table(table))?;
    }
    Ok(())
}

/// The two kinds that most are of.
fn kinds(site: &Site) -> String {
    let mut kinds: Vec<(Kind, u64)> = site.kinds.iter().map(|(kind, count)| (*kind, *count)).collect();
    kinds.sort_by_key(|(_, count)| Reverse(*count));
    match kinds.as_slice() {
        [(kind, _)] => kind.to_string(),
        several => {
            let words = several.iter().take(2).map(|(kind, count)| format!("{kind} {}", number(*count)));
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Of a site that makes no handles: what its descriptors point to, and what it could not have.
fn write_repeats(out: &mut impl Write, site: &Site) -> io::Result<()> {
    if let Some(most) = site.repeats.first() {
        writeln!(out, "          {}", repeats::sentence(most, site.live))?;
    }
    if site.refused > 0 {
        let times = counted(site.refused, "time");
        writeln!(out, "          no descriptor was left for it (EMFILE), seen {times}")?;
    }
    Ok(())
}

fn write_mappings(out: &mut impl Write, site: &Site, style: Style) -> io::Result<()> {
    for mapped in site.mapped_by.iter().take(MAPPED_BY) {
        let example = mapped.example.map(|found| {
            format!(" (e.g. pid {} at {:#x}, {})", found.pid, found.address, bytes(found.length))
        });
        let example = example.unwrap_or_default();
        writeln!(out, "          {} mapped{example} by", counted(mapped.handles, "handle"))?;
        stack::write(out, &mapped.user_stack, &[], true, MAPPING_STACK, style)?;
    }
    let hidden = site.mapped_by.len().saturating_sub(MAPPED_BY);
    if hidden > 0 {
        writeln!(out, "          mapped by {} more", counted(hidden as u64, "call site"))?;
    }
    Ok(())
}

fn write_examples(out: &mut impl Write, site: &Site) -> io::Result<()> {
    if site.examples.is_empty() {
        return Ok(());
    }
    let examples: Vec<String> = site.examples.iter().map(example).collect();
    let short = examples.iter().map(String::len).sum::<usize>() <= SHORT_LINE;
    writeln!(out, "          e.g. {}", examples.join(if short { ", " } else { ",\n               " }))
}

fn example(example: &Example) -> String {
    let name = if example.name.is_empty() { example.kind.to_string() } else { escape_control(&example.name) };
    match example.fd {
        Some(fd) => format!("fd {fd} {name} ({})", span(example.age_ns)),
        None if example.hidden => format!("{name} without a descriptor ({})", span(example.age_ns)),
        None => format!("{name} ({})", span(example.age_ns)),
    }
}

fn trend(verdict: Trend) -> &'static str {
    match verdict {
        Trend::Growing => "growing",
        Trend::Steady => "steady",
        Trend::Burst => "burst",
        Trend::Single => "single",
        Trend::Unknown => "",
    }
}

/// The first process, and how many more there are.
pub(super) fn processes(processes: &[Process]) -> String {
    let Some(first) = processes.first() else { return String::new() };
    let name = process(&first.comm, first.pid);
    match processes.len() - 1 {
        0 => name,
        more => format!("{name} and {} more", number(more as u64)),
    }
}

fn write_footer(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    let events = &document.trace.events;
    let (allocated, released) = rates(&document.trace, style);
    writeln!(
        out,
        "allocated {} ({}), released {} ({}), never opened {}",
        number(events.allocated),
        rate(allocated),
        number(events.released),
        rate(released),
        number(events.never_opened),
    )?;
    write_others(out, &document.handles)?;
    for (name, count) in &events.errors {
        writeln!(out, "{} allocations failed with {name}", number(*count))?;
    }
    let own = document.own.as_ref().map(own_cost).unwrap_or_default();
    writeln!(out, "lost: {}{own}", losses(&document.trace))
}

/// Allocations and releases a second: since the last sample, and over all of a trace that has ended.
#[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
fn rates(trace: &Trace, style: Style) -> (f64, f64) {
    let events = &trace.events;
    if !style.finished {
        return (events.allocated_per_second, events.released_per_second);
    }
    let seconds = (trace.duration_ns as f64 / 1e9).max(1e-6);
    (events.allocated as f64 / seconds, events.released as f64 / seconds)
}

/// Handles that the table above does not speak of.
fn write_others(out: &mut impl Write, handles: &Handles) -> io::Result<()> {
    if handles.min_age_ns > 0 {
        let age = span(handles.min_age_ns);
        writeln!(out, "younger than {age} and not shown: {}", number(handles.young))?;
    }
    let found = handles.pre_existing + handles.pre_existing_released;
    let holders = handles.pre_existing_by.iter().take(EXISTING_HOLDERS);
    let holders: Vec<String> = holders
        .map(|holder| format!("{} {}", process(&holder.comm, holder.pid), number(holder.live)))
        .collect();
    let holders = if holders.is_empty() { String::new() } else { format!(": {}", holders.join(", ")) };
    writeln!(
        out,
        "pre-existing: {} alive of {} found{holders}; others in the system: {}",
        number(handles.pre_existing),
        number(found),
        number(handles.others),
    )
}

fn own_cost(own: &Own) -> String {
    let cost = match (own.allocation_ns, own.release_ns) {
        (Some(allocation), Some(release)) => format!("{allocation} ns an allocation, {release} ns a release"),
        _ => "cost per event unknown".to_owned(),
    };
    let cpu = own.cpu_percent.map(|percent| format!("{percent:.1}% of a core, ")).unwrap_or_default();
    format!("; fdtrace: {cpu}{}, {cost}", bytes(own.resident_bytes))
}

/// What was lost, and whether the live handles are complete nevertheless.
pub(super) fn losses(trace: &Trace) -> String {
    let lost = &trace.lost;
    let parts = [
        (lost.events, "events"),
        (lost.handles, "handles"),
        (lost.stacks, "stacks"),
        (lost.skipped, "missed probes"),
        (lost.phantoms, "releases"),
        (lost.malformed, "records unreadable"),
    ];
    let mut text: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", number(*count)))
        .collect();
    if text.is_empty() {
        return "nothing".to_owned();
    }
    if lost.healed > 0 {
        text.push(format!("{} handles resynced", number(lost.healed)));
    }
    let verdict = match trace.incomplete.as_slice() {
        [] => "; the live handles are complete".to_owned(),
        reasons => format!("; NOT COMPLETE: {}", reasons.join(", ")),
    };
    text.join(", ") + &verdict
}

fn write_last_line(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    let full = document.processes.iter().find(|table| table.is_nearly_full());
    let line = match (full, &document.fastest) {
        (Some(table), _) => paint(style, "1;31", &format!("{}.", repeats::of_table(table))),
        (None, Some(fastest)) => paint(style, "1;31", &sentence(fastest, style)),
        _ if style.finished => where_most_are(document),
        _ if document.trace.samples < SAMPLES_TO_EVALUATE => "Too early to say what grows.".to_owned(),
        _ if let Some(table) = document.processes.first() => format!("{}.", repeats::of_table(table)),
        _ => nothing_grows(document),
    };
    // A live view is a sequence of documents, with an empty line between them.
    writeln!(out, "{line}{}", if style.finished { "" } else { "\n" })
}

/// A site that has more handles than before may be too young for an evaluation.
fn nothing_grows(document: &Document) -> String {
    let is_young = |site: &&Site| site.verdict == Trend::Unknown && site.change > 0;
    match document.sites.iter().filter(is_young).count() as u64 {
        0 => "Nothing grows.".to_owned(),
        sites => format!("Nothing grows so far; it is too early to say of {}.", counted(sites, "site")),
    }
}

/// The last line of a trace that has ended and does not say what grew: where to look first.
fn where_most_are(document: &Document) -> String {
    let Some(first) = document.sites.first().filter(|site| site.aged > 0) else {
        return "No live handles to show.".to_owned();
    };
    let maker = match processes(&first.processes) {
        nobody if nobody.is_empty() => nobody,
        some => format!(", made by {some}"),
    };
    format!(
        "Most come from {}: {}{maker}.",
        escape_control(&stacks::place(&first.user_stack, &first.kernel_stack)),
        counted(first.aged, if first.acquired { "live descriptor" } else { "live handle" }),
    )
}

fn sentence(fastest: &Fastest, style: Style) -> String {
    let (grows, uses) = if style.finished { ("grew", "used") } else { ("grows", "uses") };
    let mut text = format!(
        "{} {grows} fastest: {} live {} from {}, {} more",
        process(&fastest.comm, fastest.pid),
        number(fastest.live),
        if fastest.acquired { "descriptors" } else { "handles" },
        escape_control(&fastest.place),
        rate(fastest.per_second),
    );
    if let Some(descriptors) = fastest.descriptors {
        let limit =
            if descriptors.limit == u64::MAX { "unlimited".to_owned() } else { number(descriptors.limit) };
        text += &format!("; it {uses} {} of {limit} descriptors", number(descriptors.used));
    }
    if let Some(left) = fastest.seconds_to_limit {
        let when = if style.finished { " later at this rate" } else { "" };
        text += &format!(", EMFILE in {}{when}", seconds(left));
    }
    text + "."
}

/// Colours a line, if colours are wanted.
pub(in crate::report) fn paint(style: Style, code: &str, text: &str) -> String {
    if style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;
    use crate::model::{Descriptors, MappedAt, MappingExample, Origin};
    const FINISHED: Style = Style { color: false, top: 10, verbose: false, finished: true };
    const LIVE: Style = Style { finished: false, ..FINISHED };

    fn text(document: &Document, style: Style) -> String {
        written(|out| write(out, document, style))
    }

    #[test]
    fn a_finished_trace() {
        let text = text(&document(vec![site("a", 1200)]), FINISHED);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1,200 live handles at the end of a trace of 12s (kprobe backend, Linux 6.1.0)");
        assert!(lines[1].starts_with("     LIVE ALLOCATED   OLDEST  TREND "), "{text}");
        assert!(lines[2].starts_with("    1,200     1,205     9.0s "), "{text}");
        assert_eq!(lines[lines.len() - 2], "lost: nothing");
        assert_eq!(lines[lines.len() - 1], "Most come from leak: 1,200 live handles, made by app (7).");
    }

    #[test]
    fn a_finished_trace_without_handles() {
        let gone = Site { live: 0, aged: 0, oldest_age_ns: 0, ..site("a", 0) };
        let text = text(&document(vec![gone]), FINISHED);
        assert!(text.ends_with("\nlost: nothing\nNo live handles to show.\n"), "{text}");
        assert!(!text.contains("0ms"), "{text}");
    }

    #[test]
    fn a_live_view() {
        let mut document = document(vec![Site { change: 3, ..site("a", 9) }]);
        document.own = Some(Own { resident_bytes: 18_000_000, ..Own::default() });
        let early = text(&document, LIVE);
        assert!(early.starts_with("9 live handles made in the last 12s (kprobe"), "{early}");
        assert!(early.contains("CHANGE") && early.contains(" +3 "), "{early}");
        assert!(early.contains("\nlost: nothing; fdtrace: 18 MB, cost per event unknown\n"), "{early}");
        assert!(early.ends_with("\nToo early to say what grows.\n\n"), "{early}");
        document.trace.samples = SAMPLES_TO_EVALUATE;
        let young = text(&document, LIVE);
        assert!(young.ends_with("\nNothing grows so far; it is too early to say of 1 site.\n\n"), "{young}");
        document.sites[0].verdict = Trend::Steady;
        assert!(text(&document, LIVE).ends_with("\nNothing grows.\n\n"));
    }

    #[test]
    fn the_fastest() {
        let mut document = document(vec![site("a", 9)]);
        document.fastest = Some(Fastest {
            site: "a".to_owned(),
            place: "leak".to_owned(),
            pid: 7,
            comm: "app".to_owned(),
            live: 9,
            per_second: 0.5,
            acquired: false,
            takes_descriptors: true,
            descriptors: Some(Descriptors { used: 24, limit: 1024 }),
            seconds_to_limit: Some(2000.0),
        });
        let start = "app (7) grows fastest: 9 live handles from leak, 0.5/s more; it uses 24 of 1,024 descriptors, \
                     EMFILE in 33.3m.\n\n";
        assert!(text(&document, LIVE).ends_with(start));
        let end = "it used 24 of 1,024 descriptors, EMFILE in 33.3m later at this rate.\n";
        assert!(text(&document, FINISHED).ends_with(end));
    }

    #[test]
    fn who_mapped_them() {
        let mapped = |handles, example| MappedAt {
            handles,
            site: "b".to_owned(),
            origin: Origin::ShmAttach,
            user_stack: vec![frame("mmap\x1b", "/usr/lib/libc.so.6", 1), frame("load", "/opt/app", 2)],
            example,
        };
        let example = MappingExample { pid: 7, address: 0x7f00_0000_1000, length: 4096 };
        let mut site = site("a", 9);
        site.mapped_by = vec![mapped(5, Some(example)), mapped(1, None), mapped(1, None), mapped(1, None)];
        let text = text(&document(vec![site]), FINISHED);
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("mapped") || line.contains("load")).collect();
        assert_eq!(
            lines,
            [
                "          5 handles mapped (e.g. pid 7 at 0x7f0000001000, 4 kB) by",
                "            > load        app",
                "          1 handle mapped by",
                "            > load        app",
                "          1 handle mapped by",
                "            > load        app",
                "          mapped by 1 call site more",
            ]
        );
    }

    #[test]
    fn hostile_names_do_no_harm() {
        let mut site = site("a", 9);
        site.processes[0].comm = "x\r\x1b]0;".to_owned();
        site.user_stack[1].symbol = None;
        site.user_stack[1].module = Some("/opt/\u{202e}gpj\n".to_owned());
        site.user_stack[1].build_id = Some("\x1b".to_owned());
        site.user_stack[2].file = Some("/src/\x1b]0;\r".to_owned());
        site.kernel_stack[0].symbol = "k\x07".to_owned();
        site.examples.push(Example {
            name: "/tmp/\x1b[31m\n".to_owned(),
            kind: Kind::Regular,
            pid: 7,
            fd: Some(3),
            hidden: false,
            age_ns: 1,
        });
        let document = document(vec![site]);
        for verbose in [false, true] {
            let text = text(&document, Style { verbose, ..FINISHED });
            let steers =
                |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
            assert!(!text.contains(steers), "{text:?}");
            assert_eq!(text.lines().count(), if verbose { 13 } else { 11 }, "{text}");
        }
    }
}
