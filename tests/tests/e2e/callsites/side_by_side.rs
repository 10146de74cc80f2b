//! The same leaks with both ways to walk a stack, for the table in the documentation.

use super::{Running, SETTLED, programs};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    callsites::Score,
    harness::{Document, Tracer, say, turn},
};
use std::fmt::Write as _;

#[test]
fn frame_pointers_and_unwind_tables() -> Result<()> {
    let _turn = turn();
    let (pointers, tables) = (watched("fp")?, watched("dwarf")?);
    let mut table =
        "| program | leaked | whole chain, frame pointers | whole chain, unwind tables |\n|---|---:|---:|---:|".to_owned();
    for (pointers, tables) in pointers.iter().zip(&tables) {
        let percent = |named: u64| 100 * named / tables.leaks.max(1);
        let Line { name, leaks, named, .. } = tables;
        // Writing to a string cannot fail.
        let _ =
            write!(table, "\n| {name} | {leaks} | {} % | {} % |", percent(pointers.named), percent(*named));
    }
    say(&table);
    let imperfect: Vec<_> = tables.iter().filter(|line| !line.perfect).map(|line| &line.name).collect();
    ensure!(imperfect.is_empty(), "not whole with unwind tables: {imperfect:?}");
    Ok(())
}

/// A program, and how many of its leaks have their whole chain.
struct Line {
    name: String,
    leaks: u64,
    named: u64,
    /// All that can be had, but for what the table of the programs excuses.
    perfect: bool,
}

/// A line for each program.
fn watched(unwind: &str) -> Result<Vec<Line>> {
    let mut whole = programs()?;
    whole.retain(|program| !program.cut);
    let mut running = Running::start(whole)?;
    running.wait_until_ready()?;
    let pids = running.pids();
    let options = pids.iter().flat_map(|pid| ["-p", pid]).chain(["--unwind", unwind]);
    let tracer = Tracer::start(options).with_context(|| format!("--unwind {unwind}"))?;
    running.leak(|taught| tracer.wait_for(SETTLED, taught).map(drop))?;
    // What is not named after some looks, with everything seen, will not be.
    let seen = |document: &Document| running.scores(document).iter().all(|score| score.seen == score.leaks());
    tracer.wait_for(SETTLED, seen)?;
    let named = |document: &Document| running.scores(document).iter().all(Score::is_perfect);
    let document = tracer.wait_for(SETTLED / 12, named)?;
    let scores = running.scores(&document);
    let line = |score: &Score<'_>| {
        ensure!(score.mistaken == 0, "{unwind}: marked as complete, and wrong: {score}");
        let (leaks, named, perfect) = (score.leaks(), score.named, score.is_perfect());
        Ok(Line { name: score.name().to_owned(), leaks, named, perfect })
    };
    scores.iter().map(line).collect()
}
