//! How often the verdict on growth is right, on series of which it is known whether they leak. Each goes as events through the
//! fold and is looked at every second, as a trace is. The same seeds, the same numbers: docs/growth.md has those of more.

mod families;
mod random;
mod series;

use families::Truth;
use fdtrace::model::Trend;
use random::Random;
use std::{collections::BTreeMap, thread};

/// Series of each kind, length and rate.
const RUNS: u64 = 3;
const LENGTHS: [u64; 2] = [10, 60];
/// Leaks of fewer handles are no miss, but too small to be reported.
const ENOUGH: u64 = 10;

/// Verdicts on the series of one truth.
#[derive(Default)]
struct Verdicts {
    runs: u64,
    growing: u64,
    /// Runs in which enough leaked, and how many of those were not called growing.
    large: u64,
    missed: u64,
    /// The kinds that were called growing, and those that were missed.
    named: BTreeMap<&'static str, u64>,
}

impl Verdicts {
    fn of(truth: Truth) -> Self {
        let mut verdicts = Self::default();
        let families = families::all();
        for family in families.iter().filter(|family| family.truth == truth) {
            for (length, rate) in
                LENGTHS.iter().flat_map(|length| family.rates.iter().map(move |rate| (*length, *rate)))
            {
                #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
                let seconds = length as f64;
                for seed in 0..RUNS {
                    let lives = (family.make)(&mut Random::new(seed), seconds, rate);
                    verdicts.add(family.name, &series::watch(&lives, length));
                }
            }
        }
        verdicts
    }

    fn add(&mut self, name: &'static str, outcome: &series::Outcome) {
        let is_growing = outcome.verdict == Trend::Growing;
        if is_growing == (outcome.leaked_early == 0) {
            *self.named.entry(name).or_default() += 1;
        }
        self.runs += 1;
        self.growing += u64::from(is_growing);
        if outcome.leaked_early >= ENOUGH {
            self.large += 1;
            self.missed += u64::from(!is_growing);
        }
    }
}

/// Whether `part` is at most so many per mille of `whole`.
fn at_most(part: u64, per_mille: u64, whole: u64) -> bool {
    part * 1000 <= per_mille * whole
}

#[test]
fn verdicts_are_right_as_often_as_the_page_says() {
    let [clean, leaking, too_short] = thread::scope(|scope| {
        [Truth::Clean, Truth::Leak, Truth::TooShort]
            .map(|truth| scope.spawn(move || Verdicts::of(truth)))
            .map(|half| half.join().expect("no panic"))
    });
    assert!(at_most(clean.growing, 10, clean.runs), "false alarms in {} runs: {:?}", clean.runs, clean.named);
    assert!(
        at_most(leaking.missed, 60, leaking.large),
        "missed in {} runs: {:?}",
        leaking.large,
        leaking.named
    );
    assert!(
        at_most(too_short.growing, 350, too_short.runs),
        "in {} runs: {:?}",
        too_short.runs,
        too_short.named
    );
}
