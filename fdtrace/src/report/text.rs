//! The plain-text view: a table of sites, a footer, and a last line that says where to look.

use std::io::{self, Write};

use super::{
    Document, Example, Fastest, Site, UserFrame, Verdict,
    words::{bytes, change, harmless, number, rate, seconds, span},
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
}

/// The most frames of a chain in the short form.
const SHORT_CHAIN: usize = 6;

/// Looks before which no verdict is given.
const LOOKS_TO_JUDGE: u64 = 3;

/// Examples of so many characters go on one line.
const SHORT_LINE: usize = 84;

/// Writes a document as text.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    let trace = &document.trace;
    writeln!(
        out,
        "{}",
        paint(
            style,
            "1",
            &format!(
                "{} live handles made in the last {} ({} backend, Linux {})",
                number(document.handles.live),
                span(trace.duration_ns),
                trace.backend,
                harmless(&trace.kernel)
            )
        )
    )?;
    if !document.sites.is_empty() {
        writeln!(
            out,
            "{:>9} {:>8} {:>8}  {:<8} {:<11} {:<22} PROCESS",
            "LIVE", "CHANGE", "OLDEST", "TREND", "ORIGIN", "KIND"
        )?;
    }
    for site in document.sites.iter().take(style.top) {
        write_site(out, site, style)?;
    }
    let hidden = document.sites.len().saturating_sub(style.top);
    if hidden > 0 {
        writeln!(out, "          and {} more sites (--top)", number(hidden as u64))?;
    }
    write_footer(out, document)?;
    write_last_line(out, document, style)?;
    out.flush()
}

fn write_site(out: &mut impl Write, site: &Site, style: Style) -> io::Result<()> {
    let kinds = site.kinds.iter().map(|(kind, count)| match site.kinds.len() {
        1 => (*kind).to_owned(),
        _ => format!("{kind} {}", number(*count)),
    });
    let mut kinds: Vec<String> = kinds.collect();
    kinds.truncate(2);
    let line = format!(
        "{:>9} {:>8} {:>8}  {:<8} {:<11} {:<22} {}",
        number(site.aged),
        change(site.change),
        span(site.oldest_age_ns),
        trend(site.verdict),
        site.origin,
        kinds.join(", "),
        processes(site)
    );
    let growing = site.verdict == Verdict::Growing;
    writeln!(out, "{}", if growing { paint(style, "31", &line) } else { line })?;
    if style.verbose {
        write_whole_chain(out, site)?;
    } else {
        writeln!(out, "          at {}", short_chain(site))?;
    }
    if !site.examples.is_empty() {
        let examples: Vec<String> = site.examples.iter().map(example).collect();
        let short = examples.iter().map(String::len).sum::<usize>() <= SHORT_LINE;
        writeln!(out, "          e.g. {}", examples.join(if short { ", " } else { ",\n               " }))?;
    }
    Ok(())
}

fn example(example: &Example) -> String {
    let name = if example.name.is_empty() { example.kind.to_owned() } else { harmless(&example.name) };
    match example.fd {
        Some(fd) => format!("fd {fd} {name} ({})", span(example.age_ns)),
        None => format!("{name} without a descriptor ({})", span(example.age_ns)),
    }
}

fn trend(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Growing => "growing",
        Verdict::Steady => "steady",
        Verdict::Burst => "burst",
        Verdict::Single => "single",
        Verdict::Unknown => "",
    }
}

fn processes(site: &Site) -> String {
    let Some(first) = site.processes.first() else { return String::new() };
    let name = format!("{} ({})", harmless(&first.comm), first.pid);
    match site.processes.len() - 1 {
        0 => name,
        more => format!("{name} and {} more", number(more as u64)),
    }
}

/// The innermost frames that tell something, outwards.
fn short_chain(site: &Site) -> String {
    if site.user_stack.is_empty() {
        let kernel: Vec<_> =
            site.kernel_stack.iter().skip(1).take(SHORT_CHAIN).map(|frame| harmless(&frame.symbol)).collect();
        return if kernel.is_empty() {
            "no stack".to_owned()
        } else {
            format!("kernel: {}", kernel.join(" < "))
        };
    }
    let mut names: Vec<_> = site.user_stack.iter().take(SHORT_CHAIN).map(frame_name).collect();
    if site.user_stack.len() > SHORT_CHAIN {
        names.push("...".to_owned());
    } else if !site.user_stack_complete {
        names.push("?".to_owned());
    }
    names.join(" < ")
}

fn frame_name(frame: &UserFrame) -> String {
    match (&frame.symbol, &frame.module) {
        (Some(symbol), _) => harmless(symbol),
        (None, Some(module)) => {
            let file = module.rsplit('/').next().unwrap_or(module);
            format!("{}+{:#x}", harmless(file), frame.offset)
        }
        (None, None) => format!("{:#x}", frame.offset),
    }
}

fn write_whole_chain(out: &mut impl Write, site: &Site) -> io::Result<()> {
    for frame in &site.kernel_stack {
        writeln!(out, "          [kernel] {}+{:#x}", harmless(&frame.symbol), frame.offset)?;
    }
    for frame in &site.user_stack {
        let module = frame.module.as_deref().unwrap_or("[anonymous memory]");
        writeln!(out, "          {}  {}+{:#x}", frame_name(frame), harmless(module), frame.offset)?;
    }
    if !site.user_stack.is_empty() && !site.user_stack_complete {
        writeln!(out, "          ? the chain ends before the thread's first function")?;
    }
    Ok(())
}

fn write_footer(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let (events, own) = (&document.trace.events, &document.own);
    writeln!(
        out,
        "allocated {} ({}), released {} ({}), never opened {}; others in the system: {} (older than this trace, or \
         filtered out)",
        number(events.allocated),
        rate(events.allocated_per_second),
        number(events.released),
        rate(events.released_per_second),
        number(events.never_opened),
        number(document.handles.pre_existing),
    )?;
    for (name, count) in &events.errors {
        writeln!(out, "{} allocations failed with {name}", number(*count))?;
    }
    let cost = match (own.allocation_ns, own.release_ns) {
        (Some(allocation), Some(release)) => format!("{allocation} ns an allocation, {release} ns a release"),
        _ => "cost per event unknown".to_owned(),
    };
    writeln!(
        out,
        "lost: {}; fdtrace: {}{}, {cost}",
        losses(document),
        own.cpu_percent.map(|percent| format!("{percent:.1}% of a core, ")).unwrap_or_default(),
        bytes(own.resident_bytes)
    )
}

fn losses(document: &Document) -> String {
    let lost = &document.trace.lost;
    let parts = [
        (lost.events, "events"),
        (lost.handles, "handles"),
        (lost.stacks, "stacks"),
        (lost.skipped, "skipped runs"),
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
        text.push(format!("{} handles put right", number(lost.healed)));
    }
    let verdict = match document.trace.incomplete.as_slice() {
        [] => "; the live handles are complete".to_owned(),
        reasons => format!("; NOT COMPLETE: {}", reasons.join(", ")),
    };
    text.join(", ") + &verdict
}

fn write_last_line(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    let line = match &document.fastest {
        None if document.trace.looks < LOOKS_TO_JUDGE => "Too early to say what grows.".to_owned(),
        None => "Nothing grows.".to_owned(),
        Some(fastest) => paint(style, "1;31", &sentence(fastest)),
    };
    writeln!(out, "{line}\n")
}

fn sentence(fastest: &Fastest) -> String {
    let mut text = format!(
        "{} ({}) grows fastest: {} live handles from {}, {} more",
        harmless(&fastest.comm),
        fastest.pid,
        number(fastest.live),
        harmless(&fastest.place),
        rate(fastest.per_second),
    );
    if let Some(descriptors) = fastest.descriptors {
        let limit =
            if descriptors.limit == u64::MAX { "unlimited".to_owned() } else { number(descriptors.limit) };
        text += &format!("; it uses {} of {limit} descriptors", number(descriptors.used));
    }
    if let Some(left) = fastest.seconds_to_limit {
        text += &format!(", EMFILE in {}", seconds(left));
    }
    text + "."
}

fn paint(style: Style, code: &str, text: &str) -> String {
    if style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
