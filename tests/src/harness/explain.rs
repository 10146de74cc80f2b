//! `fdtrace explain` from the outside.

use super::{
    binaries,
    process::{Finished, finish},
    tracer::TIMEOUT,
};
use crate::truth::Counts;
use anyhow::{Context as _, Result, ensure};
use fdtrace::model::explain::{Document, ProcessLine, Residual, SCHEMA};
use std::{
    ops::Deref,
    process::Command,
    time::{Duration, Instant},
};

/// A document of `fdtrace explain --json` that holds what must hold for every one.
#[derive(Clone, Debug)]
pub struct Explanation(Document);

impl Deref for Explanation {
    type Target = Document;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
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
        let document: Document = serde_json::from_str(text)
            .with_context(|| format!("no document: {}", text.chars().take(2000).collect::<String>()))?;
        let document = Self(document);
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<()> {
        let Document { schema, file_nr, handles, .. } = &**self;
        ensure!(schema == SCHEMA, "schema {schema:?}");
        let file_nr = file_nr.as_ref().context("the kernel says nothing of the number of handles")?;
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
        self.processes.iter().try_for_each(check_process)
    }

    /// A process; `None` when it holds nothing or was not seen.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&ProcessLine> {
        self.processes.iter().find(|process| process.pid == pid)
    }
}

fn check_process(process: &ProcessLine) -> Result<()> {
    let ProcessLine { pid, comm, handles, by_holder, .. } = process;
    let sum = by_holder.values().sum::<u64>();
    ensure!(sum == *handles, "{comm} {pid} holds {handles} handles, and {sum} by {by_holder:?}");
    Ok(())
}

/// References to all files of a process, by holder.
#[must_use]
pub fn references(process: &ProcessLine) -> Counts {
    let mut all = Counts::new();
    for (holder, count) in process.files.iter().flat_map(|file| &file.holders) {
        *all.entry(holder.clone()).or_default() += count;
    }
    all
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
