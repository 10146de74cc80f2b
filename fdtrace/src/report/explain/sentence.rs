//! The last line: what explains the handles, and what to do next. What is said is in [`causes`].

use super::{
    causes::{self, Cause, FEW, What},
    hidden, limits,
    who::{Holders, Lot, Register, listed},
};
use crate::{
    model::explain::{Document, ProcessLine},
    text::fmt::{counted, number, process},
};

/// A limit is near from so many percent on.
pub(super) const NEAR: f64 = 80.0;
/// Processes at a limit that are named.
const NAMED: usize = 3;

pub(super) fn of(document: &Document) -> String {
    let causes = causes::of(document);
    let is_new = !causes.iter().any(|cause| matches!(cause.what, What::Descriptors));
    let mut sentences: Vec<String> = out_of_sight(document).into_iter().collect();
    sentences.extend(causes.iter().map(|cause| words(document, cause, is_new)));
    sentences.extend(system_limit(document));
    sentences.extend(process_limits(document));
    sentences.extend(mapping_limit(document));
    sentences.extend(segment_limit(document));
    sentences.extend(limits::sentences(document));
    if sentences.is_empty() {
        sentences.push(nothing(document));
    }
    sentences.join(" ")
}

/// What part of the machine this is, where no sum can be proved.
fn out_of_sight(document: &Document) -> Option<String> {
    let all = document.file_nr.as_ref()?.allocated;
    let seen = document.handles.total;
    if document.residual.min.is_some() || seen + FEW > all {
        return None;
    }
    Some(format!(
        "Only {} of the machine's {} handles can be seen from here; what is said above says why.",
        number(seen),
        number(all)
    ))
}

fn words(document: &Document, cause: &Cause, is_new: bool) -> String {
    let Cause { what, count, who } = cause;
    let seen = if document.unfinished.is_empty() { "" } else { " that were seen" };
    let part = format!("{} of the {}{seen}", number(*count), counted(document.handles.total, "handle"));
    match what {
        What::Hidden(holder, name) => hidden_words(&part, holder, name, who),
        What::Uncounted(name) => format!(
            "{} more are not in file-nr: files behind overlayfs that are only mapped ({name}), by {}: look for mmap \
             without munmap there{}.",
            number(*count),
            who.words(),
            next(who)
        ),
        What::BehindDeadThreads => format!(
            "{part} are ordinary descriptors that lsof cannot see, of {}: the main thread has ended, and others go on.",
            who.words()
        ),
        What::NotFound(least, most) => not_found(document, *least, *most, who),
        What::Descriptors => descriptors(document, &part, who),
        What::Repeats => repeats(document, who, is_new),
    }
}

fn hidden_words(part: &str, holder: &str, name: &str, who: &Holders) -> String {
    let (next, who) = (next(who), who.words());
    match holder {
        "shm_attach" => {
            format!("{part} are attaches of {name}, by {who}: look for shmat without shmdt there{next}.")
        }
        "mapping" => format!(
            "{part} are only mapped, their descriptors are closed ({name}), by {who}: look for mmap without munmap \
             there{next}."
        ),
        "shm_segment" => format!(
            "{part} are SysV segments that exist whether anybody attaches them or not ({name}), made by {who}: ipcs -m \
             lists them, ipcrm -m removes one."
        ),
        "scm_rights" => format!(
            "{part} are in flight: sent to a unix socket of {who}, and not received yet (ss -xp shows who is at its other \
             end)."
        ),
        "bpf" => format!("{part} are perf events that BPF maps and links of {who} keep{next}."),
        "unknown" => format!(
            "{part} are unix sockets of which only the other end is in sight, that of {who}: a system call in progress, the \
             kernel, or a process that cannot be looked into holds them."
        ),
        "io_uring" => format!("{part} are registered with io_uring by {who}{next}."),
        other => format!("{part} are held as {other} by {who}{next}."),
    }
}

fn next(who: &Holders) -> String {
    match who.first() {
        Some(process) => format!(" (fdtrace live -p {} shows the lines that do it)", process.pid),
        None => String::new(),
    }
}

/// How much of its limit the process has used that is named first.
fn descriptors(document: &Document, part: &str, who: &Holders) -> String {
    let line = who.first().and_then(|first| document.processes.iter().find(|line| line.pid == first.pid));
    let used = line.filter(|line| who.is_one() && line.limit.used_percent >= 1.0).map(|line| {
        let soft = line.limit.soft.map_or_else(String::new, number);
        format!(", {:.0}% of its limit of {soft}", line.limit.used_percent)
    });
    let tool = line.map(|line| {
        format!(": fdtrace explain -p {0} lists them, fdtrace live -p {0} shows what opens them", line.pid)
    });
    let (used, tool) = (used.unwrap_or_default(), tool.unwrap_or_default());
    format!("{part} are ordinary descriptors of {}{used}{tool}.", who.words())
}

fn not_found(document: &Document, least: u64, most: u64, who: &Holders) -> String {
    let held = if least == most { number(least) } else { format!("{} to {}", number(least), number(most)) };
    let handles = format!("{held} handles were not found at any process");
    let unseen = document.residual.unreadable_processes.iter().filter_map(|process| process.descriptors);
    let unseen: u64 = unseen.sum();
    let rest = least.saturating_sub(unseen);
    let kernel = "the kernel itself keeps, and what is said beside \"not found\" is where to look";
    if let Some(first) = document.unfinished.first() {
        return format!("{handles}, and the walk over {first} was not done: --timeout gives it more time.");
    }
    match unseen {
        0 if !document.partial.is_empty() => {
            format!("{handles}, and not all was looked at: the lines that begin with ! say what was not.")
        }
        0 => format!("{handles}: {} {kernel}.", if least == 1 { "it is one that" } else { "they are what" }),
        _ if rest * 10 < least => format!(
            "{handles}: {} cannot be looked into from here, and has {}.",
            who.words(),
            counted(unseen, "descriptor")
        ),
        _ => format!(
            "{handles}: {} of them may be those of {}, which cannot be looked into from here; the other {} are what {kernel}.",
            number(unseen),
            who.words(),
            number(rest)
        ),
    }
}

/// Why lsof shows more than there is.
fn repeats(document: &Document, who: &Holders, is_new: bool) -> String {
    let handles = document.handles.counted("descriptor");
    let most =
        if is_new { format!("; most descriptors are those of {}", who.words()) } else { String::new() };
    format!(
        "lsof counts descriptors, and {} of them point to only {}: dup and fork make no handle{most}.",
        number(document.lsof_view.descriptors),
        counted(handles, "handle"),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn system_limit(document: &Document) -> Option<String> {
    let file_nr = document.file_nr.as_ref().filter(|file_nr| file_nr.limit > 0)?;
    let percent = 100.0 * file_nr.allocated as f64 / file_nr.limit as f64;
    let limit = number(file_nr.limit);
    match percent {
        full if full >= 100.0 => {
            Some(format!("The system has used all {limit} of fs.file-max: every open fails with ENFILE now."))
        }
        near if near >= NEAR => Some(format!(
            "The system has used {percent:.0}% of fs.file-max: at {limit} every open fails with ENFILE."
        )),
        _ => None,
    }
}

/// The processes that have used up most of their limit, the fullest first.
pub(super) fn nearest_to_limit(document: &Document) -> Vec<&ProcessLine> {
    let is_near = |process: &&ProcessLine| process.limit.used_percent >= NEAR;
    let mut near: Vec<&ProcessLine> = causes::others(document).filter(is_near).collect();
    near.sort_by(|a, b| {
        let used = b.limit.used_percent.total_cmp(&a.limit.used_percent);
        used.then(b.limit.used.cmp(&a.limit.used)).then(a.pid.cmp(&b.pid))
    });
    near
}

fn process_limits(document: &Document) -> Vec<String> {
    let near = nearest_to_limit(document);
    let (full, near): (Vec<_>, Vec<_>) = near.into_iter().partition(|process| is_full(process));
    [full_words(&full), near_words(&near)].into_iter().flatten().collect()
}

/// Handles of a process that are mapped.
pub(super) fn mapped(line: &ProcessLine) -> u64 {
    let of = |holder: &str| line.by_holder.get(holder).copied().unwrap_or(0);
    of("shm_attach") + of("mapping")
}

/// Attaches and mappings take no descriptors, and have a limit of their own. Each handle takes at least one mapping.
fn mapping_limit(document: &Document) -> Option<String> {
    let limit = document.max_map_count;
    let near = |line: &&ProcessLine| limit > 0 && is_near(mapped(line), limit);
    let mut near: Vec<&ProcessLine> = causes::others(document).filter(near).collect();
    near.sort_by_key(|line| (std::cmp::Reverse(mapped(line)), line.pid));
    let words = |line: &ProcessLine| format!("{} {}", name(line), number(mapped(line)));
    (!near.is_empty()).then(|| {
        format!(
            "{} {} mapped more than {NEAR:.0}% of what vm.max_map_count permits, {}: then mmap and shmat fail with ENOMEM.",
            each(&near, words),
            if near.len() == 1 { "has" } else { "have" },
            number(limit)
        )
    })
}

/// Segments of the IPC namespace that has most.
pub(super) fn segments(document: &Document) -> u64 {
    let mut counts = std::collections::BTreeMap::<u32, u64>::new();
    for segment in &document.segments {
        *counts.entry(segment.ipc_namespace).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Segments of one IPC namespace.
fn segment_limit(document: &Document) -> Option<String> {
    let (count, limit) = (segments(document), document.shmmni);
    (limit > 0 && is_near(count, limit)).then(|| {
        format!(
            "{} of {} SysV segments (kernel.shmmni) are there: when all are, shmget fails with ENOSPC.",
            number(count),
            number(limit)
        )
    })
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn is_near(used: u64, limit: u64) -> bool {
    used as f64 * 100.0 >= limit as f64 * NEAR
}

fn is_full(process: &ProcessLine) -> bool {
    process.limit.soft.is_some_and(|soft| process.limit.used >= soft)
}

/// Some processes with what is said of each, and how many others there are.
fn each(processes: &[&ProcessLine], words: impl Fn(&ProcessLine) -> String) -> String {
    let mut all: Vec<String> = processes.iter().take(NAMED).map(|process| words(process)).collect();
    let others = processes.len().saturating_sub(NAMED) as u64;
    if others > 0 {
        all.push(counted(others, "other"));
    }
    listed(&all)
}

fn name(line: &ProcessLine) -> String {
    process(&line.comm, line.pid)
}

fn limit(line: &ProcessLine) -> String {
    line.limit.soft.map_or_else(String::new, number)
}

fn full_words(full: &[&ProcessLine]) -> Option<String> {
    let all = |line: &ProcessLine| format!("{} {}", name(line), limit(line));
    match full {
        [] => None,
        [one] => Some(format!(
            "{} has used all of its {} descriptors: the next open fails with EMFILE now (fdtrace explain -p {} lists what \
             they are).",
            name(one),
            limit(one),
            one.pid
        )),
        full => Some(format!(
            "{} processes have used all of their descriptors, and their next open fails with EMFILE now: {}.",
            number(full.len() as u64),
            each(full, all)
        )),
    }
}

fn near_words(near: &[&ProcessLine]) -> Option<String> {
    let used =
        |line: &ProcessLine| format!("{} {:.0}% of {}", name(line), line.limit.used_percent, limit(line));
    match near {
        [] => None,
        [one] => Some(format!(
            "{} has used {:.0}% of its {} descriptors: EMFILE is near.",
            name(one),
            one.limit.used_percent,
            limit(one)
        )),
        near => Some(format!(
            "{} processes have used more than {NEAR:.0}% of their descriptors, and EMFILE is near: {}.",
            number(near.len() as u64),
            each(near, used)
        )),
    }
}

/// What is there where nothing is large enough to be reported.
fn nothing(document: &Document) -> String {
    let hidden = document.handles.hidden;
    let code: u64 = hidden::HOLDERS.iter().map(|holder| hidden::ordinary(document, holder)).sum();
    let holds: Vec<_> = causes::others(document)
        .map(|process| crate::model::explain::SharerLine {
            pid: process.pid,
            comm: process.comm.clone(),
            count: process.handles,
        })
        .collect();
    let who = Register::of(document).holders(&[Lot { count: document.handles.total, processes: &holds }]);
    let most = if holds.is_empty() { String::new() } else { format!(" Most are held by {}.", who.words()) };
    format!(
        "No holder stands out: of {} {} have descriptors, {} are programs and libraries that run, and {} are hidden \
         otherwise.{most}",
        counted(document.handles.total, "handle"),
        number(document.handles.total.saturating_sub(hidden)),
        number(code),
        number(hidden.saturating_sub(code)),
    )
}
