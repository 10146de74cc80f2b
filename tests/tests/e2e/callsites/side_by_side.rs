//! The same leaks with both ways to walk a stack, for the table in the documentation.

use super::{Running, SETTLED, programs};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    callsites::Score,
    harness::{Document, Tracer, say, turn},
};
use serde_json::json;

#[test]
fn frame_pointers_and_unwind_tables() -> Result<()> {
    let _turn = turn();
    watched("fp")?;
    let imperfect = watched("dwarf")?;
    ensure!(imperfect.is_empty(), "not whole with unwind tables: {imperfect:?}");
    Ok(())
}

/// Prints a line for each program, and gives the names of those that have not all their stacks.
fn watched(unwind: &str) -> Result<Vec<String>> {
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
    for score in &scores {
        ensure!(score.mistaken == 0, "{unwind}: marked as complete, and wrong: {score}");
        let line = json!({"program": score.name(), "unwind": unwind, "leaks": score.leaks(),
                          "seen": score.seen, "named": score.named});
        say(&format!("CALLSITE {line}"));
    }
    Ok(scores.iter().filter(|score| !score.is_perfect()).map(|score| score.name().to_owned()).collect())
}
