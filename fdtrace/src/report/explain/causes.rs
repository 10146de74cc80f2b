//! What explains the number of handles: candidates, each with its number, the largest first. Sentences are made of these,
//! and say nothing that is not here.

use std::cmp::Reverse;

use super::{
    hidden,
    who::{Holders, Lot, Register},
};
use crate::model::explain::{Document, Hidden, ProcessLine, SharerLine};

/// Handles that nobody looks for.
pub(super) const FEW: u64 = 100;
/// So many are looked for whatever else there is.
const MANY: u64 = 1000;
/// One of so many handles is looked for.
const PART: u64 = 20;
/// The same of descriptors, which everybody sees.
const VISIBLE_PART: u64 = 4;
/// Causes that are reported.
const TOLD: usize = 3;
/// Who has used up so many percent of a limit is reported although others have more.
const HALF: f64 = 50.0;

/// What a part of the handles is.
#[derive(Debug)]
pub(super) enum What {
    /// Hidden by this holder, for no good reason; the name of what it is.
    Hidden(String, String),
    /// Mapped behind overlayfs, which file-nr does not count; the name of what it is.
    Uncounted(String),
    /// Descriptors of processes whose main threads have ended.
    BehindDeadThreads,
    /// Found at nobody: at least, and at most.
    NotFound(u64, u64),
    /// Descriptors that everybody can see, of one process or of many that have something in common.
    Descriptors,
    /// Descriptors that point to handles which others point to as well.
    Repeats,
}

/// A part of the handles, and who holds it.
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) what: What,
    pub(super) count: u64,
    pub(super) who: Holders,
}

/// What is to be reported, the largest part first, and what dup and fork repeat last.
pub(super) fn of(document: &Document) -> Vec<Cause> {
    let register = Register::of(document);
    let hidden = hidden::HOLDERS.iter().filter_map(|holder| hidden_by(document, &register, holder));
    let mut causes: Vec<Cause> = hidden
        .chain(uncounted(document, &register))
        .chain(dead_threads(document, &register))
        .chain(not_found(document, &register))
        .chain(descriptors(document, &register))
        .collect();
    causes.sort_by_key(|cause| Reverse(cause.count));
    let first = causes.first().map_or(0, |cause| cause.count);
    causes.truncate(TOLD);
    causes.extend(repeats(document, &register).filter(|cause| cause.count >= first));
    causes
}

/// Whether so many of a document's handles are worth a sentence.
const fn counts(document: &Document, count: u64) -> bool {
    count >= FEW && (count >= MANY || count * PART >= document.handles.total)
}

fn hidden_by(document: &Document, register: &Register<'_>, holder: &str) -> Option<Cause> {
    let count = hidden::others(document, holder);
    counts(document, count).then(|| {
        let (name, who) = named(&document.hidden, holder, register);
        Cause { what: What::Hidden(holder.to_owned(), name), count, who }
    })
}

fn uncounted(document: &Document, register: &Register<'_>) -> Option<Cause> {
    let count = hidden::uncounted(document, "mapping");
    counts(document, count).then(|| {
        let (name, who) = named(&document.uncounted, "mapping", register);
        Cause { what: What::Uncounted(name), count, who }
    })
}

/// What the groups of a holder are called together, and who holds them.
fn named(groups: &[Hidden], holder: &str, register: &Register<'_>) -> (String, Holders) {
    let mut groups: Vec<&Hidden> =
        groups.iter().filter(|group| group.holder == holder && !group.ordinary).collect();
    groups.sort_by_key(|group| Reverse(group.count));
    let lots: Vec<Lot<'_>> =
        groups.iter().map(|group| Lot { count: group.count, processes: &group.processes }).collect();
    (hidden::names(&groups), register.holders(&lots))
}

fn dead_threads(document: &Document, register: &Register<'_>) -> Option<Cause> {
    let count = document.lsof_view.behind_dead_threads;
    let dead: Vec<SharerLine> =
        others(document).filter(|process| process.main_thread_is_gone).map(descriptors_of).collect();
    counts(document, count).then(|| Cause {
        what: What::BehindDeadThreads,
        count,
        who: register.holders(&[Lot { count, processes: &dead }]),
    })
}

fn not_found(document: &Document, register: &Register<'_>) -> Option<Cause> {
    let whole = |number: Option<i64>| u64::try_from(number.unwrap_or(0)).unwrap_or(0);
    let (count, most) = (whole(document.residual.min), whole(document.residual.max));
    let unreadable: Vec<SharerLine> = document
        .residual
        .unreadable_processes
        .iter()
        .filter_map(|process| {
            let count = process.descriptors?;
            Some(SharerLine { pid: process.pid, comm: process.comm.clone(), count })
        })
        .collect();
    let lot = Lot { count: unreadable.iter().map(|process| process.count).sum(), processes: &unreadable };
    counts(document, count).then(|| Cause {
        what: What::NotFound(count, most),
        count,
        who: register.holders(&[lot]),
    })
}

/// Processes but those that took the document.
pub(super) fn others(document: &Document) -> impl Iterator<Item = &ProcessLine> {
    document.processes.iter().filter(|process| !document.took(process))
}

fn descriptors_of(process: &ProcessLine) -> SharerLine {
    let count = process.by_holder.get("descriptor").copied().unwrap_or(process.descriptors);
    SharerLine { pid: process.pid, comm: process.comm.clone(), count }
}

/// Who has by far most descriptors, or more than half of what it may have.
fn descriptors(document: &Document, register: &Register<'_>) -> Option<Cause> {
    let total = document.handles.total;
    // Those that lsof does not see are reported apart.
    let visible = others(document).filter(|process| !process.main_thread_is_gone);
    let mut each: Vec<SharerLine> = visible.map(descriptors_of).collect();
    each.sort_by_key(|process| (Reverse(process.count), process.pid));
    let count = document.handles.counted("descriptor");
    let stands_out = |who: &Holders| who.most() >= FEW && who.count() * VISIBLE_PART >= total;
    let all = register.holders(&[Lot { count, processes: &each }]);
    let is_high = |process: &&SharerLine| {
        let percent = register.get(process.pid).map_or(0.0, |process| process.limit.used_percent);
        process.count >= FEW && percent >= HALF
    };
    let who = Some(all)
        .filter(|all| all.is_party() && stands_out(all))
        .or_else(|| Some(largest(&each)).map(|some| together(register, some)).filter(stands_out))
        .or_else(|| each.iter().find(is_high).map(|high| together(register, std::slice::from_ref(high))))?;
    Some(Cause { what: What::Descriptors, count: if who.is_party() { who.most() } else { who.count() }, who })
}

/// The first few, as far as they have a fair part of what the first one has.
fn largest(each: &[SharerLine]) -> &[SharerLine] {
    const LARGEST: usize = 3;
    const FAIR: u64 = 4;
    let first = each.first().map_or(0, |first| first.count);
    let few = each.iter().take(LARGEST).take_while(|process| process.count * FAIR >= first).count();
    &each[..few]
}

/// Some processes that have handles of their own.
fn together(register: &Register<'_>, some: &[SharerLine]) -> Holders {
    let count = some.iter().map(|process| process.count).sum();
    register.holders(&[Lot { count, processes: some }])
}

/// Why lsof shows more than there is.
fn repeats(document: &Document, register: &Register<'_>) -> Option<Cause> {
    let handles = document.handles.counted("descriptor");
    let descriptors = document.lsof_view.descriptors;
    if descriptors < handles + FEW || descriptors < handles * 3 / 2 {
        return None;
    }
    let each: Vec<SharerLine> = others(document)
        .map(|process| SharerLine {
            pid: process.pid,
            comm: process.comm.clone(),
            count: process.descriptors,
        })
        .collect();
    let who = register.holders(&[Lot { count: descriptors, processes: &each }]);
    Some(Cause { what: What::Repeats, count: descriptors - handles, who })
}
