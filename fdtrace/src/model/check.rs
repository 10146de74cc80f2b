//! What a check has found: `fdtrace.check/1`. Keys may be added, never renamed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Example, FullTable, Origin, Site, Trace, words::words};

/// Name and version of the shape.
pub const SCHEMA: &str = "fdtrace.check/1";

/// The result of one check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// [`SCHEMA`]
    pub schema: String,
    /// The answer.
    pub verdict: Verdict,
    /// Why the answer is not sure: what was lost. Empty when nothing was.
    pub incomplete_reasons: Vec<String>,
    /// The sites are evaluated by what they had when the service was told to end: what it closes after that is no merit.
    pub evaluated_early: bool,
    /// What was run.
    pub command: CommandRun,
    /// The trace behind it.
    pub trace: Trace,
    /// Call sites of which something is to be said: leaks first, worst first.
    pub sites: Vec<Finding>,
    /// What else was noticed.
    pub diagnostics: Vec<Diagnostic>,
    /// Processes that run still and whose tables of descriptors repeat a handle, the fullest first.
    #[serde(rename = "processes")]
    pub tables: Vec<FullTable>,
    /// What the command announced as scopes, in the order in which they began.
    pub scopes: Vec<ScopeFound>,
    /// How many programs ran: each exec and each fork counts.
    #[serde(rename = "programs")]
    pub images: u64,
    /// What suppressions, baseline and limits did to the sites.
    #[serde(flatten)]
    pub applied: AppliedPolicy,
}

/// What suppressions, baseline and limits did; nothing until [`crate::check::Policy::apply`] has run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedPolicy {
    /// Kept calls of all sites that nothing excuses, also of those that kept no more than they may.
    pub total: u64,
    /// What `--max-total` allows.
    pub max_total: Option<u64>,
    /// The suppressions, in the order of their files, and how many sites each one hides.
    pub suppressions: Vec<Suppressing>,
    /// Entries of the baseline that no site needs any more: the place, as it was then.
    #[serde(rename = "baseline_removable")]
    pub removable: Vec<String>,
}

/// What one suppression did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressing {
    /// As it is written: `leak:pattern`.
    pub line: String,
    /// Where: `file:line`.
    pub place: String,
    /// Sites that it hides; 0 for one that was not used.
    pub sites: u64,
}

words! {
    /// The answer.
    #[derive(Default)]
    pub enum Verdict {
        /// No call site leaks, and nothing was lost that could hide one.
        #[default]
        Clean = "clean",
        /// At least one call site leaks, by complete records of its own handles.
        Leak = "leak",
        /// No leak was found, but something was lost.
        Inconclusive = "inconclusive",
    }
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRun {
    /// The command and its arguments; empty when processes were watched that ran already.
    pub argv: Vec<String>,
    /// How it ended.
    #[serde(flatten)]
    pub ended: Ended,
    /// How long it ran, in ns.
    pub duration_ns: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "EndedLine", into = "EndedLine")]
pub enum Ended {
    /// It exited with this status.
    Status(i32),
    /// This signal killed it.
    Signal(i32),
    /// Another program took its place in the process.
    Exec,
    /// It runs still.
    Running,
}

/// What is said of a call site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub class: Class,
    /// The pattern of the suppression, or `baseline: ...`; what the class would be is in `class_before`.
    pub suppressed_by: Option<String>,
    /// What the baseline allows, for a site that keeps more calls.
    pub baseline: Option<u64>,
    /// The class without suppressions and baseline.
    pub class_before: Class,
    /// What its files are, where that is why it is no leak: `45 different archives of code`. Or that the lines of its script
    /// could not be had, which is why it may keep more than another one.
    pub because: Option<String>,
    /// Calls that were kept in the image that kept most: what `--max-per-site` is compared with. For mappings, handles that
    /// were mapped at once. A call is all handles of one system call, so a pipe is one.
    pub leaked: u64,
    /// Handles kept in all images.
    pub handles: u64,
    /// Of those, the ones that were not open any more when their program was gone: what runs at its end has closed them.
    pub closed_by_end: u64,
    /// The images that kept any, worst first; the first few.
    pub images: Vec<KeptBy>,
    /// How many images there are in all.
    pub images_in_all: u64,
    /// The site as reports have it. Its examples are handles that were kept, its processes those that kept them.
    #[serde(flatten)]
    pub site: Site,
}

words! {
    /// What a call site is found to be.
    pub enum Class {
        /// It kept more calls than it may, and nothing excuses it.
        Leak = "leak",
        /// A suppression or the baseline names it.
        Suppressed = "suppressed",
        /// It left opens unclosed, but it released others and had as many before: a pool, a cache.
        Steady = "steady",
        /// It kept the sockets of connections that it accepted, as many as there are peers that have not hung up.
        GrowingWithPeers = "growing-with-peers",
        /// What it made lived until the program's end, and what runs then closed it.
        Teardown = "teardown",
        /// It kept archives of code, each a file of its own, as libraries are mapped.
        Loaded = "loaded",
        /// What it made was open when a program ended that had not made it.
        Inherited = "inherited",
        /// What it made was open at an exec, which closed it (close-on-exec).
        Exec = "exec",
        /// What it made was held by mappings alone.
        Mapped = "mapped",
        /// It kept no more calls than it may.
        Allowed = "allowed",
    }
}

/// One image that kept handles of a site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptBy {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its program.
    pub exe: String,
    /// Calls that it kept.
    pub calls: u64,
    /// Handles that it kept.
    pub handles: u64,
    /// Handles that it made at this site.
    pub allocated: u64,
    /// Of those, how many were released while it ran.
    pub released: u64,
    /// How it ended.
    #[serde(flatten)]
    pub ended: Ended,
}

/// Something else that was noticed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What.
    pub kind: DiagnosticKind,
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// How many: descriptors, handles, or times.
    pub count: u64,
    /// The limit that it has to do with (`RLIMIT_NOFILE`, or the system's), where one is known.
    pub limit: Option<u64>,
    /// When, in ns since the check began; for what has no moment, when the process ended.
    pub at_ns: u64,
    /// Some of the handles.
    pub examples: Vec<Example>,
    /// How many processes it is about; `pid` is the one that it is about most.
    pub processes: u64,
    /// EMFILE and ENFILE: who held most at that moment. Of sockets: their call site.
    pub top: Vec<TopHolder>,
    /// For what was inherited: the program that left them open.
    pub from: Option<String>,
    /// `--fail-on` names its kind.
    pub fatal: bool,
}

words! {
    /// What else can be noticed; each is a word of `--fail-on`.
    pub enum DiagnosticKind {
        /// `emfile`: a process had no descriptors left.
        Emfile = "emfile",
        /// `enfile`: the system had no handles left.
        Enfile = "enfile",
        /// `exec`: a program left more calls of a site open at an exec than a site may keep; close-on-exec closed them.
        Exec = "exec",
        /// `inherit`: a program was started with descriptors that have no close-on-exec flag.
        Inherit = "inherit",
        /// `close-wait`: sockets whose peer had hung up, for longer than `--close-wait`, were open at the end.
        CloseWait = "close-wait",
        /// `deleted`: files that no directory has an entry for were open at the end.
        Deleted = "deleted",
        /// `growing-with-peers`: a site kept the sockets of all clients that are connected still.
        GrowingWithPeers = "growing-with-peers",
        /// `teardown`: what a site made lived until the program's end, and what runs then closed it.
        Teardown = "teardown",
        /// `peak`: the most handles of its own that a process had at once, where that is more than half of its limit.
        Peak = "peak",
    }
}

/// Who held handles when there were no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopHolder {
    /// The call site's id, as in [`Site::id`].
    pub site: String,
    /// Where that is, in a few words.
    pub place: String,
    /// Handles of it that the process had made and that were alive.
    pub live: u64,
}

impl Ended {
    /// The word for it in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status(_) => "exit",
            Self::Signal(_) => "signal",
            Self::Exec => "exec",
            Self::Running => "running",
        }
    }

    /// The status as a shell has it: 128 and the signal's number for what a signal killed; none for what runs still.
    #[must_use]
    pub const fn status(self) -> Option<i32> {
        match self {
            Self::Status(status) => Some(status),
            Self::Signal(signal) => Some(128 + signal),
            Self::Exec | Self::Running => None,
        }
    }
}

/// How a program ended, as documents have it.
#[derive(Serialize, Deserialize)]
struct EndedLine {
    #[serde(default)]
    ended: String,
    exit_status: Option<i32>,
    #[serde(default)]
    signal: Option<i32>,
}

impl From<Ended> for EndedLine {
    fn from(ended: Ended) -> Self {
        let signal = match ended {
            Ended::Signal(signal) => Some(signal),
            _ => None,
        };
        Self { ended: ended.name().to_owned(), exit_status: ended.status(), signal }
    }
}

impl From<EndedLine> for Ended {
    fn from(line: EndedLine) -> Self {
        match (line.ended.as_str(), line.signal, line.exit_status) {
            ("exec", ..) => Self::Exec,
            (_, Some(signal), _) => Self::Signal(signal),
            ("signal", None, Some(status)) => Self::Signal(status - 128),
            (_, None, Some(status)) => Self::Status(status),
            (_, None, None) => Self::Running,
        }
    }
}

/// What a scope has kept of one call site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptInScope {
    /// The call site's id, as findings have it.
    #[serde(rename = "site")]
    pub id: String,
    /// Which kernel path.
    pub origin: Origin,
    /// Where it is, in a few words.
    pub place: String,
    /// It makes no handles, but descriptors for handles that others made.
    pub acquired: bool,
    /// Calls that were kept.
    pub calls: u64,
    /// Handles; descriptors, where it makes those only.
    pub handles: u64,
    /// Some of the handles.
    pub examples: Vec<Example>,
    /// The call site, with nothing of what it did elsewhere.
    #[serde(skip)]
    pub call_site: Arc<Site>,
}

/// What is known of a scope in the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScopeFound {
    /// As it was announced: any text of one line.
    pub name: String,
    /// The process that announced it.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// It is all that this process did from then on, and ended with it.
    pub whole: bool,
    /// When it began, in ns since the check did.
    pub begun_ns: u64,
    /// How long it was; none for one that never ended.
    pub duration_ns: Option<u64>,
    /// Handles and duplicated descriptors that were open at its end.
    pub at_end: u64,
    /// What was still open when the runner had done, or its process had ended.
    pub kept: Vec<KeptInScope>,
    /// What it did, by what was found of the sites.
    pub verdict: ScopeVerdict,
    /// What the runner said.
    pub said: Option<Word>,
}

words! {
    /// What a runner has decided about a scope.
    pub enum Word {
        /// What it keeps is in order.
        Pass = "pass",
        /// It leaks.
        Fail = "fail",
    }
}

words! {
    /// What a scope did.
    pub enum ScopeVerdict {
        /// Nothing is left of it.
        Clean = "clean",
        /// Something is, and it is no leak.
        Kept = "kept",
        /// The runner says that it leaks, or it left opens unclosed at a site that leaks.
        Leak = "leak",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_again() {
        assert!(
            DiagnosticKind::ALL.into_iter().all(|kind| DiagnosticKind::from_name(kind.name()) == Some(kind))
        );
        assert_eq!(DiagnosticKind::from_name("close_wait"), None);
        assert_eq!(
            [Ended::Status(3), Ended::Signal(9), Ended::Running].map(Ended::status),
            [Some(3), Some(137), None]
        );
    }
}
