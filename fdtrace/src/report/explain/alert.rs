//! When somebody is to be called: a limit that is used up to a share, or that is reached within a time.

use std::{collections::HashSet, time::Duration};

use super::{
    causes,
    sentence::{mapped, segments},
};
use crate::model::explain::Alarm;
use crate::{
    model::explain::{
        Document, ProcessLine,
        growth::{Ceiling, Growth, Presence},
    },
    text::fmt::{escape_control, number, process, seconds},
};

/// So few new ones in one sample say nothing of when a limit is reached.
const FEW: i64 = 10;
/// Who has used so many percent is believed at the first sample; who has used less may just have been started.
const NEAR: f64 = 80.0;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alert {
    /// Any limit of which so many percent are used.
    Percent(f64),
    /// Any limit of handles that is reached within so long at the rate of the last sample.
    Within(Duration),
}

/// Remembers what was foreseen: once may be a start, twice is a growth.
#[derive(Debug, Default)]
pub struct Watch {
    foreseen: HashSet<(String, Option<u32>)>,
}

impl Watch {
    /// The alarms of a sample, the most used limit first; each limit once.
    pub fn alarms(&mut self, document: &Document, alerts: &[Alert]) -> Vec<Alarm> {
        let mut found = Vec::new();
        for alert in alerts {
            match alert {
                Alert::Percent(percent) => {
                    found.extend(used(document).into_iter().filter(|alarm| alarm.percent >= *percent));
                }
                Alert::Within(time) => found.extend(self.within(document, *time)),
            }
        }
        found.sort_by(|one, other| other.percent.total_cmp(&one.percent));
        let mut reported = HashSet::new();
        found.retain(|alarm| reported.insert(alarm.subject()));
        found
    }

    fn within(&mut self, document: &Document, time: Duration) -> Vec<Alarm> {
        let Some(growth) = &document.growth else { return Vec::new() };
        let found = foreseen(growth, time);
        let now = found.iter().map(Alarm::subject).collect();
        let before = std::mem::replace(&mut self.foreseen, now);
        let is_sure = |alarm: &Alarm| alarm.percent >= NEAR || before.contains(&alarm.subject());
        found.into_iter().filter(is_sure).collect()
    }
}

/// What is used of every limit that there is.
fn used(document: &Document) -> Vec<Alarm> {
    let processes = || causes::others(document);
    let descriptors = processes().filter_map(|line| {
        let what = ("RLIMIT_NOFILE", "descriptors", "EMFILE");
        of_process(line, what, line.limit.used, line.limit.soft?)
    });
    let mappings = processes().filter_map(|line| {
        let what = ("vm.max_map_count", "mappings, or more", "ENOMEM");
        of_process(line, what, mapped(line), document.max_map_count)
    });
    let others = document.limits.iter().map(|limit| Alarm {
        limit: limit.subject(),
        percent: limit.used_percent,
        sentence: limit.words(document),
        ..Alarm::default()
    });
    let system = document
        .file_nr
        .as_ref()
        .and_then(|file_nr| of_machine("fs.file-max", "ENFILE", file_nr.allocated, file_nr.limit));
    let segments = of_machine("kernel.shmmni", "ENOSPC", segments(document), document.shmmni);
    system.into_iter().chain(segments).chain(descriptors).chain(mappings).chain(others).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn percent(used: u64, limit: u64) -> Option<f64> {
    (limit > 0).then(|| (1000.0 * used as f64 / limit as f64).round() / 10.0)
}

fn of_process(
    line: &ProcessLine,
    (limit, things, error): (&str, &str, &str),
    used: u64,
    most: u64,
) -> Option<Alarm> {
    let percent = percent(used, most)?;
    let (name, used, most) = (process(&line.comm, line.pid), number(used), number(most));
    Some(Alarm {
        limit: limit.to_owned(),
        pid: Some(line.pid),
        percent,
        seconds_left: None,
        sentence: format!(
            "{name} has {used} {things}, {percent:.0}% of {most} ({limit}): {error} comes at the end."
        ),
    })
}

fn of_machine(limit: &str, error: &str, used: u64, most: u64) -> Option<Alarm> {
    let percent = percent(used, most)?;
    let (used, most) = (number(used), number(most));
    Some(Alarm {
        limit: limit.to_owned(),
        percent,
        sentence: format!(
            "The system has used {used} of {most} ({limit}, {percent:.0}%): {error} comes at the end."
        ),
        ..Alarm::default()
    })
}

/// Limits that are reached in time.
fn foreseen(growth: &Growth, time: Duration) -> Vec<Alarm> {
    let is_soon = |ceiling: &&Ceiling| {
        ceiling.is_reached() || ceiling.seconds_left.is_some_and(|left| left <= time.as_secs_f64())
    };
    let system = growth
        .system
        .as_ref()
        .filter(is_soon)
        .filter(|_| growth.file_nr.is_some_and(|change| change.change >= FEW));
    let system = system.map(|ceiling| reached(ceiling, None, "the system", "ENFILE"));
    let processes = growth.processes.iter().filter(|process| process.state != Presence::Gone);
    let processes = processes.filter_map(|grown| {
        let ceiling = grown.limit.as_ref().filter(is_soon)?;
        let change = grown.handles.change.max(grown.descriptors.change);
        let error = if ceiling.name == "vm.max_map_count" { "ENOMEM" } else { "EMFILE" };
        let name = process(&grown.comm, grown.pid);
        (change >= FEW || ceiling.is_reached()).then(|| reached(ceiling, Some(grown.pid), &name, error))
    });
    system.into_iter().chain(processes).collect()
}

fn reached(ceiling: &Ceiling, pid: Option<u32>, who: &str, error: &str) -> Alarm {
    let (limit, most) = (escape_control(&ceiling.name), number(ceiling.limit));
    let sentence = match ceiling.seconds_left {
        Some(left) if !ceiling.is_reached() => {
            format!("{who} reaches {most} ({limit}) in {} at this rate: {error} comes then.", seconds(left))
        }
        _ => format!("{who} has reached {most} ({limit}): {error} comes now."),
    };
    let (percent, seconds_left) = (ceiling.percent, ceiling.seconds_left);
    Alarm { limit: ceiling.name.clone(), pid, percent, seconds_left, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::{
        FileNr, Limit, LimitLine,
        growth::{Change, ProcessGrowth},
    };

    fn document() -> Document {
        let limit = Limit { soft: Some(1000), hard: None, used: 850, used_percent: 85.0 };
        let line = ProcessLine { pid: 7, comm: "app\x1b".to_owned(), limit, ..ProcessLine::default() };
        let user =
            LimitLine { user: Some(1000), ..LimitLine::new("fs.inotify.max_user_instances", 120, 128) };
        Document {
            processes: vec![line],
            limits: vec![user],
            file_nr: Some(FileNr { allocated: 500, limit: 1000, ..FileNr::default() }),
            ..Document::default()
        }
    }

    fn grown(pid: u32, percent: f64, left: f64, change: i64) -> Document {
        let limit = Ceiling {
            name: "RLIMIT_NOFILE".to_owned(),
            used: 100,
            limit: 1000,
            percent,
            seconds_left: Some(left),
            ..Ceiling::default()
        };
        let handles = Change { change, ..Change::default() };
        let process = ProcessGrowth {
            pid,
            comm: "app".to_owned(),
            handles,
            limit: Some(limit),
            ..ProcessGrowth::default()
        };
        Document {
            growth: Some(Growth { processes: vec![process], ..Growth::default() }),
            ..Document::default()
        }
    }

    #[test]
    fn any_limit_that_is_used_up_to_a_share() {
        let of = |percent| Watch::default().alarms(&document(), &[Alert::Percent(percent)]);
        let limits: Vec<String> = of(80.0).into_iter().map(|alarm| alarm.limit).collect();
        assert_eq!(limits, ["fs.inotify.max_user_instances of user 1000", "RLIMIT_NOFILE"]);
        assert_eq!((of(50.0).len(), of(94.0).len()), (3, 0));
        let sentence = &of(80.0)[1].sentence;
        assert_eq!(
            sentence,
            "app\\u{1b} (7) has 850 descriptors, 85% of 1,000 (RLIMIT_NOFILE): EMFILE comes at the end."
        );
    }

    #[test]
    fn what_is_foreseen_twice_is_told() {
        let mut watch = Watch::default();
        let alerts = [Alert::Within(Duration::from_secs(600))];
        assert_eq!(
            watch.alarms(&grown(7, 10.0, 300.0, 50), &alerts).len(),
            0,
            "it may just have been started"
        );
        let reported = watch.alarms(&grown(7, 12.0, 290.0, 50), &alerts);
        assert_eq!((reported.len(), reported[0].pid, reported[0].seconds_left), (1, Some(7), Some(290.0)));
        assert!(reported[0].sentence.contains("in 4.8m at this rate: EMFILE"), "{}", reported[0].sentence);
        assert_eq!(watch.alarms(&grown(7, 12.0, 601.0, 50), &alerts).len(), 0, "not so soon");
        assert_eq!(watch.alarms(&grown(8, 85.0, 300.0, 50), &alerts).len(), 1, "so much is used already");
        assert_eq!(watch.alarms(&grown(8, 85.0, 300.0, 3), &alerts).len(), 0, "three more are nothing");
    }

    #[test]
    fn a_limit_is_told_once() {
        let alerts = [Alert::Percent(80.0), Alert::Percent(50.0)];
        assert_eq!(Watch::default().alarms(&document(), &alerts).len(), 3);
    }
}
