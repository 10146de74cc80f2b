//! A short screen for each sample: what grew, the most dangerous first, and one sentence.

use std::io::{self, Write};

use crate::{
    model::explain::{
        Document, ProcessLine,
        growth::{Ceiling, Change, Growth, HiddenGrowth, Presence, ProcessGrowth},
    },
    text::{
        Terminal,
        fmt::{change, counted, escape_control, number, rate, seconds, short},
    },
};

/// The most processes that are shown.
const PROCESSES: usize = 7;
/// The most groups of hidden handles.
const GROUPS: usize = 3;
/// The most names in a list.
const NAMES: usize = 3;
/// So few new handles in one sample say nothing of a limit that is far away, nor of one that is reached in so many seconds.
const FEW: i64 = 10;
const DAY: f64 = 86_400.0;
/// A growth that so many of would not make up the largest one is not shown.
const NOTHING: i64 = 100;
/// Whoever has used so much of a limit is named although nothing grows.
const NEAR: f64 = 50.0;

/// Writes what is new, as text.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, growth: &Growth) -> io::Result<()> {
    let out = &mut Terminal::new(out, false);
    writeln!(out, "{}", headline(document, Some(growth)))?;
    for remark in &growth.remarks {
        writeln!(out, "  note: {}", escape_control(remark))?;
    }
    write_holders(out, growth)?;
    write_not_found(out, document, growth)?;
    let processes = grown(growth);
    let groups = grown_groups(growth, &processes);
    if !(processes.is_empty() && groups.is_empty()) {
        writeln!(
            out,
            "{:>11} {:>9} {:>9} {:>9}  WHO, AND WHAT IT MOSTLY IS",
            "HANDLES", "CHANGE", "RATE", "LIMIT IN"
        )?;
    }
    for process in processes.iter().take(PROCESSES) {
        write_process(out, process)?;
    }
    write_more(out, processes.len().saturating_sub(PROCESSES), "process", "processes")?;
    for group in groups.iter().take(GROUPS) {
        write_group(out, group)?;
    }
    write_more(
        out,
        groups.len().saturating_sub(GROUPS),
        "group of hidden handles",
        "groups of hidden handles",
    )?;
    write_comings(out, growth, !document.focus.is_empty())?;
    writeln!(out, "{}", sentence(document, growth, &processes))
}

/// Writes the first sample of a watch, with which the next ones are compared.
///
/// # Errors
/// When the output cannot be written.
pub fn write_first(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let out = &mut Terminal::new(out, false);
    writeln!(out, "{}", headline(document, None))?;
    match nearest(document) {
        Some(process) => writeln!(out, "Nearest to its limit is {}.", of_its_limit(process)),
        None => writeln!(out, "No process has used half of its descriptors."),
    }
}

fn headline(document: &Document, growth: Option<&Growth>) -> String {
    let clock = document.time.get(11..19).unwrap_or_default();
    let since = |change: Change| match self::change(change.change) {
        same if same.is_empty() => String::new(),
        change => format!(" ({change})"),
    };
    let (handles, hidden) =
        growth.map_or((Change::default(), Change::default()), |growth| (growth.handles, growth.hidden));
    let span = growth.map(|growth| format!(" in {}", seconds(growth.seconds))).unwrap_or_default();
    let limit = match growth {
        Some(growth) => growth.system.as_ref().map(system),
        None => None,
    };
    format!(
        "{clock} UTC{span}: {}{}, {} hidden{}{}",
        counted(document.handles.total, "handle"),
        since(handles),
        number(document.handles.hidden),
        since(hidden),
        limit.unwrap_or_default()
    )
}

/// Nobody needs to know of a limit that is far away.
fn system(ceiling: &Ceiling) -> String {
    let left = ceiling.seconds_left.filter(|_| ceiling.is_soon());
    if left.is_none() && ceiling.percent < NEAR {
        return String::new();
    }
    let left = left.map(|left| format!(", reached in {}", seconds(left))).unwrap_or_default();
    format!("; {:.1}% of file-max {}{left}", ceiling.percent, number(ceiling.limit))
}

fn write_holders(out: &mut impl Write, growth: &Growth) -> io::Result<()> {
    if growth.by_holder.is_empty() {
        return Ok(());
    }
    let mut holders: Vec<_> = growth.by_holder.iter().collect();
    holders.sort_by_key(|(_, change)| std::cmp::Reverse(change.change.unsigned_abs()));
    let words: Vec<String> = holders
        .iter()
        .map(|(holder, count)| format!("{} {}", escape_control(holder), change(count.change)))
        .collect();
    writeln!(out, "  by holder: {}", words.join(", "))
}

/// What grew where nobody was seen to hold it, if that is more than what comes and goes.
fn unseen(growth: &Growth) -> Option<Change> {
    growth.not_found.filter(|change| change.change >= FEW)
}

fn write_not_found(out: &mut impl Write, document: &Document, growth: &Growth) -> io::Result<()> {
    let Some(unseen) = unseen(growth) else { return Ok(()) };
    let file_nr = growth.file_nr.unwrap_or_default();
    writeln!(
        out,
        "  not found: {} ({}); file-nr {} ({}, {})",
        number(unseen.now),
        change(unseen.change),
        number(file_nr.now),
        change(file_nr.change),
        pace(file_nr.per_second)
    )?;
    let reasons = document.residual.reasons.iter().take(NAMES);
    reasons.into_iter().try_for_each(|reason| writeln!(out, "    maybe {}", escape_control(reason)))
}

/// Processes that grew, or that are near a limit; not those whose growth is nothing beside that of another.
fn grown(growth: &Growth) -> Vec<&ProcessGrowth> {
    let there = || growth.processes.iter().filter(|process| process.state != Presence::Gone);
    let most = there().map(|process| shown(process).change).max().unwrap_or(0);
    there()
        .filter(|process| {
            let near = process.limit.as_ref().is_some_and(|limit| limit.percent >= NEAR);
            let change = shown(process).change;
            near || (change > 0 && change.saturating_mul(NOTHING) >= most)
        })
        .collect()
}

/// Groups that grew and that no row of a process tells of; programs and libraries come and go with processes.
fn grown_groups<'a>(growth: &'a Growth, processes: &[&ProcessGrowth]) -> Vec<&'a HiddenGrowth> {
    let reported = |group: &HiddenGrowth| {
        processes.iter().take(PROCESSES).any(|process| {
            let what = process.mostly.as_ref().map(|sort| sort.what.as_str());
            what == Some(group.name.as_str()) && group.processes.iter().all(|of| of.pid == process.pid)
        })
    };
    let grown = growth.hidden_groups.iter().filter(|group| group.count.change > 0 && !group.ordinary);
    let most = grown.clone().map(|group| group.count.change).max().unwrap_or(0);
    grown.filter(|group| group.count.change.saturating_mul(NOTHING) >= most && !reported(group)).collect()
}

fn write_row(out: &mut impl Write, count: Change, left: &str, who: &str) -> io::Result<()> {
    let per_second = if count.change == 0 { String::new() } else { pace(count.per_second) };
    let (now, change) = (number(count.now), change(count.change));
    writeln!(out, "{now:>11} {change:>9} {per_second:>9} {left:>9}  {who}")
}

/// A rate, by the span in which there is something to count.
fn pace(per_second: f64) -> String {
    match per_second {
        fast if fast.abs() >= 0.1 => rate(fast),
        slow if slow.abs() >= 0.1 / 60.0 => format!("{:.1}/min", slow * 60.0),
        slower => format!("{:.1}/h", slower * 3600.0),
    }
}

fn write_process(out: &mut impl Write, process: &ProcessGrowth) -> io::Result<()> {
    let left = process.limit.as_ref().map(|limit| left(limit, shown(process))).unwrap_or_default();
    let mut who = named(process.pid, &process.comm);
    if process.state == Presence::New {
        who.push_str(", new");
    }
    if let Some(limit) = process.limit.as_ref().filter(|limit| limit.percent >= 1.0) {
        who.push_str(&format!(": {}", used(limit)));
    }
    if process.hidden.change > 0 && process.hidden.change == process.handles.change {
        who.push_str("; all hidden");
    } else if process.hidden.change > 0 {
        who.push_str(&format!("; {} of them hidden", number(process.hidden.change.unsigned_abs())));
    }
    if let Some(sort) = &process.mostly {
        who.push_str(&format!("; {}", short(&sort.what)));
    }
    write_row(out, shown(process), &left, &who)
}

fn left(limit: &Ceiling, grown: Change) -> String {
    if limit.is_reached() {
        return "now".to_owned();
    }
    let worth = |left: &f64| limit.is_soon() || (grown.change >= FEW && *left <= DAY);
    limit.seconds_left.filter(worth).map(seconds).unwrap_or_default()
}

/// Descriptors that only repeat a handle count where no handle is new.
const fn shown(process: &ProcessGrowth) -> Change {
    if process.handles.change == 0 && process.descriptors.change != 0 {
        process.descriptors
    } else {
        process.handles
    }
}

fn used(limit: &Ceiling) -> String {
    let (used, most) = (number(limit.used), number(limit.limit));
    match limit.name.as_str() {
        "vm.max_map_count" => format!("{used} or more of {most} mappings ({:.0}%)", limit.percent),
        _ => format!("{used} of {most} descriptors ({:.0}%)", limit.percent),
    }
}

fn write_group(out: &mut impl Write, group: &HiddenGrowth) -> io::Result<()> {
    let holders: Vec<String> =
        group.processes.iter().map(|process| named(process.pid, &process.comm)).take(NAMES).collect();
    let by = if holders.is_empty() { String::new() } else { format!(": {}", holders.join(", ")) };
    let who = format!("hidden by {}, {}{by}", escape_control(&group.holder), short(&group.name));
    write_row(out, group.count, "", &who)
}

fn write_more(out: &mut impl Write, count: usize, one: &str, many: &str) -> io::Result<()> {
    match count {
        0 => Ok(()),
        1 => writeln!(out, "{:>11} one more {one}", ""),
        count => writeln!(out, "{:>11} {count} more {many}", ""),
    }
}

/// New processes are among those that grew; those that are gone are named here.
fn write_comings(out: &mut impl Write, growth: &Growth, narrowed: bool) -> io::Result<()> {
    let mut gone: Vec<&ProcessGrowth> =
        growth.processes.iter().filter(|process| process.state == Presence::Gone).collect();
    let new = growth.new_processes.unwrap_or(0);
    if gone.is_empty() && new == 0 {
        return Ok(());
    }
    gone.sort_by_key(|process| (process.handles.change, process.pid));
    let names: Vec<String> = gone
        .iter()
        .take(NAMES)
        .map(|process| format!("{} {}", named(process.pid, &process.comm), change(process.handles.change)))
        .collect();
    let word = if narrowed { "gone, or without such handles" } else { "gone" };
    let more = if gone.len() > NAMES { ", ..." } else { "" };
    let gone = match gone.len() {
        0 => String::new(),
        count => format!("; {} {word}: {}{more}", number(count as u64), names.join(", ")),
    };
    writeln!(out, "  processes: {} new{gone}", number(new))
}

/// Where to look first.
fn sentence(document: &Document, growth: &Growth, grown: &[&ProcessGrowth]) -> String {
    if let Some(full) = grown.iter().find(|process| process.limit.as_ref().is_some_and(Ceiling::is_reached)) {
        return format!(
            "{} has reached its limit: the next open fails (EMFILE); `fdtrace explain --pid {}` shows what it holds.",
            named(full.pid, &full.comm),
            full.pid
        );
    }
    let first = grown.first().filter(|process| shown(process).change > 0);
    let soon = first.and_then(|process| Some((*process, process.limit.as_ref()?)));
    let soon = soon.filter(|(_, limit)| limit.is_soon());
    if let Some((process, limit, left)) =
        soon.and_then(|(process, limit)| Some((process, limit, limit.seconds_left?)))
    {
        let then = if limit.name == "RLIMIT_NOFILE" { "EMFILE" } else { "ENOMEM" };
        let who = named(process.pid, &process.comm);
        return format!(
            "{who} reaches its limit in {} at this rate ({then}); `fdtrace live --pid {}` says where it allocates them.",
            seconds(left),
            process.pid
        );
    }
    let most = grown.iter().max_by_key(|process| (shown(process).change, std::cmp::Reverse(process.pid)));
    let by_most = most.map_or(0, |process| shown(process).change);
    if let Some(unseen) = unseen(growth).filter(|unseen| unseen.change > by_most) {
        return format!(
            "The kernel counts {} handles more ({}) that no process was seen to hold; what is said beside \"maybe\" is where \
             to look.",
            number(unseen.change.unsigned_abs()),
            pace(unseen.per_second)
        );
    }
    if let Some(process) = most.filter(|process| shown(process).change > 0) {
        return format!(
            "{} grew most; `fdtrace explain --pid {}` shows what it holds, `fdtrace live --pid {}` where it allocates it.",
            named(process.pid, &process.comm),
            process.pid,
            process.pid
        );
    }
    let what = if growth.handles.change > 0 || growth.hidden.change > 0 {
        "No process grew"
    } else {
        "Nothing grew"
    };
    match nearest(document) {
        Some(process) => format!("{what}; nearest to its limit is {}.", of_its_limit(process)),
        None => format!("{what}."),
    }
}

fn nearest(document: &Document) -> Option<&ProcessLine> {
    let used = |process: &&ProcessLine| process.limit.used_percent;
    let most = document.processes.iter().max_by(|one, other| used(one).total_cmp(&used(other)));
    most.filter(|process| process.limit.used_percent >= NEAR)
}

fn of_its_limit(process: &ProcessLine) -> String {
    let limit = process.limit.soft.unwrap_or_default();
    format!(
        "{}: {} of {} descriptors ({:.0}%)",
        named(process.pid, &process.comm),
        number(process.limit.used),
        number(limit),
        process.limit.used_percent
    )
}

fn named(pid: u32, comm: &str) -> String {
    if comm.is_empty() { format!("process {pid}") } else { format!("{} ({pid})", escape_control(comm)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::{Handles, Limit, SharerLine, growth::Sort};

    fn change(before: u64, now: u64) -> Change {
        let change = now.cast_signed() - before.cast_signed();
        Change { before, now, change, per_second: f64::from(i32::try_from(change).unwrap_or(0)) / 10.0 }
    }

    fn leak() -> ProcessGrowth {
        ProcessGrowth {
            pid: 88,
            comm: "java".to_owned(),
            handles: change(2800, 3200),
            descriptors: change(2800, 3200),
            limit: Some(Ceiling {
                name: "RLIMIT_NOFILE".to_owned(),
                used: 3200,
                per_second: 40.0,
                limit: 4096,
                percent: 78.1,
                seconds_left: Some(22.4),
            }),
            mostly: Some(Sort { what: "sockets in CLOSE_WAIT to 10.0.0.2:80".to_owned(), change: 390 }),
            ..ProcessGrowth::default()
        }
    }

    fn screen(growth: &Growth, processes: Vec<ProcessLine>) -> String {
        let document = Document {
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            handles: Handles { total: 61_230, hidden: 58_000, ..Handles::default() },
            processes,
            ..Document::default()
        };
        let mut out = Vec::new();
        write(&mut out, &document, growth).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_leak_at_night() {
        let segment = HiddenGrowth {
            holder: "shm_attach".to_owned(),
            name: "SysV segment 7 (key 0x0)".to_owned(),
            count: change(57_000, 58_000),
            processes: vec![SharerLine { pid: 5, comm: "a".to_owned(), count: 1 }, SharerLine::default()],
            ..HiddenGrowth::default()
        };
        let growth = Growth {
            seconds: 10.0,
            handles: change(59_830, 61_230),
            hidden: change(57_000, 58_000),
            by_holder: [
                ("descriptor".to_owned(), change(0, 400)),
                ("shm_attach".to_owned(), change(0, 1000)),
            ]
            .into(),
            processes: vec![
                leak(),
                ProcessGrowth { pid: 9, state: Presence::Gone, handles: change(7, 0), ..leak() },
            ],
            hidden_groups: vec![segment],
            new_processes: Some(0),
            gone_processes: Some(1),
            ..Growth::default()
        };
        assert_eq!(
            screen(&growth, Vec::new()),
            "\
03:04:05 UTC in 10s: 61,230 handles (+1,400), 58,000 hidden (+1,000)
  by holder: shm_attach +1,000, descriptor +400
    HANDLES    CHANGE      RATE  LIMIT IN  WHO, AND WHAT IT MOSTLY IS
      3,200      +400    40.0/s       22s  java (88): 3,200 of 4,096 descriptors (78%); sockets in CLOSE_WAIT to 10.0.0.2:80
     58,000    +1,000     100/s            hidden by shm_attach, SysV segment 7 (key 0x0): a (5), process 0
  processes: 0 new; 1 gone: java (9) -7
java (88) reaches its limit in 22s at this rate (EMFILE); `fdtrace live --pid 88` says where it allocates them.
"
        );
    }

    #[test]
    fn the_limit_is_reached() {
        let mut full =
            ProcessGrowth { handles: change(5000, 5000), descriptors: change(4096, 4096), ..leak() };
        full.limit =
            full.limit.map(|limit| Ceiling { used: 4096, percent: 100.0, seconds_left: None, ..limit });
        full.mostly = None;
        let text = screen(&Growth { seconds: 10.0, processes: vec![full], ..Growth::default() }, Vec::new());
        assert!(text.contains("      now  java (88): 4,096 of 4,096 descriptors (100%)\n"), "{text}");
        assert!(text.contains("\njava (88) has reached its limit: the next open fails (EMFILE)"), "{text}");
    }

    #[test]
    fn slow_leaks_have_a_pace_too() {
        assert_eq!([400.0, 0.5, 0.05, 0.001].map(pace), ["400/s", "0.5/s", "3.0/min", "3.6/h"]);
    }

    #[test]
    fn what_grows_in_the_kernel_alone() {
        let grown = |by: u64| Growth {
            seconds: 10.0,
            file_nr: Some(change(1000, 1000 + by)),
            not_found: Some(change(50, 50 + by)),
            ..Growth::default()
        };
        let text = screen(&grown(2000), Vec::new());
        assert!(text.contains("\n  not found: 2,050 (+2,000); file-nr 3,000 (+2,000, 200/s)\n"), "{text}");
        let end = "The kernel counts 2,000 handles more (200/s) that no process was seen to hold; what is said beside \
                   \"maybe\" is where to look.\n";
        assert!(text.ends_with(end), "{text}");
        assert!(screen(&grown(3), Vec::new()).ends_with("\nNothing grew.\n"));
        // A process that grew by more is named first.
        let text = screen(&Growth { processes: vec![leak()], ..grown(100) }, Vec::new());
        assert!(text.contains("\njava (88) reaches its limit"), "{text}");
    }

    #[test]
    fn a_quiet_night() {
        let near = ProcessLine {
            pid: 7,
            comm: "db".to_owned(),
            limit: Limit { soft: Some(1000), hard: None, used: 700, used_percent: 70.0 },
            ..ProcessLine::default()
        };
        let growth = Growth { seconds: 2.0, ..Growth::default() };
        assert_eq!(
            screen(&growth, vec![near]),
            "03:04:05 UTC in 2.0s: 61,230 handles, 58,000 hidden\nNothing grew; nearest to its limit is db (7): 700 of \
             1,000 descriptors (70%).\n"
        );
        assert!(screen(&growth, Vec::new()).ends_with("\nNothing grew.\n"));
    }

    #[test]
    fn it_fits_and_hostile_names_do_no_harm() {
        let hostile = |pid| ProcessGrowth {
            pid,
            comm: "x\x1b[2J".to_owned(),
            mostly: Some(Sort { what: "/a\r\u{202e}".repeat(99), change: 9 }),
            ..leak()
        };
        let group = |pid| HiddenGrowth {
            holder: "mapping".to_owned(),
            name: "\x1b]0;\n".to_owned(),
            count: change(0, 1000),
            processes: vec![SharerLine { pid, comm: "\n".to_owned(), count: 9 }],
            ..HiddenGrowth::default()
        };
        let growth = Growth {
            seconds: 1.0,
            processes: (0..50).map(hostile).collect(),
            hidden_groups: (0..50).map(group).collect(),
            remarks: vec!["\x1b".to_owned()],
            ..Growth::default()
        };
        let text = screen(&growth, Vec::new());
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text}");
        assert!(text.lines().count() <= 18 && text.lines().all(|line| line.len() < 200), "{text}");
    }
}
