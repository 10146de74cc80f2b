//! Two documents as one that says what is new.

use std::collections::{BTreeMap, HashMap};

use super::label;
use crate::model::explain::{
    Document, Hidden, ProcessLine,
    growth::{Ceiling, Change, Growth, HiddenGrowth, Presence, ProcessGrowth},
};

/// What has used up so many percent is in danger when its limit is reached in so many seconds: a few more in one sample say
/// nothing of tomorrow where nearly nothing is used.
const SOON: [(f64, f64); 3] = [(5.0, 86_400.0), (1.0, 3600.0), (0.0, 300.0)];
/// Who has used up so much of a limit is shown although it does not grow.
const NEAR: f64 = 80.0;
/// Two readings of one start differ by less, in ns: `/proc` has it in hundredths of a second.
const SAME_START: u64 = 20_000_000;
/// Processes that are named for a group of hidden handles.
const SHARERS: usize = 3;
/// A number from here on is no limit.
const NO_LIMIT: u64 = 1 << 62;

/// What is new in `now`. Of a number that is no higher than it was in the `first` document of a watch, one sample's rise
/// does not say when a limit is reached: it goes up and down.
#[must_use]
pub(crate) fn compare(before: &Document, now: &Document, first: Option<&Document>) -> Growth {
    let seconds = seconds_between(before, now);
    let same_boot = is_same_boot(before, now);
    let change = |before, now| Change::new(before, now, seconds);
    let processes = if same_boot { processes(before, now, first, seconds) } else { Vec::new() };
    let count = |state| same_boot.then(|| count_of(&processes, state));
    let (new_processes, gone_processes) = (count(Presence::New), count(Presence::Gone));
    Growth {
        since: before.time.clone(),
        seconds,
        handles: change(before.handles.total, now.handles.total),
        hidden: change(before.handles.hidden, now.handles.hidden),
        descriptors: change(before.lsof_view.descriptors, now.lsof_view.descriptors),
        file_nr: both(before, now, |document| document.file_nr.as_ref().map(|file_nr| file_nr.allocated))
            .map(|(before, now)| change(before, now)),
        not_found: both(before, now, not_found).map(|(before, now)| change(before, now)),
        by_holder: by_holder(before, now, seconds),
        system: system(before, now, seconds),
        processes: in_order(processes),
        hidden_groups: hidden_groups(before, now, seconds),
        new_processes,
        gone_processes,
        remarks: remarks(before, now, same_boot),
    }
}

impl Change {
    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    fn new(before: u64, now: u64, seconds: f64) -> Self {
        let change = now.cast_signed().wrapping_sub(before.cast_signed());
        let per_second = if seconds > 0.0 { change as f64 / seconds } else { 0.0 };
        Self { before, now, change, per_second }
    }

    const fn is_none(self) -> bool {
        self.change == 0
    }
}

impl Ceiling {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn new(name: &str, used: Change, limit: u64, grows: bool) -> Option<Self> {
        if limit == 0 || limit >= NO_LIMIT {
            return None;
        }
        let left = limit.saturating_sub(used.now) as f64;
        Some(Self {
            name: name.to_owned(),
            used: used.now,
            per_second: used.per_second,
            limit,
            percent: (1000.0 * used.now as f64 / limit as f64).round() / 10.0,
            seconds_left: (grows && used.per_second > 0.0).then(|| left / used.per_second),
        })
    }

    /// Whether it is reached soon: within a day, or less where little of it is used.
    pub(crate) fn is_soon(&self) -> bool {
        SOON.into_iter()
            .find(|(used, _)| self.percent >= *used)
            .is_some_and(|(_, seconds)| self.left() <= seconds)
    }

    /// Whether the next one fails.
    pub(crate) const fn is_reached(&self) -> bool {
        self.used >= self.limit
    }

    fn left(&self) -> f64 {
        if self.is_reached() {
            return 0.0;
        }
        self.seconds_left.unwrap_or(f64::INFINITY)
    }
}

/// What both documents say.
fn both(before: &Document, now: &Document, number: impl Fn(&Document) -> Option<u64>) -> Option<(u64, u64)> {
    number(before).zip(number(now))
}

/// Less than nothing is what went meanwhile.
fn not_found(document: &Document) -> Option<u64> {
    Some(u64::try_from(document.residual.min?).unwrap_or(0))
}

/// By the time since the machine was started, which nobody sets.
#[expect(clippy::cast_precision_loss, reason = "seconds")]
fn seconds_between(before: &Document, now: &Document) -> f64 {
    if is_same_boot(before, now) && before.uptime_ns > 0 && now.uptime_ns > before.uptime_ns {
        return (now.uptime_ns - before.uptime_ns) as f64 / 1e9;
    }
    let time = |document: &Document| humantime::parse_rfc3339(&document.time).ok();
    match (time(before), time(now)) {
        (Some(before), Some(now)) => now.duration_since(before).map_or(0.0, |between| between.as_secs_f64()),
        _ => 0.0,
    }
}

/// A document without a boot's id may be of this one.
fn is_same_boot(before: &Document, now: &Document) -> bool {
    before.boot_id.is_empty() || before.boot_id == now.boot_id
}

fn remarks(before: &Document, now: &Document, same_boot: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if !same_boot {
        remarks.push(
            "the other document is of another machine, or from before this one was started: processes are not compared"
                .to_owned(),
        );
    } else if before.boot_id.is_empty() {
        remarks.push(
            "the other document does not say which boot it is of; it is taken to be this one".to_owned(),
        );
    }
    for reason in now.partial.iter().filter(|reason| !before.partial.contains(reason)) {
        remarks.push(format!("now, but not then: {reason}"));
    }
    for reason in before.partial.iter().filter(|reason| !now.partial.contains(reason)) {
        remarks.push(format!("then, but not now: {reason}"));
    }
    remarks
}

fn by_holder(before: &Document, now: &Document, seconds: f64) -> BTreeMap<String, Change> {
    let (before, now) = (&before.handles.by_holder, &now.handles.by_holder);
    let of = |counts: &BTreeMap<String, u64>, holder: &String| counts.get(holder).copied().unwrap_or(0);
    let names = before.keys().chain(now.keys());
    names
        .map(|name| (name.clone(), Change::new(of(before, name), of(now, name), seconds)))
        .filter(|(_, change)| !change.is_none())
        .collect()
}

fn system(before: &Document, now: &Document, seconds: f64) -> Option<Ceiling> {
    let counted = now.file_nr.as_ref()?;
    let then = before.file_nr.as_ref().map_or(counted.allocated, |before| before.allocated);
    Ceiling::new("fs.file-max", Change::new(then, counted.allocated, seconds), counted.limit, true)
}

/// Processes of a document. An id may be used again: the start tells two processes apart, or else the name.
struct ById<'a>(HashMap<u32, &'a ProcessLine>);

impl<'a> ById<'a> {
    fn of(document: &'a Document) -> Self {
        Self(document.processes.iter().map(|process| (process.pid, process)).collect())
    }

    fn same_as(&self, other: &ProcessLine) -> Option<&'a ProcessLine> {
        let found = *self.0.get(&other.pid)?;
        let is_same = match (found.started_ns, other.started_ns) {
            (0, _) | (_, 0) => found.comm == other.comm,
            (one, other) => one.abs_diff(other) < SAME_START,
        };
        is_same.then_some(found)
    }
}

fn processes(
    before: &Document,
    now: &Document,
    first: Option<&Document>,
    seconds: f64,
) -> Vec<ProcessGrowth> {
    let (old, new) = (ById::of(before), ById::of(now));
    let first = first.map(ById::of);
    let comparison = Comparison { seconds, max_map_count: now.max_map_count };
    let mut found: Vec<ProcessGrowth> = now
        .processes
        .iter()
        .filter(|process| !now.took(process))
        .map(|process| {
            let first = first.as_ref().map(|first| first.same_as(process));
            comparison.process(old.same_as(process), process, first)
        })
        .collect();
    // Who cannot be looked into any more is still there.
    let unreadable = |pid| now.residual.unreadable_processes.iter().any(|process| process.pid == pid);
    let gone = before.processes.iter().filter(|process| {
        !before.took(process) && new.same_as(process).is_none() && !unreadable(process.pid)
    });
    found.extend(gone.map(|process| comparison.gone(process)));
    found
}

struct Comparison {
    seconds: f64,
    max_map_count: u64,
}

impl Comparison {
    /// `first` is `None` where nobody watches, and holds `None` where the process was not there yet.
    fn process(
        &self,
        before: Option<&ProcessLine>,
        now: &ProcessLine,
        first: Option<Option<&ProcessLine>>,
    ) -> ProcessGrowth {
        let of = |number: fn(&ProcessLine) -> u64| {
            Change::new(before.map_or(0, number), number(now), self.seconds)
        };
        let rose = |number: fn(&ProcessLine) -> u64| {
            let at_first = first.flatten().map_or(0, number);
            before.is_some() && (first.is_none() || number(now) > at_first)
        };
        let descriptors = Ceiling::new("RLIMIT_NOFILE", of(used), now.limit.soft.unwrap_or(0), rose(used));
        let mapped = Ceiling::new("vm.max_map_count", of(mappings), self.max_map_count, rose(mappings));
        let handles = of(|process| process.handles);
        ProcessGrowth {
            pid: now.pid,
            comm: now.comm.clone(),
            state: if before.is_some() { Presence::Same } else { Presence::New },
            handles,
            descriptors: of(|process| process.descriptors),
            hidden: of(|process| process.hidden),
            since_first: first.map(|first| {
                let at_first = first.map_or(0, |first| first.handles);
                now.handles.cast_signed().wrapping_sub(at_first.cast_signed())
            }),
            limit: nearest(descriptors, mapped),
            mostly: label::mostly(before.map_or(&[], |before| &before.files), &now.files, handles.change),
        }
    }

    fn gone(&self, before: &ProcessLine) -> ProcessGrowth {
        let gone = |number| Change::new(number, 0, self.seconds);
        ProcessGrowth {
            pid: before.pid,
            comm: before.comm.clone(),
            state: Presence::Gone,
            handles: gone(before.handles),
            descriptors: gone(before.descriptors),
            hidden: gone(before.hidden),
            ..ProcessGrowth::default()
        }
    }
}

/// A document without this key has the entries of all tables, which are those of one nearly always.
const fn used(process: &ProcessLine) -> u64 {
    if process.limit.used == 0 { process.descriptors } else { process.limit.used }
}

/// Each handle that a mapping holds takes at least one.
fn mappings(process: &ProcessLine) -> u64 {
    let of = |holder: &str| process.by_holder.get(holder).copied().unwrap_or(0);
    of("shm_attach") + of("mapping")
}

fn nearest(one: Option<Ceiling>, other: Option<Ceiling>) -> Option<Ceiling> {
    let (Some(one), Some(other)) = (&one, &other) else { return one.or(other) };
    let order = one.left().total_cmp(&other.left()).then(other.percent.total_cmp(&one.percent));
    Some(if order.is_le() { one.clone() } else { other.clone() })
}

fn count_of(processes: &[ProcessGrowth], state: Presence) -> u64 {
    processes.iter().filter(|process| process.state == state).count() as u64
}

fn in_order(mut processes: Vec<ProcessGrowth>) -> Vec<ProcessGrowth> {
    processes.retain(|process| {
        let numbers = [process.handles, process.descriptors, process.hidden];
        process.state != Presence::Same
            || numbers.iter().any(|change| !change.is_none())
            || percent(process) >= NEAR
    });
    processes.sort_by(|one, other| {
        soon(one)
            .total_cmp(&soon(other))
            .then(near(other).total_cmp(&near(one)))
            .then(other.handles.change.cmp(&one.handles.change))
            .then(one.pid.cmp(&other.pid))
    });
    processes
}

fn percent(process: &ProcessGrowth) -> f64 {
    process.limit.as_ref().map_or(0.0, |limit| limit.percent)
}

/// Seconds until a limit, if that is soon.
fn soon(process: &ProcessGrowth) -> f64 {
    process.limit.as_ref().filter(|limit| limit.is_soon()).map_or(f64::INFINITY, Ceiling::left)
}

/// Percent of a limit, if that is much.
fn near(process: &ProcessGrowth) -> f64 {
    let percent = percent(process);
    if percent >= NEAR { percent } else { 0.0 }
}

/// What hidden handles of two documents have in common.
type Alike<'a> = (&'a str, &'a str, &'a str, Option<u32>);

fn hidden_groups(before: &Document, now: &Document, seconds: f64) -> Vec<HiddenGrowth> {
    let (old, new) = (sums(&before.hidden), sums(&now.hidden));
    let mut keys: Vec<&Alike<'_>> =
        new.keys().chain(old.keys().filter(|key| !new.contains_key(*key))).collect();
    keys.sort_unstable();
    let mut found: Vec<HiddenGrowth> = keys
        .into_iter()
        .map(|key| {
            let count =
                |sums: &HashMap<Alike<'_>, (u64, &Hidden)>| sums.get(key).map_or(0, |(count, _)| *count);
            let (holder, kind, name, shmid) = *key;
            HiddenGrowth {
                holder: holder.to_owned(),
                kind: kind.to_owned(),
                name: name.to_owned(),
                shmid,
                ordinary: new.get(key).or_else(|| old.get(key)).is_some_and(|(_, group)| group.ordinary),
                code: new.get(key).or_else(|| old.get(key)).is_some_and(|(_, group)| group.code),
                count: Change::new(count(&old), count(&new), seconds),
                processes: new.get(key).map_or_else(Vec::new, |(_, group)| {
                    group.processes.iter().take(SHARERS).cloned().collect()
                }),
            }
        })
        .filter(|group| !group.count.is_none())
        .collect();
    found.sort_by_key(|group| std::cmp::Reverse(group.count.change));
    found
}

/// Groups that have the same words for them are one.
fn sums(groups: &[Hidden]) -> HashMap<Alike<'_>, (u64, &Hidden)> {
    let mut sums = HashMap::new();
    for group in groups {
        let key = (group.holder.as_str(), group.kind.as_str(), group.name.as_str(), group.shmid);
        sums.entry(key).or_insert((0, group)).0 += group.count;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::{FileNr, Handles, Limit, Residual, SharerLine};

    const SECOND: u64 = 1_000_000_000;

    pub(crate) fn document(seconds: u64, processes: Vec<ProcessLine>) -> Document {
        Document {
            time: format!("2026-01-02T03:04:{seconds:02}Z"),
            uptime_ns: (100 + seconds) * SECOND,
            boot_id: "boot".to_owned(),
            max_map_count: 1000,
            processes,
            ..Document::default()
        }
    }

    fn process(pid: u32, handles: u64) -> ProcessLine {
        ProcessLine {
            pid,
            comm: "app".to_owned(),
            started_ns: u64::from(pid) * SECOND,
            handles,
            descriptors: handles,
            limit: Limit { soft: Some(1000), hard: None, used: handles, used_percent: 0.0 },
            ..ProcessLine::default()
        }
    }

    fn compared(before: Vec<ProcessLine>, now: Vec<ProcessLine>) -> Vec<ProcessGrowth> {
        compare(&document(0, before), &document(10, now), None).processes
    }

    #[test]
    fn rates_and_the_time_that_is_left() {
        let found = compared(vec![process(1, 100)], vec![process(1, 200)]);
        let limit = found[0].limit.as_ref().expect("a limit");
        assert_eq!((found[0].handles.change, found[0].handles.per_second), (100, 10.0));
        assert_eq!(
            (limit.name.as_str(), limit.percent, limit.seconds_left),
            ("RLIMIT_NOFILE", 20.0, Some(80.0))
        );
        // Who has used all of it is there.
        let found = compared(vec![process(1, 1000)], vec![process(1, 1000)]);
        let limit = found[0].limit.as_ref().expect("a limit");
        assert!(limit.is_reached() && limit.is_soon() && limit.seconds_left.is_none());
        // Who shrinks reaches nothing.
        let found = compared(vec![process(1, 200)], vec![process(1, 100)]);
        assert_eq!(found[0].limit.as_ref().and_then(|limit| limit.seconds_left), None);
    }

    #[test]
    fn the_most_dangerous_first() {
        let full = process(4, 990);
        let before = vec![process(1, 10), process(2, 100), process(3, 100), full.clone(), process(5, 5)];
        let mut now = vec![process(1, 11), process(2, 200), process(3, 300), full, process(5, 5)];
        now[0].limit.soft = None;
        let order: Vec<u32> = compared(before, now).iter().map(|process| process.pid).collect();
        assert_eq!(order, [3, 2, 4, 1], "soonest, nearest, the rest; what stays as it is does not count");
    }

    #[test]
    fn attaches_have_a_limit_too() {
        let mapped = |count| ProcessLine {
            by_holder: [("shm_attach".to_owned(), count)].into(),
            handles: count,
            limit: Limit { soft: Some(1000), ..Limit::default() },
            ..process(1, 0)
        };
        let found = compared(vec![mapped(100)], vec![mapped(200)]);
        let limit = found[0].limit.as_ref().expect("a limit");
        assert_eq!((limit.name.as_str(), limit.seconds_left), ("vm.max_map_count", Some(80.0)));
    }

    #[test]
    fn an_id_that_is_used_again_is_another_process() {
        let later = |mut process: ProcessLine| {
            process.started_ns += SECOND;
            process
        };
        let states = |before, now| -> Vec<Presence> {
            compared(vec![before], vec![now]).iter().map(|process| process.state).collect()
        };
        assert_eq!(states(process(1, 5), later(process(1, 5))), [Presence::New, Presence::Gone]);
        // It runs another program now, and has what it had.
        let renamed = ProcessLine { comm: "other".to_owned(), ..process(1, 6) };
        assert_eq!(states(process(1, 5), renamed.clone()), [Presence::Same]);
        // Where the start is not known, the name has to do.
        let unknown = ProcessLine { started_ns: 0, ..process(1, 5) };
        assert_eq!(states(unknown.clone(), process(1, 6)), [Presence::Same]);
        assert_eq!(states(unknown, renamed), [Presence::New, Presence::Gone]);
    }

    #[test]
    fn up_and_down_is_no_leak() {
        let at = |seconds, handles| document(seconds, vec![process(1, handles)]);
        let left = |first: &Document| {
            let growth = compare(&at(10, 100), &at(20, 200), Some(first));
            let process = &growth.processes[0];
            (process.since_first, process.limit.as_ref().and_then(|limit| limit.seconds_left))
        };
        assert_eq!(left(&at(0, 200)), (Some(0), None));
        assert_eq!(left(&at(0, 50)), (Some(150), Some(80.0)));
    }

    #[test]
    fn another_boot_has_other_processes() {
        let mut now = document(10, vec![process(1, 9)]);
        now.boot_id = "other".to_owned();
        let growth = compare(&document(0, vec![process(1, 5)]), &now, None);
        assert!(growth.processes.is_empty() && growth.new_processes.is_none());
        assert_eq!(growth.seconds, 10.0, "by the wall clock");
        assert_eq!(growth.remarks.len(), 1);
    }

    #[test]
    fn who_looks_does_not_count() {
        let child = ProcessLine { parent: 2, ..process(3, 9) };
        let mut now = document(10, vec![process(1, 9), process(2, 9), child]);
        now.taken_by = 2;
        let growth = compare(&document(0, Vec::new()), &now, None);
        assert_eq!((growth.new_processes, growth.processes[0].pid), (Some(1), 1));
    }

    #[test]
    fn sums_and_groups() {
        let hidden = |name: &str, count| Hidden {
            holder: "mapping".to_owned(),
            name: name.to_owned(),
            count,
            processes: vec![SharerLine { pid: 1, comm: "app".to_owned(), count }],
            ..Hidden::default()
        };
        let at = |seconds, total, hidden: Vec<Hidden>| Document {
            handles: Handles {
                total,
                by_holder: [("mapping".to_owned(), total)].into(),
                ..Handles::default()
            },
            file_nr: Some(FileNr { allocated: total, limit: 1000, ..FileNr::default() }),
            hidden,
            ..document(seconds, Vec::new())
        };
        let before = at(0, 100, vec![hidden("a", 5), hidden("b", 2), hidden("same", 7)]);
        // Two groups of one name are one.
        let growth =
            compare(&before, &at(10, 200, vec![hidden("a", 5), hidden("a", 5), hidden("same", 7)]), None);
        let changes: Vec<_> =
            growth.hidden_groups.iter().map(|group| (group.name.as_str(), group.count.change)).collect();
        assert_eq!(changes, [("a", 5), ("b", -2)]);
        assert_eq!(growth.by_holder["mapping"].change, 100);
        assert_eq!(growth.system.and_then(|system| system.seconds_left), Some(80.0));
        assert_eq!(growth.file_nr.map(|file_nr| file_nr.change), Some(100));
        assert_eq!(growth.not_found, None, "neither document has it");
    }

    #[test]
    fn what_the_kernel_keeps_for_itself() {
        let at = |seconds, count| Document {
            residual: Residual { min: Some(count), max: Some(count + 5), ..Residual::default() },
            ..document(seconds, Vec::new())
        };
        let change =
            |before, now| compare(&at(0, before), &at(10, now), None).not_found.map(|change| change.change);
        assert_eq!(change(50, 250), Some(200));
        assert_eq!(change(-3, 4), Some(4));
    }
}
