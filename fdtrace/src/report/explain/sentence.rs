//! The last line: where the missing handles are, and what to do next.

use super::{
    document::{Document, ProcessLine, SharerLine},
    hidden::{self, Row},
};
use crate::report::words::{counted, number};

/// A limit is near from so many percent on.
pub(super) const NEAR: f64 = 80.0;
/// Handles that nobody looks for.
const FEW: u64 = 100;

pub(super) fn of(document: &Document) -> String {
    let mut sentences = Vec::new();
    sentences.extend(out_of_sight(document));
    sentences.extend(missing(document).or_else(|| behind_dead_threads(document)));
    if sentences.is_empty() {
        sentences.extend(repeated(document).or_else(|| left_over(document)));
    }
    sentences.extend(system_limit(document));
    sentences.extend(process_limit(document));
    if sentences.is_empty() {
        sentences.push(ordinary(document));
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

/// The process that has used up most of its limit.
pub(super) fn nearest_to_limit(document: &Document) -> Option<&ProcessLine> {
    document.processes.iter().max_by(|a, b| a.limit.used_percent.total_cmp(&b.limit.used_percent))
}

/// What hides more than programs and libraries usually do.
fn missing(document: &Document) -> Option<String> {
    let rows = hidden::rows(document);
    let row = rows.iter().find(|row| !row.ordinary)?;
    if row.count < FEW || row.count * 10 < document.handles.total {
        return None;
    }
    let who = who(&row.processes);
    let count = number(row.count);
    Some(match row.holder.as_str() {
        "shm_attach" => format!(
            "{count} of the handles are attaches of {}, by {who}: look for shmat without shmdt there{}.",
            row.name,
            next(row)
        ),
        "mapping" => format!(
            "{count} of the handles are only mapped, their descriptors are closed ({}), by {who}: look for mmap without \
             munmap there{}.",
            row.name,
            next(row)
        ),
        "shm_segment" => format!(
            "{count} of the handles are SysV segments that exist whether anybody attaches them or not ({}), made by {who}: \
             ipcs -m lists them, ipcrm -m removes one.",
            row.name
        ),
        "scm_rights" => format!(
            "{count} of the handles are in flight: sent to a unix socket of {who}, and not received yet (ss -xp shows who \
             is at its other end)."
        ),
        "io_uring" => format!("{count} of the handles are registered with io_uring by {who}{}.", next(row)),
        other => format!("{count} of the handles are held as {other} by {who}{}.", next(row)),
    })
}

/// Descriptors of processes whose main thread has ended, which `/proc/PID/fd` does not show.
fn behind_dead_threads(document: &Document) -> Option<String> {
    let count = document.lsof_view.behind_dead_threads;
    if count < FEW || count * 10 < document.handles.total {
        return None;
    }
    let process = document.processes.iter().find(|process| process.main_thread_is_gone)?;
    Some(format!(
        "{} of the handles are ordinary descriptors that lsof cannot see: the main thread of {} ({}) has ended, and its \
         other threads go on.",
        number(count),
        process.comm,
        process.pid
    ))
}

fn next(row: &Row) -> String {
    match row.processes.first() {
        Some(process) => format!(" (fdtrace live -p {} shows the lines that do it)", process.pid),
        None => String::new(),
    }
}

/// `app (7) and app (8)`
fn who(processes: &[SharerLine]) -> String {
    let (left, gone): (Vec<&SharerLine>, Vec<&SharerLine>) =
        processes.iter().partition(|process| !process.comm.is_empty());
    let mut words: Vec<String> =
        left.iter().take(2).map(|process| format!("{} ({})", process.comm, process.pid)).collect();
    if left.len() > words.len() {
        words.push(format!("{} more", number((left.len() - words.len()) as u64)));
    }
    match gone.as_slice() {
        [] => {}
        [one] => words.push(format!("process {}, which is gone", one.pid)),
        gone => words.push(format!("{} processes that are gone", number(gone.len() as u64))),
    }
    match words.split_last() {
        None => "nobody that is left".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

fn left_over(document: &Document) -> Option<String> {
    let max = u64::try_from(document.residual.max?).unwrap_or(0);
    let min = u64::try_from(document.residual.min?).unwrap_or(0);
    if min == 0 || min * 20 < document.handles.total {
        return None;
    }
    let unseen: u64 =
        document.residual.unreadable_processes.iter().filter_map(|process| process.descriptors).sum();
    let held = if min == max { number(min) } else { format!("{} to {}", number(min), number(max)) };
    Some(match document.residual.unreadable_processes.first() {
        Some(process) if unseen * 2 > min => format!(
            "The {held} handles that were not found are those of {}, which cannot be looked into from here.",
            who(&[SharerLine { pid: process.pid, comm: process.comm.clone(), count: unseen }])
        ),
        _ if !document.partial.is_empty() => format!(
            "{held} handles were not found, and not all was looked at: the lines that begin with ! say what was not."
        ),
        _ => format!(
            "{held} handles were not found at any process: the kernel itself keeps them, and what is said beside \
             \"not found\" is where to look."
        ),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn system_limit(document: &Document) -> Option<String> {
    let file_nr = document.file_nr.as_ref().filter(|file_nr| file_nr.limit > 0)?;
    let percent = 100.0 * file_nr.allocated as f64 / file_nr.limit as f64;
    (percent >= NEAR).then(|| {
        format!(
            "The system has used {percent:.0}% of fs.file-max: at {} every open fails with ENFILE.",
            number(file_nr.limit)
        )
    })
}

fn process_limit(document: &Document) -> Option<String> {
    let process = nearest_to_limit(document).filter(|process| process.limit.used_percent >= NEAR)?;
    Some(format!(
        "{} ({}) has used {:.0}% of its {} descriptors: EMFILE is near.",
        process.comm,
        process.pid,
        process.limit.used_percent,
        process.limit.soft.map_or_else(String::new, number)
    ))
}

/// Why lsof shows more than there is.
fn repeated(document: &Document) -> Option<String> {
    let handles = document.handles.by_holder.get("descriptor").copied().unwrap_or(0);
    let descriptors = document.lsof_view.descriptors;
    if descriptors < handles + FEW || descriptors < handles * 3 / 2 {
        return None;
    }
    Some(format!(
        "lsof counts descriptors, and {} of them point to only {}: dup and fork make no handle.",
        number(descriptors),
        counted(handles, "handle")
    ))
}

fn ordinary(document: &Document) -> String {
    let hidden = document.handles.hidden;
    let code = hidden::ordinary(document);
    let first = document.processes.first();
    let most = first.map(|process| {
        format!(" {} ({}) holds most, {}.", process.comm, process.pid, counted(process.handles, "handle"))
    });
    format!(
        "Nothing out of the ordinary: {} handles are visible as descriptors, {} hidden ones are programs and libraries \
         that run, {} others are hidden, which is not many.{}",
        number(document.handles.total - hidden),
        number(code),
        number(hidden.saturating_sub(code)),
        most.unwrap_or_default()
    )
}
