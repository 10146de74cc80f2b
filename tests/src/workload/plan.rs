//! Which steps run, how often, and from how many threads.

use super::{
    ledger::Ledger,
    place::Place,
    steps::{Action, STEPS, names},
};
use anyhow::{Context as _, Result, anyhow};
use std::{str::FromStr, thread};

/// One step with its count, written `name=count`.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    action: &'static Action,
    count: u64,
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, count) = text.split_once('=').context("write a step as NAME=COUNT")?;
        let action = STEPS.iter().find(|action| action.name == name).ok_or_else(|| {
            let all = names().collect::<Vec<_>>().join(", ");
            anyhow!("no step is called {name:?}; there are {all}")
        })?;
        Ok(Self { action, count: count.parse().context("the count is a number")? })
    }
}

/// Steps and the number of threads that share their counts.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// How many threads share each step; steps that fork run in one.
    pub threads: u64,
}

impl Plan {
    /// Does everything once in a small way, so that nothing is done for the first time later.
    ///
    /// # Errors
    /// When a step fails.
    pub fn warm_up(&self, place: &Place) -> Result<()> {
        let small = |step: &Step| Step { count: step.count.min(self.threads), ..*step };
        let plan = Self { steps: self.steps.iter().map(small).collect(), threads: self.threads };
        let mut ledger = Ledger::default();
        plan.run(place, &mut ledger)?;
        ledger.close();
        Ok(())
    }

    /// Runs the steps.
    ///
    /// # Errors
    /// When a step fails; the ledger may then be short.
    pub fn run(&self, place: &Place, ledger: &mut Ledger) -> Result<()> {
        for step in &self.steps {
            self.run_step(step, place, ledger).with_context(|| step.action.name)?;
        }
        Ok(())
    }

    fn run_step(&self, step: &Step, place: &Place, ledger: &mut Ledger) -> Result<()> {
        if self.threads <= 1 || step.action.forks {
            return (step.action.run)(place, step.count, ledger);
        }
        let books: Vec<Result<Ledger>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads)
                .map(|index| scope.spawn(move || run_share(step, place, self.share(step.count, index))))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
                .collect()
        });
        books.into_iter().try_for_each(|book| {
            ledger.append(book?);
            Ok(())
        })
    }

    fn share(&self, count: u64, index: u64) -> u64 {
        count / self.threads + u64::from(index < count % self.threads)
    }
}

fn run_share(step: &Step, place: &Place, count: u64) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    (step.action.run)(place, count, &mut ledger)?;
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let plan = Plan { steps: Vec::new(), threads: 8 };
        assert_eq!((0..8).map(|index| plan.share(1003, index)).sum::<u64>(), 1003);
    }

    #[test]
    fn a_step_that_does_not_exist_is_refused_with_the_names_of_those_that_do() {
        let error = "dance=3".parse::<Step>().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("dance") && error.contains("pairs"), "{error}");
    }
}
