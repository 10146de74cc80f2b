//! The report for the terminal: the answer first, then each leak with its stack and what to do.

use std::io::{self, Write};

use super::{
    advice, nouns, scopes,
    sentence::{self, of_class},
};
use crate::{
    model::{
        Example, Lost,
        check::{Class, Diagnostic, Ended, Finding, Findings, KeptBy, ScopeFound, ScopeVerdict, Verdict},
    },
    report::{
        Style, repeats,
        stack::{self, Block},
        text::paint,
    },
    text::{
        Terminal,
        fmt::{self, counted, escape_control, number},
    },
};

const STACK: Block = Block { indent: 2, frames: 10 };
/// Examples of what a site kept.
const EXAMPLES: usize = 3;
/// Processes of a leak.
const IMAGES: usize = 3;
/// Places that a list in one line names.
const NAMED: usize = 3;

/// Writes findings as text.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    let out = &mut Terminal::new(out, style.color);
    let code = match findings.verdict {
        Verdict::Clean => "32",
        Verdict::Leak => "1;31",
        Verdict::Inconclusive => "1;33",
    };
    writeln!(out, "fdtrace: {}", paint(style, code, &sentence::headline(findings)))?;
    write_incomplete_reasons(out, findings)?;
    write_leaks(out, findings, style)?;
    write_leaking_scopes(out, findings, style)?;
    let mut rest = Vec::new();
    write_rest(&mut rest, findings, style)?;
    if !rest.is_empty() && of_class(findings, Class::Leak).next().is_some() {
        writeln!(out)?;
    }
    out.write_all(&rest)?;
    out.flush()
}

/// What is said below the leaks.
fn write_rest(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    if findings.verdict != Verdict::Clean || style.verbose {
        write_others(out, findings, style)?;
    }
    write_keeping_scopes(out, findings, style)?;
    write_also(out, findings, style)?;
    findings.tables.iter().take(style.top).try_for_each(|table| note(out, &repeats::of_table(table)))?;
    write_applied(out, findings, style)?;
    let as_wanted = matches!(findings.command.ended, Ended::Status(0) | Ended::Running);
    if findings.verdict == Verdict::Leak && !as_wanted {
        note(out, &format!("the command itself {}", sentence::ended(findings.command.ended)))?;
    }
    Ok(())
}

fn note(out: &mut impl Write, sentence: &str) -> io::Result<()> {
    writeln!(out, "fdtrace: note: {sentence}")
}

fn write_leaks(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    let leaks = of_class(findings, Class::Leak).count();
    for (index, finding) in of_class(findings, Class::Leak).take(style.top).enumerate() {
        if index > 0 {
            writeln!(out, "\n  {}", paint(style, "1;31", &sentence::of_site(findings, finding)))?;
        }
        write_leak(out, findings, finding, style)?;
    }
    if leaks > style.top {
        writeln!(out, "\n  and {} more (--top)", counted((leaks - style.top) as u64, "leak"))?;
    }
    Ok(())
}

/// Which of the scopes that the command announced leak: what the headline or a leak has told is not told again.
fn write_leaking_scopes(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    let leaking: Vec<&ScopeFound> = scopes::of_verdict(findings, ScopeVerdict::Leak).collect();
    let headed = of_class(findings, Class::Leak).next().is_none();
    for (index, scope) in leaking.iter().take(style.top).enumerate() {
        let is_first = headed && index == 0;
        if !is_first {
            writeln!(out, "  {}", paint(style, "1;31", &scopes::sentence(scope)))?;
        }
        if is_first || style.verbose {
            scopes::write(out, scope, style)?;
        }
    }
    if leaking.len() > style.top {
        writeln!(out, "  and {} more (--top)", counted((leaking.len() - style.top) as u64, "scope"))?;
    }
    Ok(())
}

/// All that is known of one leak, and what to do.
pub(super) fn write_leak(
    out: &mut impl Write,
    findings: &Findings,
    finding: &Finding,
    style: Style,
) -> io::Result<()> {
    for image in finding.images.iter().take(IMAGES) {
        writeln!(out, "  {}", kept_by(findings, finding, image))?;
    }
    let shown = finding.images.len().min(IMAGES) as u64;
    if finding.images_in_all > shown {
        writeln!(out, "  and {} more", processes(finding.images_in_all - shown))?;
    }
    if let Some(known) = finding.baseline {
        writeln!(out, "  it leaks more than before: the baseline allows {}", counted(known, "call"))?;
    }
    write_place(out, finding, style)?;
    if let Some(because) = &finding.because {
        writeln!(out, "  {because}")?;
    }
    writeln!(out, "  to fix it: {}", advice::fix(&finding.site))?;
    writeln!(out, "  to accept it: {}", accept(finding))
}

/// Where something was made, and some of it.
pub(super) fn write_place(out: &mut impl Write, finding: &Finding, style: Style) -> io::Result<()> {
    let site = &finding.site;
    let (user, kernel) = (&site.user_stack, &site.kernel_stack);
    stack::write(out, user, kernel, site.user_stack_complete, STACK, style)?;
    write_repeats(out, finding)?;
    write_examples(out, &finding.site.examples, style)
}

/// `in server (4711, /opt/app/server), which exited with status 0: 50 of the 1,050 files opened here were kept`
///
/// What was lost in the ring may have been opened and closed here: then the number of those made is the least that it was.
fn kept_by(findings: &Findings, finding: &Finding, image: &KeptBy) -> String {
    let lossy = findings.trace.lost.events > 0;
    let words = nouns::of(finding);
    let made = words.counted(image.allocated);
    let kept = match (image.handles, image.allocated) {
        (kept, all) if lossy => {
            let were = if kept == 1 { "was" } else { "were" };
            let made = words.counted(all.max(kept));
            format!("{} of at least {made} {} here {were} kept", number(kept), words.made)
        }
        (1, 1) => format!("the only {} {} here was kept", words.of(1), words.made),
        (kept, all) if kept >= all => format!("all {made} {} here were kept", words.made),
        (kept, _) => {
            let were = if kept == 1 { "was" } else { "were" };
            format!("{} of the {made} {} here {were} kept", number(kept), words.made)
        }
    };
    let calls = if image.calls == image.handles {
        String::new()
    } else {
        format!(", by {}", counted(image.calls, "call"))
    };
    let ended = match image.ended {
        Ended::Running if findings.evaluated_early => "ran until it was told to end".to_owned(),
        ended => sentence::ended(ended),
    };
    format!("in {}, which {ended}: {kept}{calls}", process(image))
}

/// `server (4711, /opt/app/server)`, as far as it is known.
fn process(image: &KeptBy) -> String {
    let KeptBy { pid, comm, exe, .. } = image;
    match (comm.is_empty(), exe.is_empty()) {
        (_, true) => fmt::process(comm, *pid),
        (true, false) => format!("process {pid} ({})", escape_control(exe)),
        (false, false) => format!("{} ({pid}, {})", escape_control(comm), escape_control(exe)),
    }
}

fn processes(count: u64) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{} processes", number(count)) }
}

fn accept(finding: &Finding) -> String {
    let limit = format!("--max-per-site {}", finding.leaked);
    match advice::suppression(&finding.site) {
        Some(line) => format!("a line `{line}` in a --suppressions file, or {limit}"),
        None => format!("--write-baseline and --baseline, or {limit}"),
    }
}

/// What descriptors that were duplicated or received point to.
fn write_repeats(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let site = &finding.site;
    match site.repeats.first() {
        Some(most) => writeln!(out, "  {}", repeats::sentence(most, finding.handles)),
        None => Ok(()),
    }
}

fn write_examples(out: &mut impl Write, examples: &[Example], style: Style) -> io::Result<()> {
    if examples.is_empty() {
        return Ok(());
    }
    let most = if style.verbose { usize::MAX } else { EXAMPLES };
    let texts: Vec<String> = examples.iter().take(most).map(example).collect();
    writeln!(out, "  for example: {}", texts.join(", "))
}

pub(super) fn example(example: &Example) -> String {
    let name = if example.name.is_empty() { example.kind.to_string() } else { escape_control(&example.name) };
    match example.fd {
        Some(fd) => format!("fd {fd} {name}"),
        None => name,
    }
}

/// What is said of the classes that are no leaks.
const OTHERS: [(Class, &str); 9] = [
    (Class::Suppressed, "suppressed"),
    (Class::Steady, "steady: kept, but others were closed and there were as many before (a pool, a cache)"),
    (Class::GrowingWithPeers, "growing with peers: accepted, kept, and connected still"),
    (Class::Teardown, "teardown: lived until the program's end, which closed it"),
    (Class::Loaded, "loaded: archives of code, each a file of its own, as libraries are mapped"),
    (Class::Inherited, "inherited: open at the end in a program that has not made it"),
    (Class::Mapped, "mapped: held by mappings alone"),
    (Class::Exec, "closed at an exec by close-on-exec"),
    (Class::Allowed, "within limits: kept no more calls than a site may"),
];

/// A line for each class, and with `-v` a line for each site.
fn write_others(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    let mut lines = Vec::new();
    for (class, words) in OTHERS {
        let sites: Vec<&Finding> = of_class(findings, class).collect();
        if !sites.is_empty() {
            lines.push(format!("{} {words}", counted(sites.len() as u64, "call site")));
        }
        if style.verbose {
            lines.extend(sites.iter().map(|finding| format!("  {}", one_line(finding))));
        }
    }
    if let Some(last) = lines.last_mut().filter(|_| !style.verbose) {
        last.push_str(" (-v lists them)");
    }
    lines.iter().try_for_each(|line| note(out, line))
}

fn one_line(finding: &Finding) -> String {
    let words = nouns::of(finding);
    let by =
        finding.suppressed_by.as_deref().map(|by| format!(" ({})", escape_control(by))).unwrap_or_default();
    let because = finding.because.as_deref().map(|what| format!(": {what}")).unwrap_or_default();
    format!("{} {} {}{because}{by}", words.counted(finding.handles), words.made, sentence::at(finding))
}

/// What scopes keep is not wrong because they do.
fn write_keeping_scopes(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    let keeping: Vec<&ScopeFound> = scopes::of_verdict(findings, ScopeVerdict::Kept).collect();
    if keeping.is_empty() {
        return Ok(());
    }
    let listed = if style.verbose { "" } else { " (-v lists them)" };
    let count = counted(keeping.len() as u64, "scope");
    let of = number(findings.scopes.len() as u64);
    note(out, &format!("{count} of {of} kept something that is no leak{listed}"))?;
    let lines = keeping.iter().filter(|_| style.verbose);
    lines.into_iter().try_for_each(|scope| note(out, &format!("  {}", scopes::sentence(scope))))
}

fn write_also(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    let headline = sentence::headline(findings);
    let is_said =
        |diagnostic: &Diagnostic| diagnostic.fatal && headline.contains(&sentence::of_diagnostic(diagnostic));
    for diagnostic in findings.diagnostics.iter().filter(|diagnostic| !is_said(diagnostic)) {
        let text = sentence::of_diagnostic(diagnostic);
        if diagnostic.fatal {
            let text = format!("{text} (--fail-on {})", diagnostic.kind.name());
            writeln!(out, "fdtrace: {}", paint(style, "1;31", &text))?;
        } else {
            note(out, &text)?;
        }
    }
    Ok(())
}

/// What of the suppressions and the baseline can go.
fn write_applied(out: &mut impl Write, findings: &Findings, style: Style) -> io::Result<()> {
    let applied = &findings.applied;
    let unused = applied.suppressions.iter().filter(|one| one.sites == 0);
    let unused: Vec<String> =
        unused.map(|one| escape_control(&format!("{} ({})", one.line, one.place))).collect();
    if !unused.is_empty() {
        let were = if unused.len() == 1 { "was" } else { "were" };
        let count = counted(unused.len() as u64, "suppression");
        note(out, &format!("{count} {were} not used: {}", list(&unused, style)))?;
    }
    let removable: Vec<String> = applied.removable.iter().map(|place| escape_control(place)).collect();
    if !removable.is_empty() {
        let entries = if removable.len() == 1 { "entry leaks" } else { "entries leak" };
        let count = number(removable.len() as u64);
        note(
            out,
            &format!(
                "{count} {entries} no longer and can be removed from the baseline: {}",
                list(&removable, style)
            ),
        )?;
    }
    Ok(())
}

/// The first ones, with `-v` all of them.
fn list(texts: &[String], style: Style) -> String {
    let most = if style.verbose { texts.len() } else { NAMED };
    let mut text = texts.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    if texts.len() > most {
        text += &format!(" and {} more", number((texts.len() - most) as u64));
    }
    text
}

/// What was lost, and how to lose less.
fn write_incomplete_reasons(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    if findings.incomplete_reasons.is_empty() {
        return Ok(());
    }
    if findings.verdict != Verdict::Inconclusive {
        note(out, "not everything was seen, and there may be more leaks:")?;
    }
    for reason in &findings.incomplete_reasons {
        writeln!(out, "  - {}", escape_control(reason))?;
    }
    writeln!(out, "  to see more: {}", remedy(&findings.trace.lost))
}

fn remedy(lost: &Lost) -> &'static str {
    match lost {
        lost if lost.events > 0 => "a larger ring, as with --ring-size 64M",
        lost if lost.handles > 0 => "room for more handles with --max-handles",
        _ => "run it again on a machine with less load; `fdtrace doctor` says what this kernel can do",
    }
}

#[cfg(test)]
mod tests;
