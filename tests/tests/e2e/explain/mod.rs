//! `fdtrace explain`: what holds each handle, on a machine where that is known exactly.

mod alerts;
mod counts;
mod experiments;
mod focus;
mod growth;
mod handle;
mod hung;
mod limits;
mod linked;
mod moving;
mod names;
mod over_time;
mod overlay;
mod peers;
mod refusals;
mod scenarios;
mod traced;

use anyhow::{Context as _, Result, ensure};
use fdtrace::model::explain::ProcessLine as ExplainedProcess;
use fdtrace_tests::{
    expected::unseen_holders,
    harness::{Explanation, Workload, alone, explain, kernel_release, say},
    truth::{Counts, Truth, add, without_zeros},
};

/// A workload, and what was found before and after it made its handles.
pub(super) struct Held {
    pub(super) workload: Workload,
    pub(super) truth: Truth,
    pub(super) before: Explanation,
    pub(super) after: Explanation,
}

impl Held {
    /// Starts a workload and lets it make its handles; `None` where that is known not to be possible.
    pub(super) fn new(what: &str, arguments: &[&str]) -> Result<Option<Self>> {
        Self::with(what, arguments, &[])
    }

    /// As [`Self::new`], with options of `fdtrace explain`.
    pub(super) fn with(what: &str, arguments: &[&str], options: &[&str]) -> Result<Option<Self>> {
        let started = Workload::start_if_possible(what, arguments.iter().copied())?;
        let Some(mut workload) = started else { return Ok(None) };
        let before = explain(options.iter().copied())?;
        let truth = workload.go()?;
        let after = explain(options.iter().copied())?;
        Ok(Some(Self { workload, truth, before, after }))
    }

    /// The workload's main process has this number in the truth.
    fn own(&self) -> Result<u32> {
        let own = self.truth.pids().into_iter().find(|pid| self.is_main(*pid));
        own.context("the workload itself holds nothing")
    }

    fn is_main(&self, pid: u32) -> bool {
        self.workload.outer_pid(pid).is_ok_and(|outer| outer == self.workload.pid())
    }

    /// Compares each process of the workload, and all of the machine where nobody else is on it.
    pub(super) fn check(&self) -> Result<()> {
        let unseen = unseen_holders(&kernel_release())?;
        for (holder, reason) in &unseen {
            say(&format!("{holder} is not compared: {reason}"));
            ensure!(!self.after.partial.is_empty(), "{holder} is not seen, and that is not said");
        }
        let checked = Checked { held: self, unseen: unseen.into_keys().collect() };
        for pid in self.truth.pids() {
            checked.process(pid).with_context(|| format!("process {pid} of {:?}", self.truth))?;
        }
        checked.segments()?;
        if alone() { checked.machine() } else { Ok(()) }
    }
}

/// A comparison of what was found with the truth.
struct Checked<'a> {
    held: &'a Held,
    /// Holders of which nothing is expected.
    unseen: Vec<String>,
}

impl Checked<'_> {
    fn process(&self, inner: u32) -> Result<()> {
        let Held { workload, truth, before, after } = self.held;
        let pid = workload.outer_pid(inner)?;
        let main = before.process(workload.pid());
        let is_main = pid == workload.pid();
        let found = after.process(pid).with_context(|| format!("{pid} is not in the document"))?;
        // A process that was forked has the program and the libraries of its parent, and nothing else of it.
        let runs_another = truth.held_by(inner).any(|held| held.references.contains_key("executable"));
        let forked = is_main || !runs_another;
        let base = main.filter(|_| forked);
        let base_descriptors = base.filter(|_| is_main).map_or(0, |base| base.descriptors);
        let descriptors = found.descriptors.checked_sub(base_descriptors);
        ensure!(
            descriptors == Some(truth.descriptors_of(inner)),
            "descriptors: {base_descriptors} before, {found:?}"
        );
        let mut base_holders = base.map_or_else(Counts::new, |base| base.by_holder.clone());
        if !is_main {
            base_holders.remove("descriptor");
        }
        self.holders(&truth.holders_of(inner), &base_holders, &found.by_holder)?;
        self.hidden(inner, base, found)
    }

    /// What has come has come in the ways that are true.
    fn holders(&self, truth: &Counts, before: &Counts, after: &Counts) -> Result<()> {
        let mut expected = before.clone();
        truth.iter().for_each(|(holder, count)| add(&mut expected, holder, *count));
        let (mut expected, mut found) = (without_zeros(expected), without_zeros(after.clone()));
        for holder in &self.unseen {
            expected.remove(holder);
            found.remove(holder);
        }
        ensure!(expected == found, "by holder: before {before:?}, new {truth:?}, found {after:?}");
        Ok(())
    }

    fn hidden(&self, inner: u32, base: Option<&ExplainedProcess>, found: &ExplainedProcess) -> Result<()> {
        if !self.unseen.is_empty() {
            return Ok(());
        }
        let held = self.held.truth.held_by(inner).filter(|held| held.holder != "descriptor");
        let hidden: u64 = held.map(|held| held.handles).sum();
        let before = base.map_or(0, |base| base.hidden);
        ensure!(found.hidden == before + hidden, "hidden: {before} before, {hidden} new, found {found:?}");
        Ok(())
    }

    fn segments(&self) -> Result<()> {
        for segment in &self.held.truth.segments {
            let found =
                self.held.after.segments.iter().find(|found| found.shmid.cast_signed() == segment.shmid);
            let found = found.with_context(|| format!("no segment {}", segment.shmid))?;
            ensure!(found.attaches == segment.attaches, "{segment:?}, found {found:?}");
        }
        Ok(())
    }

    /// Each handle once.
    fn machine(&self) -> Result<()> {
        let Held { truth, before, after, .. } = self.held;
        self.holders(&truth.holders, &before.handles.by_holder, &after.handles.by_holder).context("all")?;
        if self.unseen.is_empty() {
            let (new, hidden) = (after.handles.total - before.handles.total, truth.hidden());
            ensure!(new == truth.live, "{} handles, found {new} more", truth.live);
            let found = after.handles.hidden.checked_sub(before.handles.hidden);
            ensure!(found == Some(hidden), "{hidden} are hidden, {found:?} more were found");
        }
        Ok(())
    }
}
