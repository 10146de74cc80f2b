//! The screen: where all handles are, what hides, who holds them, and a sentence.

use std::io::{self, Write};

use super::{
    alike, causes,
    hidden::{self, Row},
    peers, sentence,
    who::Register,
};
use crate::{
    model::explain::{Document, Files, ProcessLine, SharerLine},
    report::Style,
    text::{
        Terminal, fit,
        fmt::{bytes, counted, escape_control, number, span},
        squeezed,
    },
};

/// Where a text is shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// It draws more than ASCII.
    pub unicode: bool,
    /// Its columns.
    pub width: usize,
}

/// Rows of hidden handles, and of processes, unless more is asked for; fewer where the screen has no room.
const ROWS: usize = 5;
/// Lines of a screen, with one for whoever asks next.
const SCREEN: usize = 24;
/// Lines of a table besides its rows: an empty one, its head, and what was left out.
const FRAME: usize = 3;
/// Processes that a row of hidden handles names.
const SHARERS: usize = 3;
/// Files that a process shows on a screen that was asked for something.
const FILES: usize = 12;
/// Columns of a bar.
const BAR: usize = 12;
/// Reasons for what is left over.
const REASONS: usize = 3;

/// Writes a document as text: the whole of the handles, or what was asked for.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, style: Style, screen: Screen) -> io::Result<()> {
    let out = &mut Terminal::new(out, style.color);
    let fitted = |text: Vec<u8>| fit(&String::from_utf8_lossy(&text), screen.width);
    let mut above = Vec::new();
    headline(&mut above, document, style)?;
    let mut below = Vec::new();
    ending(&mut below, document, style)?;
    if document.focus.is_empty() {
        waterfall(&mut above, document, style, screen.unicode)?;
        let (above, below) = (fitted(above), fitted(below));
        let (hidden, held) = rooms(document, style, above.lines().count() + below.lines().count());
        let mut tables = Vec::new();
        hidden_rows(&mut tables, document, hidden, screen.width)?;
        processes(&mut tables, document, held)?;
        if style.verbose {
            slabs(&mut tables, document)?;
        }
        write!(out, "{above}{}{below}", fitted(tables))?;
    } else {
        list(&mut above, document, style, screen.width)?;
        write!(out, "{}{}", fitted(above), fitted(below))?;
    }
    out.flush()
}

/// What could not be looked at, and the sentence.
fn ending(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    for sentence in &document.partial {
        writeln!(out, "! {}", escape_control(sentence))?;
    }
    let last =
        if document.focus.is_empty() { Some(sentence::of(document)) } else { peers::sentence(document) };
    last.map_or(Ok(()), |last| {
        writeln!(out, "{}", crate::report::text::paint(style, "1", &escape_control(&last)))
    })
}

/// How many rows the two tables may have beside so many lines: what moves while somebody looks, and what cannot be seen, takes
/// lines that are theirs.
fn rooms(document: &Document, style: Style, others: usize) -> (usize, usize) {
    if style.verbose {
        return (usize::MAX, style.top);
    }
    let room = SCREEN.saturating_sub(others + 2 * FRAME);
    let hidden = hidden::rows(document).len().min(ROWS).min((room / 2).max(1));
    let held = ROWS.min(style.top).min(room.saturating_sub(hidden).max(1));
    (hidden, held)
}

fn headline(out: &mut impl Write, document: &Document, style: Style) -> io::Result<()> {
    let text = match &document.file_nr {
        None => "file-nr cannot be read".to_owned(),
        Some(file_nr) if file_nr.min == file_nr.max => {
            let source = if file_nr.source == "summed" { "the kernel counts" } else { "file-nr says" };
            format!("{source} {} handles, of at most {}", number(file_nr.allocated), number(file_nr.limit))
        }
        Some(file_nr) if file_nr.exact => format!(
            "file-nr moved between {} and {} handles during the walk, of at most {}",
            number(file_nr.min),
            number(file_nr.max),
            number(file_nr.limit)
        ),
        Some(file_nr) => format!(
            "file-nr says {} handles, and may be off by {} on this kernel; at most {}",
            number(file_nr.allocated),
            number(file_nr.max - file_nr.allocated),
            number(file_nr.limit)
        ),
    };
    let least = if document.is_unfinished("descriptors") { "at least " } else { "" };
    let lsof = format!("{least}{}", number(document.lsof_view.descriptors));
    let took = span(document.duration_ns);
    let line = format!(
        "{text}; lsof would list {lsof} descriptors  (Linux {}, {took})",
        escape_control(&document.kernel)
    );
    writeln!(out, "{}", crate::report::text::paint(style, "1", &line))
}

/// A holder's line: its key, what it is called, and whether lsof sees what it holds.
const HOLDERS: [(&str, &str); 9] = [
    ("descriptor", "descriptors"),
    ("shm_attach", "shm attaches"),
    ("mapping", "mappings"),
    ("shm_segment", "shm segments"),
    ("scm_rights", "in flight"),
    ("io_uring", "io_uring"),
    ("executable", "executables"),
    ("bpf", "bpf"),
    ("unknown", "other ends"),
];

fn waterfall(out: &mut impl Write, document: &Document, style: Style, unicode: bool) -> io::Result<()> {
    let most = HOLDERS.iter().map(|(key, _)| document.handles.counted(key)).max().unwrap_or(0).max(1);
    let most = most.max(document.residual.max.and_then(|max| u64::try_from(max).ok()).unwrap_or(0));
    for (key, label) in HOLDERS {
        let count = document.handles.counted(key);
        if count == 0 && key != "descriptor" {
            continue;
        }
        let what = what(document, key);
        let line = format!("{:>13} {} {:>10}  {what}", label, bar(count, most, unicode), number(count));
        let code = if key == "descriptor" { "0" } else { "33" };
        writeln!(out, "{}", crate::report::text::paint(style, code, line.trim_end()))?;
    }
    left_over(out, document, most, unicode)?;
    let unaccounted = document.handles.unaccounted_by_file_nr;
    if unaccounted > 0 {
        let lines = "more, which are not in file-nr: such as files behind overlayfs";
        writeln!(out, "{:>13} {:BAR$} {:>10}  {lines}", "uncounted", "", number(unaccounted))?;
    }
    Ok(())
}

/// What the kernel's own caches have in use, to compare with.
fn slabs(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let counts = [("struct file", document.slabs.filp), ("mappings", document.slabs.vm_area_struct)];
    let words: Vec<String> =
        counts.iter().filter_map(|(what, count)| Some(format!("{} {what}", number((*count)?)))).collect();
    if words.is_empty() {
        return Ok(());
    }
    writeln!(out, "the kernel's caches have in use, what its CPUs keep ready included: {}", words.join(", "))
}

/// What is to be said of the handles under one holder.
fn what(document: &Document, key: &str) -> String {
    match key {
        "descriptor" => repeats(document),
        "shm_attach" => "hidden: SysV shared memory, a handle for each attach".to_owned(),
        "mapping" => {
            let code = hidden::ordinary(document, key);
            format!("hidden: mapped and closed; {} of programs, libraries", number(code))
        }
        "shm_segment" => {
            let bare = document.segments.iter().filter(|segment| segment.attaches == 0).count() as u64;
            format!("hidden: SysV segments themselves; {} without any attach", number(bare))
        }
        "scm_rights" => "hidden: sent through unix sockets, and not received yet".to_owned(),
        "io_uring" => "hidden: registered with io_uring".to_owned(),
        "executable" if document.is_unfinished("mappings") => {
            "hidden: programs that run; their mappings were not seen".to_owned()
        }
        "executable" => "hidden: programs that run".to_owned(),
        "bpf" => "hidden: perf events that BPF maps and links keep".to_owned(),
        _ => "hidden: sockets of which only the other end is in sight".to_owned(),
    }
}

fn repeats(document: &Document) -> String {
    let handles = document.handles.counted("descriptor");
    let mut text = format!("in {}", counted(document.descriptors, "descriptor"));
    let repeats = document.descriptors.saturating_sub(handles);
    if repeats > 0 {
        text += &format!(": dup and fork repeat {}", number(repeats));
    }
    let dead = document.lsof_view.behind_dead_threads;
    if dead > 0 {
        text += &format!("; {} HIDDEN", number(dead));
    }
    text
}

fn left_over(out: &mut impl Write, document: &Document, most: u64, unicode: bool) -> io::Result<()> {
    let (Some(min), Some(max)) = (document.residual.min, document.residual.max) else { return Ok(()) };
    let amount = u64::try_from(max).unwrap_or(0);
    let range = if min == max { signed(max) } else { format!("{}..{}", signed(min), signed(max)) };
    let reasons = &document.residual.reasons;
    let first = match reasons.first() {
        _ if (min, max) == (0, 0) => "nothing is left over: file-nr is explained to the last handle",
        Some(reason) => reason,
        None => "",
    };
    writeln!(
        out,
        "{:>13} {} {range:>10}  {}",
        "not found",
        bar(amount, most, unicode),
        escape_control(first)
    )?;
    if (min, max) != (0, 0) {
        for reason in reasons.iter().skip(1).take(REASONS - 1) {
            writeln!(out, "{:>13} {:BAR$} {:>10}  or {}", "", "", "", escape_control(reason))?;
        }
    }
    Ok(())
}

fn signed(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", number(value.unsigned_abs()))
}

/// A bar in eighths of a column; a number that is not 0 shows.
fn bar(count: u64, most: u64, unicode: bool) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths =
        usize::try_from(u128::from(count) * (BAR * 8) as u128 / u128::from(most.max(1))).unwrap_or(0);
    let eighths = eighths.max(usize::from(count > 0)).min(BAR * 8);
    let text: String = if unicode {
        let rest = Some(EIGHTHS[eighths % 8]).filter(|_| !eighths.is_multiple_of(8));
        std::iter::repeat_n('█', eighths / 8).chain(rest).collect()
    } else {
        "#".repeat(eighths.div_ceil(8))
    };
    format!("{text:<BAR$}")
}

fn hidden_rows(out: &mut impl Write, document: &Document, most: usize, width: usize) -> io::Result<()> {
    let rows = hidden::rows(document);
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>10}  {:<11} HIDDEN HANDLES", "COUNT", "BY")?;
    for row in rows.iter().take(most) {
        writeln!(out, "{}", hidden_row(row, width))?;
    }
    if rows.len() > most {
        let rest: u64 = rows.iter().skip(most).map(|row| row.count).sum();
        writeln!(out, "{:>10}  {:<11} others (--hidden lists them)", number(rest), "")?;
    }
    Ok(())
}

fn hidden_row(row: &Row, width: usize) -> String {
    /// Columns before the name, and those that it has at least.
    const BEFORE: usize = 24;
    const LEAST: usize = 40;
    let size = if row.deleted { format!(", deleted, {}", bytes(row.bytes)) } else { String::new() };
    let holders = sharers(&row.processes);
    let holders = if holders.is_empty() { String::new() } else { format!(": {holders}") };
    let others = BEFORE + size.chars().count() + holders.chars().count();
    let name = squeezed(&escape_control(&row.name), width.saturating_sub(others).max(LEAST));
    format!("{:>10}  {:<11} {name}{size}{holders}", number(row.count), row.holder)
}

/// `app (7) 900, app (8) 100, 3 more`
fn sharers(processes: &[SharerLine]) -> String {
    let name = |process: &SharerLine| match process.comm.is_empty() {
        true => format!("process {}, which is gone", process.pid),
        false => format!("{} ({}) {}", escape_control(&process.comm), process.pid, number(process.count)),
    };
    let mut words: Vec<String> = processes.iter().take(SHARERS).map(name).collect();
    let rest = processes.len().saturating_sub(SHARERS);
    if rest > 0 {
        words.push(format!("{} more", number(rest as u64)));
    }
    words.join(", ")
}

fn processes(out: &mut impl Write, document: &Document, most: usize) -> io::Result<()> {
    writeln!(out, "\n{:>10} {:>11} {:>9} {:>18}  PROCESS", "HANDLES", "DESCRIPTORS", "HIDDEN", "OF LIMIT")?;
    for process in shown(document, most) {
        writeln!(out, "{}", process_row(process))?;
    }
    let rest = causes::others(document).count().saturating_sub(most);
    if rest > 0 {
        writeln!(out, "{:>10} {:>11} {:>9} {:>18}  {} more (--top)", "", "", "", "", number(rest as u64))?;
    }
    Ok(())
}

/// Those with most handles, and in the last place the one that is nearest to its limit if it is none of them.
fn shown(document: &Document, most: usize) -> Vec<&ProcessLine> {
    let mut shown: Vec<&ProcessLine> = causes::others(document).take(most).collect();
    if let Some(nearest) = sentence::nearest_to_limit(document).first().copied()
        && !shown.iter().any(|process| process.pid == nearest.pid)
    {
        shown.pop();
        shown.push(nearest);
    }
    shown
}

fn process_row(process: &ProcessLine) -> String {
    let limit = process.limit.soft.map_or_else(|| "no limit".to_owned(), number);
    let used = format!("{:.0}% of {limit}", process.limit.used_percent);
    let gone = if process.main_thread_is_gone { ", main thread gone" } else { "" };
    format!(
        "{:>10} {:>11} {:>9} {:>18}  {} ({}){gone}",
        number(process.handles),
        number(process.descriptors),
        number(process.hidden),
        used,
        escape_control(&process.comm),
        process.pid,
    )
}

/// What was asked for, process by process.
fn list(out: &mut impl Write, document: &Document, style: Style, width: usize) -> io::Result<()> {
    writeln!(out, "asked for: {}", escape_control(&document.focus.join(" ")))?;
    if document.processes.is_empty() && document.hidden.is_empty() {
        return writeln!(out, "There is none.");
    }
    let register = Register::of(document);
    for process in causes::others(document).take(style.top) {
        writeln!(out, "\n{} ({}): {}", escape_control(&process.comm), process.pid, held(process))?;
        let rows = if style.verbose { process.files.clone() } else { alike::gathered(&process.files) };
        let most = if style.verbose { rows.len() } else { FILES };
        for files in rows.iter().take(most) {
            writeln!(out, "{}", file_row(files, width))?;
            for line in peers::lines(&register, process.pid, files) {
                writeln!(out, "{:>12}{line}", "")?;
            }
        }
        let rest = rows.len().saturating_sub(most) as u64 + process.files_left_out;
        if rest > 0 {
            writeln!(out, "{:>10}  {} more", "", number(rest))?;
        }
    }
    let rest = causes::others(document).count().saturating_sub(style.top);
    if rest > 0 {
        writeln!(
            out,
            "\nand {} more (--top)",
            counted(rest as u64, "process").replace("processs", "processes")
        )?;
    }
    unowned(out, document)
}

fn held(process: &ProcessLine) -> String {
    let handles = counted(process.handles, "handle");
    let hidden =
        if process.hidden > 0 { format!(", {} hidden", number(process.hidden)) } else { String::new() };
    let pinned: u64 = process.files.iter().map(|files| files.bytes).sum();
    let pinned =
        if pinned > 0 { format!(", deleted files that take {}", bytes(pinned)) } else { String::new() };
    format!(
        "{handles}{hidden}{pinned}; {} descriptors, {:.0}% of its limit",
        number(process.descriptors),
        process.limit.used_percent
    )
}

fn file_row(files: &Files, width: usize) -> String {
    /// Columns before the name, and those that it has at least.
    const BEFORE: usize = 22;
    const LEAST: usize = 48;
    let remarks = remarks(files);
    let room = width.saturating_sub(BEFORE + remarks.chars().count()).max(LEAST);
    let name = squeezed(&escape_control(&files.name), room);
    format!("{:>10}  {:<9} {name}{remarks}", number(files.count), files.kind)
}

/// What else is known of them, in parentheses.
fn remarks(files: &Files) -> String {
    let holders: Vec<String> = files
        .holders
        .iter()
        .filter(|(holder, count)| *holder != "descriptor" || **count != files.count)
        .map(|(holder, count)| format!("{} by {}", number(*count), holder))
        .collect();
    let mut remarks = Vec::new();
    if !files.examples.is_empty() {
        let fds: Vec<String> = files.examples.iter().map(u32::to_string).collect();
        let more = if files.count > files.examples.len() as u64 { ".." } else { "" };
        remarks.push(format!("fd {}{more}", fds.join(",")));
    }
    if !holders.is_empty() {
        remarks.push(holders.join(", "));
    }
    if files.hidden > 0 {
        remarks.push(format!("{} hidden", number(files.hidden)));
    }
    if files.deleted {
        remarks.push(format!("deleted, {}", bytes(files.bytes)));
    }
    if let Some(queue) = files.queue.filter(|queue| queue.receive + queue.send > 0) {
        remarks.push(format!("{} to read, {} to send", number(queue.receive), number(queue.send)));
    }
    if files.inherited > 0 {
        remarks.push(format!("{} came over exec", number(files.inherited)));
    }
    if let Some(opener) = files.opened_by {
        remarks.push(format!("opened by process {opener}"));
    }
    if remarks.is_empty() { String::new() } else { format!("  ({})", remarks.join("; ")) }
}

/// Hidden handles that no process holds.
fn unowned(out: &mut impl Write, document: &Document) -> io::Result<()> {
    for group in document.hidden.iter().filter(|group| group.holder == "shm_segment") {
        writeln!(
            out,
            "\n{:>10}  {:<9} {}  ({}, made by {})",
            number(group.count),
            group.kind,
            escape_control(&group.name),
            group.holder,
            sharers(&group.processes)
        )?;
    }
    Ok(())
}
