//! Where a leak is, in words that a person can use: programs that leak at a known place, in several languages and in all the
//! ways that make a stack hard to follow.

mod live;
mod recorded;
mod short_lived;
mod side_by_side;

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    callsites::{Program, Programs, Score},
    harness::{Document, Leaker, TIMEOUT, say},
};
use std::{env, time::Duration};

/// How long it may take until everything is named.
const SETTLED: Duration = TIMEOUT.saturating_mul(2);

/// Narrows the tests down to some programs, by their names with commas between.
const ONLY: &str = "CALLSITES_ONLY";

/// All programs that there are; says which there are not.
fn programs() -> Result<Vec<Program>> {
    let Programs { mut built, skipped } = Programs::load()?;
    skipped.iter().for_each(|(name, reason)| say(&format!("not run: {name}: {reason}")));
    if let Ok(only) = env::var(ONLY) {
        built.retain(|program| only.split(',').any(|name| name == program.name));
    }
    ensure!(!built.is_empty(), "no program was compiled");
    Ok(built)
}

/// All programs, each as a process.
struct Running {
    programs: Vec<(Program, Leaker)>,
}

impl Running {
    fn start(programs: Vec<Program>) -> Result<Self> {
        let start = |program: Program| {
            let leaker = Leaker::start(&program.path())?;
            Ok((program, leaker))
        };
        Ok(Self { programs: programs.into_iter().map(start).collect::<Result<_>>()? })
    }

    fn wait_until_ready(&self) -> Result<()> {
        self.each(Leaker::wait_until_ready)
    }

    /// Lets all of them leak, as soon as they can. Those whose first handles may have only the beginning of a stack go on
    /// when that is there: `look` waits for a document.
    fn leak(&mut self, look: impl FnOnce(&dyn Fn(&Document) -> bool) -> Result<()>) -> Result<()> {
        self.programs.iter_mut().try_for_each(|(_, leaker)| leaker.leak())?;
        let begins = |(program, _): &&(Program, Leaker)| program.partial > 0;
        self.programs.iter().filter(begins).try_for_each(|(_, leaker)| leaker.wait_until_begun())?;
        look(&|document| self.scores(document).iter().all(Score::has_taught))?;
        let partial = self.programs.iter_mut().filter(|(program, _)| program.partial > 0);
        partial.map(|(_, leaker)| leaker).try_for_each(Leaker::leak)?;
        self.each(Leaker::wait_until_leaked)
    }

    fn each(&self, wait: impl Fn(&Leaker) -> Result<()>) -> Result<()> {
        let wait = |(program, leaker): &(Program, Leaker)| wait(leaker).with_context(|| program.name.clone());
        self.programs.iter().try_for_each(wait)
    }

    fn pids(&self) -> Vec<String> {
        self.programs.iter().map(|(_, leaker)| leaker.pid().to_string()).collect()
    }

    fn scores(&self, document: &Document) -> Vec<Score<'_>> {
        let programs = self.programs.iter();
        programs.map(|(program, leaker)| Score::of_process(program, leaker.pid(), document)).collect()
    }
}

/// Every handle of every program has its stack; says of each how far that is so.
fn all_named(scores: &[Score<'_>]) -> Result<()> {
    let wrong: Vec<_> = scores.iter().filter(|score| !score.is_perfect()).map(ToString::to_string).collect();
    say(&format!("{} of {} programs have all their stacks", scores.len() - wrong.len(), scores.len()));
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
