//! What a check has found, as plain data for the reports.

use std::collections::BTreeMap;

use super::scopes::ScopeFound;
use crate::report::{Example, FullTable, Site, Trace};

/// The result of one check.
#[derive(Clone, Debug)]
pub struct Findings {
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
    pub tables: Vec<FullTable>,
    /// What the command announced as scopes, in the order in which they began.
    pub scopes: Vec<ScopeFound>,
    /// How many programs ran: each exec and each fork counts.
    pub images: u64,
    /// What suppressions, baseline and limits did to the sites.
    pub steered: AppliedPolicy,
}

/// What suppressions, baseline and limits did; nothing until [`super::Steering::apply`] has run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedPolicy {
    /// Kept calls of all sites that nothing excuses, also of those that kept no more than they may.
    pub total: u64,
    /// What `--max-total` allows.
    pub max_total: Option<u64>,
    /// The suppressions, in the order of their files, and how many sites each one hides.
    pub suppressions: Vec<Suppressing>,
    /// Sites that leak more calls than the baseline allows: the site's id, and what the baseline allows.
    pub grown: BTreeMap<String, u64>,
    /// Entries of the baseline that no site needs any more: the place, as it was then.
    pub removable: Vec<String>,
}

/// What one suppression did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressing {
    /// As it is written: `leak:pattern`.
    pub line: String,
    /// Where: `file:line`.
    pub place: String,
    /// Sites that it hides; 0 for one that was not used.
    pub sites: u64,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No call site leaks, and nothing was lost that could hide one.
    Clean,
    /// At least one call site leaks, by complete records of its own handles.
    Leak,
    /// No leak was found, but something was lost.
    Inconclusive,
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRun {
    /// The command and its arguments; empty when processes were watched that ran already.
    pub argv: Vec<String>,
    /// How it ended.
    pub ended: Ended,
    /// How long it ran, in ns.
    pub duration_ns: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is.
    pub class: Class,
    /// The pattern of the suppression, or `baseline: ...`; what the class would be is in `class_before`.
    pub suppressed_by: Option<String>,
    /// The class without suppressions and baseline.
    pub class_before: Class,
    /// What its files are, where that is why it is no leak: `45 different archives of code`.
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
    pub site: Site,
}

/// What a call site is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It kept more calls than it may, and nothing excuses it.
    Leak,
    /// A suppression or the baseline names it.
    Suppressed,
    /// It unclosed opens, but it released others and had as many before: a pool, a cache.
    Steady,
    /// It kept the sockets of connections that it accepted, as many as there are peers that have not hung up.
    GrowingWithPeers,
    /// What it made lived until the program's end, and what runs then closed it.
    Teardown,
    /// It kept archives of code, each a file of its own, as libraries are mapped.
    Loaded,
    /// What it made was open when a program ended that had not made it.
    Inherited,
    /// What it made was open at an exec, which closed it (close-on-exec).
    Exec,
    /// What it made was held by mappings alone.
    Mapped,
    /// It kept no more calls than it may.
    Allowed,
}

/// One image that kept handles of a site.
#[derive(Clone, Debug)]
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
    pub ended: Ended,
}

/// Something else that was noticed.
#[derive(Clone, Debug)]
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

/// What else can be noticed; each is a word of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiagnosticKind {
    /// `emfile`: a process had no descriptors left.
    Emfile,
    /// `enfile`: the system had no handles left.
    Enfile,
    /// `exec`: a program left more calls of a site open at an exec than a site may keep; close-on-exec closed them.
    Exec,
    /// `inherit`: a program was started with descriptors that have no close-on-exec flag.
    Inherit,
    /// `close-wait`: sockets whose peer had hung up, for longer than `--close-wait`, were open at the end.
    CloseWait,
    /// `deleted`: files that no directory has an entry for were open at the end.
    Deleted,
    /// `growing-with-peers`: a site kept the sockets of all clients that are connected still.
    GrowingWithPeers,
    /// `teardown`: what a site made lived until the program's end, and what runs then closed it.
    Teardown,
    /// `peak`: the most handles of its own that a process had at once, where that is more than half of its limit.
    Peak,
}

/// Who held handles when there were no more.
#[derive(Clone, Debug)]
pub struct TopHolder {
    /// The call site's id, as in [`Site::id`].
    pub site: String,
    /// Where that is, in a few words.
    pub place: String,
    /// Handles of it that the process had made and that were alive.
    pub live: u64,
}
