//! Counts verdicts, and prints them.

use std::{io, io::Write, thread};

use fdtrace::report::Verdict;

use crate::{
    families::{Family, Truth},
    random::Random,
    series::{self, Outcome},
};

const LENGTHS: [u64; 3] = [10, 60, 600];

/// Leaks of fewer handles are no miss, but too small to be told.
const ENOUGH: u64 = 10;

/// Verdicts on one kind of series.
pub(crate) struct Row {
    name: &'static str,
    truth: Truth,
    seconds: u64,
    rate: Option<f64>,
    leaked: u64,
    runs: u64,
    verdicts: [u64; 5],
    growing_by_counts: u64,
    /// Runs in which enough leaked, and how many of those each rule missed.
    large: [u64; 3],
}

/// All kinds, lengths and rates, on two threads.
pub(crate) fn rows(families: &[Family], runs: u64) -> Vec<Row> {
    let tasks: Vec<(&Family, u64, f64)> = families
        .iter()
        .flat_map(|family| {
            LENGTHS
                .iter()
                .flat_map(move |length| family.rates.iter().map(move |rate| (family, *length, *rate)))
        })
        .collect();
    thread::scope(|scope| {
        let tasks = &tasks;
        let half = |first: usize| {
            scope.spawn(move || -> Vec<(usize, Row)> {
                let own = tasks.iter().enumerate().skip(first).step_by(2);
                own.map(|(index, (family, length, rate))| (index, row(family, *length, *rate, runs)))
                    .collect()
            })
        };
        let halves = [half(0), half(1)];
        let mut rows: Vec<(usize, Row)> =
            halves.into_iter().filter_map(|half| half.join().ok()).flatten().collect();
        rows.sort_by_key(|(index, _)| *index);
        rows.into_iter().map(|(_, row)| row).collect()
    })
}

fn row(family: &Family, seconds: u64, rate: f64, runs: u64) -> Row {
    let mut row = Row {
        name: family.name,
        truth: family.truth,
        seconds,
        rate: (family.rates.len() > 1).then_some(rate),
        leaked: 0,
        runs,
        verdicts: [0; 5],
        growing_by_counts: 0,
        large: [0; 3],
    };
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let length = seconds as f64;
    for seed in 0..runs {
        let lives = (family.make)(&mut Random::new(seed), length, rate);
        row.add(&series::watch(&lives, seconds));
    }
    row
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        let number = |verdict| match verdict {
            Verdict::Growing => 0,
            Verdict::Steady => 1,
            Verdict::Burst => 2,
            Verdict::Single => 3,
            Verdict::Unknown => 4,
        };
        self.verdicts[number(outcome.by_lifetimes)] += 1;
        self.growing_by_counts += u64::from(outcome.by_counts == Verdict::Growing);
        self.leaked += outcome.leaked;
        if outcome.leaked_early >= ENOUGH {
            self.large[0] += 1;
            self.large[1] += u64::from(outcome.by_lifetimes != Verdict::Growing);
            self.large[2] += u64::from(outcome.by_counts != Verdict::Growing);
        }
    }
}

/// The tables, and what they come to.
pub(crate) fn write(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let parts = [
        (Truth::Clean, "Nothing leaks"),
        (Truth::Leak, "Something leaks"),
        (Truth::TooShort, "Nothing leaks, but the time is too short to know"),
    ];
    for (truth, title) in parts {
        writeln!(out, "### {title}\n")?;
        let rows: Vec<&Row> = rows.iter().filter(|row| row.truth == truth).collect();
        write_part(out, &rows, truth == Truth::Leak)?;
        summary(out, &rows, truth)?;
    }
    Ok(())
}

fn write_part(out: &mut impl Write, rows: &[&Row], leaks: bool) -> io::Result<()> {
    let leaked = if leaks { " leaked |" } else { "" };
    writeln!(
        out,
        "| series | seconds | a second |{leaked} **growing** | steady | burst | single | unknown | growing by counts |"
    )?;
    let columns = if leaks { 10 } else { 9 };
    writeln!(out, "|---|{}", "--:|".repeat(columns - 1))?;
    for row in rows {
        let rate = row.rate.map_or(String::new(), |rate| rate.to_string());
        write!(out, "| {} | {} | {rate} |", row.name, row.seconds)?;
        if leaks {
            write!(out, " {} |", row.leaked / row.runs)?;
        }
        write!(out, " {} |", bold(row.verdicts[0], row.runs))?;
        for count in &row.verdicts[1..] {
            write!(out, " {} |", share(*count, row.runs))?;
        }
        writeln!(out, " {} |", share(row.growing_by_counts, row.runs))?;
    }
    writeln!(out)
}

fn summary(out: &mut impl Write, rows: &[&Row], truth: Truth) -> io::Result<()> {
    let sum = |number: fn(&Row) -> u64| rows.iter().map(|row| number(row)).sum::<u64>();
    let runs = sum(|row| row.runs);
    let (ours, theirs) = (sum(|row| row.verdicts[0]), sum(|row| row.growing_by_counts));
    match truth {
        Truth::Clean => writeln!(
            out,
            "False alarms: {} of {runs} runs ({}); by counts {}.\n",
            ours,
            exact(ours, runs),
            exact(theirs, runs)
        ),
        Truth::Leak => {
            let (large, missed) = (sum(|row| row.large[0]), sum(|row| row.large[1]));
            writeln!(
                out,
                "Missed: {missed} of {large} runs in which at least {ENOUGH} handles leaked ({}); by counts {}.\n",
                exact(missed, large),
                exact(sum(|row| row.large[2]), large)
            )
        }
        Truth::TooShort => writeln!(
            out,
            "Called growing: {} of {runs} runs; by counts {}.",
            exact(ours, runs),
            exact(theirs, runs)
        ),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn share(part: u64, whole: u64) -> String {
    match part {
        0 => String::new(),
        _ => format!("{:.1} %", percent(part, whole)),
    }
}

fn bold(part: u64, whole: u64) -> String {
    match part {
        0 => String::new(),
        _ => format!("**{}**", share(part, whole)),
    }
}

fn exact(part: u64, whole: u64) -> String {
    format!("{:.2} %", percent(part, whole))
}
