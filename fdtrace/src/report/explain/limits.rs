//! Limits that are not of descriptors: what is used of each, by whom, and what happens at its end.

use std::cmp::Reverse;

use super::{
    sentence::NEAR,
    who::{Lot, Register},
};
use crate::model::explain::LimitLine;
use crate::{
    model::explain::{Document, Files, ProcessLine, SharerLine},
    text::fmt::{counted, escape_control, number},
};

/// Limits that are reported, those that are nearest to their ends.
const TOLD: usize = 3;

/// What is known of a limit.
struct Known {
    name: &'static str,
    /// What fails at its end.
    end: &'static str,
    /// How many of it a process has, as far as its files say.
    of: fn(&ProcessLine) -> u64,
}

const KNOWN: [Known; 12] = [
    known("fs.inotify.max_user_instances", "inotify_init fails with EMFILE", inotify),
    known("fs.inotify.max_user_watches", "inotify_add_watch fails with ENOSPC", inotify),
    known("fs.epoll.max_user_watches", "epoll_ctl fails with ENOSPC", epoll),
    known("fs.pipe-user-pages-soft", "new pipes have room for two pages at most", pipes),
    known("fs.pipe-user-pages-hard", "pipe fails with ENFILE", pipes),
    known("kernel.pty.max", "opening /dev/ptmx fails with ENOSPC", masters),
    known("fs.aio-max-nr", "io_setup fails with EAGAIN", nothing),
    known("kernel.keys.maxkeys", "add_key fails with EDQUOT", nothing),
    known("kernel.keys.maxbytes", "add_key fails with EDQUOT", nothing),
    known("pids.max", "fork and new threads fail with EAGAIN", threads),
    known("kernel.pid_max", "fork and new threads fail with EAGAIN", threads),
    known("kernel.threads-max", "fork and new threads fail with EAGAIN", threads),
];

const fn known(name: &'static str, end: &'static str, of: fn(&ProcessLine) -> u64) -> Known {
    Known { name, end, of }
}

fn files(process: &ProcessLine, is_one: impl Fn(&Files) -> bool) -> u64 {
    process.files.iter().filter(|files| is_one(files)).map(|files| files.count).sum()
}

fn inotify(process: &ProcessLine) -> u64 {
    files(process, |files| files.kind == "anon" && files.name == "inotify")
}

fn epoll(process: &ProcessLine) -> u64 {
    files(process, |files| files.kind == "anon" && files.name == "[eventpoll]")
}

fn pipes(process: &ProcessLine) -> u64 {
    files(process, |files| files.kind == "fifo")
}

fn masters(process: &ProcessLine) -> u64 {
    files(process, |files| files.kind == "char" && files.name.ends_with("/ptmx"))
}

const fn threads(process: &ProcessLine) -> u64 {
    process.threads
}

const fn nothing(_: &ProcessLine) -> u64 {
    0
}

impl LimitLine {
    /// How much is used of a limit, for nobody in particular.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    #[must_use]
    pub fn new(name: &str, used: u64, limit: u64) -> Self {
        let percent = 100.0 * used as f64 / limit.max(1) as f64;
        let used_percent = (percent * 10.0).round() / 10.0;
        Self { name: name.to_owned(), used, limit, used_percent, ..Self::default() }
    }

    /// The same, with those of a document's processes that have most of it.
    #[must_use]
    pub fn reported(mut self, document: &Document, is_inside: impl Fn(&ProcessLine) -> bool) -> Self {
        /// Others have less.
        const MAX: usize = 16;
        let of = KNOWN
            .iter()
            .find(|known| known.name == self.name)
            .map_or(nothing as fn(&_) -> _, |known| known.of);
        let is_users = |line: &&ProcessLine| self.user.is_none() || line.user == self.user;
        let inside = document.processes.iter().filter(is_users).filter(|line| is_inside(line));
        let sharer =
            |line: &ProcessLine| SharerLine { pid: line.pid, comm: line.comm.clone(), count: of(line) };
        let mut all: Vec<SharerLine> = inside.map(sharer).filter(|sharer| sharer.count > 0).collect();
        all.sort_by_key(|sharer| (Reverse(sharer.count), sharer.pid));
        all.truncate(MAX);
        self.processes = all;
        self
    }

    /// What the limit is, and whose.
    pub(super) fn subject(&self) -> String {
        match (&self.cgroup, self.user) {
            (Some(cgroup), _) => format!("{} of the cgroup {cgroup}", self.name),
            (None, Some(user)) => format!("{} of user {user}", self.name),
            (None, None) => self.name.clone(),
        }
    }

    /// The same in a sentence, with what happens at its end and who has most of it.
    pub(super) fn words(&self, document: &Document) -> String {
        words(document, self)
    }

    /// Whether it is near to its end.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.limit > 0 && self.used_percent >= NEAR
    }
}

/// Those that are near to their ends, in sentences.
pub(super) fn sentences(document: &Document) -> Vec<String> {
    let mut near: Vec<&LimitLine> = document.limits.iter().filter(|limit| limit.is_near()).collect();
    near.sort_by(|one, other| other.used_percent.total_cmp(&one.used_percent));
    let mut sentences: Vec<String> = near.iter().take(TOLD).map(|limit| words(document, limit)).collect();
    let rest = near.len().saturating_sub(TOLD) as u64;
    if rest > 0 {
        sentences.push(format!("{} more used to {NEAR:.0}% and above (--json).", counted(rest, "limit")));
    }
    sentences
}

fn words(document: &Document, limit: &LimitLine) -> String {
    let whose = match (&limit.cgroup, limit.user) {
        (Some(cgroup), _) => format!("The cgroup {}", escape_control(cgroup)),
        (None, Some(user)) => format!("User {user}"),
        (None, None) => "The system".to_owned(),
    };
    let part = if limit.used >= limit.limit {
        format!("all {} of {}", number(limit.limit), limit.name)
    } else {
        format!(
            "{:.0}% of {} ({} of {})",
            limit.used_percent,
            limit.name,
            number(limit.used),
            number(limit.limit)
        )
    };
    let end = KNOWN.iter().find(|known| known.name == limit.name).map(|known| known.end);
    let when = if limit.used >= limit.limit { "now" } else { "at its end" };
    let end = end.map_or_else(String::new, |end| format!(": {when} {end}"));
    let count = limit.processes.iter().map(|process| process.count).sum();
    let who = Register::of(document).holders(&[Lot { count, processes: &limit.processes }]);
    let who = if limit.processes.is_empty() {
        String::new()
    } else {
        format!("; most are those of {}", who.words())
    };
    format!("{whose} has used {part}{end}{who}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, user: u32, kind: &str, name: &str, count: u64) -> ProcessLine {
        let files = Files { kind: kind.to_owned(), name: name.to_owned(), count, ..Files::default() };
        ProcessLine {
            pid,
            comm: "code".to_owned(),
            user: Some(user),
            threads: 5,
            files: vec![files],
            ..ProcessLine::default()
        }
    }

    fn document(limits: Vec<LimitLine>) -> Document {
        let processes = vec![
            process(7, 1000, "anon", "inotify", 90),
            process(8, 1001, "anon", "inotify", 99),
            process(9, 1000, "char", "/dev/ptmx", 50),
        ];
        let mut document = Document { processes, ..Document::default() };
        document.limits = limits.into_iter().map(|limit| limit.reported(&document, |_| true)).collect();
        document
    }

    #[test]
    fn the_largest_user_is_named() {
        let near =
            LimitLine { user: Some(1000), ..LimitLine::new("fs.inotify.max_user_instances", 118, 128) };
        let found = sentences(&document(vec![near, LimitLine::new("kernel.pty.max", 50, 50)]));
        assert_eq!(
            found,
            [
                "The system has used all 50 of kernel.pty.max: now opening /dev/ptmx fails with ENOSPC; most are those of code \
                 (9).",
                "User 1000 has used 92% of fs.inotify.max_user_instances (118 of 128): at its end inotify_init fails with \
                 EMFILE; most are those of code (7)."
            ]
        );
    }

    #[test]
    fn those_that_are_far_are_not_told() {
        let far = LimitLine::new("kernel.pty.max", 79, 100);
        assert_eq!(
            sentences(&document(vec![far, LimitLine::new("fs.aio-max-nr", 0, 0)])),
            Vec::<String>::new()
        );
        let many = (0..5).map(|used| LimitLine::new("kernel.pid_max", 90 + used, 100)).collect();
        let found = sentences(&document(many));
        assert!(found.len() == 4 && found[3].starts_with("2 limits more"), "{found:?}");
        assert!(found[0].contains("94%") && found[0].contains("fork"), "{found:?}");
    }

    #[test]
    fn every_limit_of_a_cgroup_is_its_own() {
        let cgroup = LimitLine { cgroup: Some("/a\x1b".to_owned()), ..LimitLine::new("pids.max", 9, 10) };
        let document = document(vec![]);
        let reported = cgroup.reported(&document, |line| line.pid == 8);
        let found = words(&document, &reported);
        assert!(found.starts_with("The cgroup /a\\u{1b} has used 90% of pids.max (9 of 10)"), "{found}");
        assert!(found.ends_with("most are those of code (8)."), "{found}");
    }
}
