//! `fdtrace explain` from the outside.

use super::{
    binaries,
    process::{Finished, finish},
    tracer::TIMEOUT,
};
use crate::truth::Counts;
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

/// The document of `fdtrace explain --json`, as far as the tests read it.
#[derive(Clone, Debug, Deserialize)]
pub struct Explanation {
    /// Name and version of the format.
    pub schema: String,
    /// What the kernel counts.
    pub file_nr: FileNr,
    /// What was found.
    pub handles: Found,
    /// What was not.
    pub residual: Residual,
    /// What could not be seen.
    pub partial: Vec<String>,
    /// What lsof would say.
    pub lsof_view: LsofView,
    /// Handles without a descriptor.
    #[serde(default)]
    pub hidden: Vec<HiddenGroup>,
    /// Handles without a descriptor that the kernel does not count.
    #[serde(default)]
    pub uncounted: Vec<HiddenGroup>,
    /// System V segments.
    #[serde(default)]
    pub segments: Vec<Segment>,
    /// Files without a name.
    #[serde(default)]
    pub deleted: Deleted,
    /// Limits that are not of descriptors.
    #[serde(default)]
    pub limits: Vec<OtherLimit>,
    /// Who holds something.
    pub processes: Vec<Process>,
}

/// What the kernel counts.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FileNr {
    /// The figure.
    pub allocated: u64,
    /// It was not less while the walk lasted.
    pub min: u64,
    /// Nor more.
    pub max: u64,
    /// The kernel's figure is a sum.
    pub exact: bool,
    /// `file-max`.
    pub limit: u64,
}

/// What was found.
#[derive(Clone, Debug, Deserialize)]
pub struct Found {
    /// All of them.
    pub total: u64,
    /// Those that the kernel counts.
    pub accounted: u64,
    /// The others.
    pub unaccounted_by_file_nr: u64,
    /// Counted, and without a descriptor.
    pub hidden: u64,
    /// Each once.
    pub by_holder: Counts,
    /// Each that the kernel does not count once.
    pub unaccounted_by_holder: Counts,
    /// Each once.
    #[serde(default)]
    pub by_kind: Counts,
}

/// What was not found.
#[derive(Clone, Debug, Deserialize)]
pub struct Residual {
    /// At least; less than nothing when something was counted that had gone. `None` where the whole is not known.
    pub min: Option<i64>,
    /// At most.
    pub max: Option<i64>,
    /// Where it may be.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// What lsof would say.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LsofView {
    /// Entries of all tables.
    pub descriptors: u64,
}

/// Handles that the same thing hides.
#[derive(Clone, Debug, Deserialize)]
pub struct HiddenGroup {
    /// By what.
    pub holder: String,
    /// What they are.
    pub kind: String,
    /// Which.
    pub name: String,
    /// How many.
    pub count: u64,
    /// The segment.
    pub shmid: Option<i32>,
    /// Who holds them.
    pub processes: Vec<Share>,
}

/// A process's part of a group.
#[derive(Clone, Debug, Deserialize)]
pub struct Share {
    /// Its number.
    pub pid: u32,
    /// How many.
    pub count: u64,
}

/// A System V segment.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Segment {
    /// Its number.
    pub shmid: i32,
    /// How often it is attached.
    pub attaches: u64,
    /// How large it is.
    pub bytes: u64,
    /// Who made it.
    pub creator: u32,
}

/// Files without a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Deleted {
    /// How many handles.
    pub handles: u64,
    /// What they keep from being free.
    pub bytes: u64,
}

/// Who holds something.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its program.
    #[serde(default)]
    pub exe: Option<String>,
    /// What it holds in any way, each once.
    pub handles: u64,
    /// Entries of its tables.
    pub descriptors: u64,
    /// To which no descriptor of anybody points.
    pub hidden: u64,
    /// How many descriptors it may have.
    pub limit: Option<Limit>,
    /// How it holds them, each once.
    pub by_holder: Counts,
    /// Which.
    #[serde(default)]
    pub files: Vec<File>,
}

/// How much is used of a limit that is not of descriptors.
#[derive(Clone, Debug, Deserialize)]
pub struct OtherLimit {
    /// The setting.
    pub name: String,
    /// The user.
    pub user: Option<u32>,
    /// The cgroup.
    pub cgroup: Option<String>,
    /// How much is used.
    pub used: u64,
    /// How much may be.
    pub limit: u64,
}

/// How many descriptors a process may have.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Limit {
    /// Now.
    pub soft: u64,
    /// If it asks.
    pub hard: u64,
    /// How near it is.
    #[serde(default)]
    pub used_percent: f64,
}

/// Handles of the same kind and name.
#[derive(Clone, Debug, Deserialize)]
pub struct File {
    /// What they are.
    pub kind: String,
    /// Which.
    pub name: String,
    /// References.
    pub holders: Counts,
    /// How many handles.
    pub count: u64,
    /// They have no name any more.
    #[serde(default)]
    pub deleted: bool,
    /// What they keep from being free.
    pub bytes: Option<u64>,
    /// Of a connection.
    pub state: Option<String>,
    /// What waits in a socket.
    pub queue: Option<Queue>,
    /// A few of their descriptors.
    #[serde(default)]
    pub examples: Vec<u32>,
    /// Who is at the other ends.
    #[serde(default)]
    pub peer: Vec<Peer>,
}

/// Who is at the other ends of some handles.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// What the other end is.
    pub end: String,
    /// How many handles have one.
    pub count: u64,
    /// Of how many it is closed.
    #[serde(default)]
    pub closed: u64,
    /// Of how many another process has it.
    #[serde(default)]
    pub elsewhere: u64,
    /// Who has it.
    pub processes: Vec<Share>,
}

/// What waits in a socket.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Queue {
    /// To be read.
    pub receive: u64,
    /// To be sent.
    pub send: u64,
}

/// What `fdtrace explain` said, and how long it took.
#[derive(Debug)]
pub struct Explained {
    /// Its output and its status.
    pub finished: Finished,
    /// From start to end.
    pub time: Duration,
}

impl Explanation {
    /// Reads a document, and checks what must hold for each.
    ///
    /// # Errors
    /// When it is not JSON of this form, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self> {
        let document: Self = serde_json::from_str(text)
            .with_context(|| format!("no document: {}", text.chars().take(2000).collect::<String>()))?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<()> {
        let Self { schema, file_nr, handles, .. } = self;
        ensure!(schema == "fdtrace.explain/1", "schema {schema:?}");
        ensure!(file_nr.min <= file_nr.max, "{file_nr:?}");
        ensure!(handles.accounted + handles.unaccounted_by_file_nr == handles.total, "{handles:?}");
        ensure!(handles.by_holder.values().sum::<u64>() == handles.total, "{handles:?}");
        let of = |counts: &Counts| counts.get("descriptor").copied().unwrap_or_default();
        let descriptor = of(&handles.by_holder) - of(&handles.unaccounted_by_holder);
        ensure!(
            handles.accounted - descriptor == handles.hidden,
            "hidden is what is counted and has no descriptor: {handles:?}"
        );
        let Residual { min, max, .. } = &self.residual;
        ensure!(min.is_some() == max.is_some() && min <= max, "{:?}", self.residual);
        self.processes.iter().try_for_each(Process::check)
    }

    /// A process; `None` when it holds nothing or was not seen.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }
}

impl Process {
    fn check(&self) -> Result<()> {
        let Self { pid, comm, handles, by_holder, .. } = self;
        let sum = by_holder.values().sum::<u64>();
        ensure!(sum == *handles, "{comm} {pid} holds {handles} handles, and {sum} by {by_holder:?}");
        Ok(())
    }

    /// References to all files, by holder.
    #[must_use]
    pub fn references(&self) -> Counts {
        let mut all = BTreeMap::new();
        for (holder, count) in self.files.iter().flat_map(|file| &file.holders) {
            *all.entry(holder.clone()).or_default() += count;
        }
        all
    }
}

impl Explained {
    /// Runs a command.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time.
    pub fn by(command: &mut Command) -> Result<Self> {
        let start = Instant::now();
        let finished = finish(command, TIMEOUT)?;
        Ok(Self { finished, time: start.elapsed() })
    }

    /// It did what it was asked for, without complaint; gives its standard output.
    ///
    /// # Errors
    /// When it failed.
    pub fn good(&self) -> Result<&str> {
        let Finished { status, stdout, stderr } = &self.finished;
        ensure!(status.code() == Some(0), "fdtrace explain: {status}: {stderr}");
        ensure!(!stderr.contains("panicked"), "{stderr}");
        Ok(stdout)
    }

    /// Its document.
    ///
    /// # Errors
    /// When it failed, or the document contradicts itself.
    pub fn document(&self) -> Result<Explanation> {
        Explanation::parse(self.good()?)
    }
}

/// `fdtrace explain` with arguments.
///
/// # Errors
/// When there is no fdtrace.
pub fn explain_command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Command> {
    let mut command = Command::new(binaries::fdtrace()?);
    command.arg("explain").args(arguments);
    Ok(command)
}

/// The document of `fdtrace explain --json` with arguments.
///
/// # Errors
/// When it fails.
pub fn explain<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Explanation> {
    let mut command = explain_command(["--json"].into_iter().chain(arguments))?;
    Explained::by(&mut command)?.document().with_context(|| format!("{command:?}"))
}

/// The text of `fdtrace explain` with arguments.
///
/// # Errors
/// When it fails.
pub fn explain_text<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
    Ok(Explained::by(&mut explain_command(arguments)?)?.good()?.to_owned())
}
