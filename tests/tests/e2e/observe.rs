//! One workload, one tracer, and the comparison of the two.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::{Entry, Expectations, Load},
    harness::{Document, TIMEOUT, Tracer, Verdict, Workload, evaluate, kernel_release},
    truth::Truth,
};

/// A tracer that sees one workload and its children, and nothing else.
pub(crate) struct Observation {
    pub(crate) workload: Workload,
    pub(crate) tracer: Tracer,
    expected: Entry,
    load: Load,
}

impl Observation {
    /// Begins to trace a workload that is ready, with the backend of the environment.
    pub(crate) fn start(workload: Workload, load: Load, options: &[&str]) -> Result<Self> {
        let pid = workload.pid().to_string();
        let tracer = Tracer::start(["-p", &pid, "--follow"].iter().chain(options).copied())?;
        Self::of(workload, tracer, load)
    }

    /// As [`Self::start`], with a backend.
    pub(crate) fn start_with(backend: &str, workload: Workload, load: Load) -> Result<Self> {
        let pid = workload.pid().to_string();
        let tracer = Tracer::start_with(backend, ["-p", &pid, "--follow"])?;
        Self::of(workload, tracer, load)
    }

    fn of(workload: Workload, tracer: Tracer, load: Load) -> Result<Self> {
        let expected = Entry::load(&kernel_release(), &tracer.first.trace.backend)?;
        ensure!(
            tracer.first.trace.events.allocated == 0,
            "the workload made handles before it was told to: {:?}",
            tracer.first.trace.events
        );
        Ok(Self { workload, tracer, expected, load })
    }

    fn expectations(&self) -> Result<&Expectations> {
        self.expected.for_load(self.load)
    }

    /// Waits until the tracer shows the truth, at most as long as patience lasts: a kernel may release late.
    pub(crate) fn settle(&self, truth: &Truth) -> Result<Verdict> {
        let expectations = self.expectations()?;
        let good = |document: &Document| evaluate(truth, document, expectations).passes();
        Ok(evaluate(truth, &self.tracer.wait_for(TIMEOUT / 4, good)?, expectations))
    }

    /// Compares the truth with the tracer's last words.
    pub(crate) fn last_words(self, truth: &Truth) -> Result<(Verdict, Document)> {
        let ended = self.tracer.interrupt()?;
        ensure!(ended.status.success(), "fdtrace ended with {}: {}", ended.status, ended.stderr);
        let last = ended.last.context("no document after SIGINT")?;
        Ok((evaluate(truth, &last, self.expected.for_load(self.load)?), last))
    }
}
