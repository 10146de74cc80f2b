//! What the check ends with.

use super::{CLEAN, LEAK, check, check_script, ends, ran, work};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Scratch, turn};

#[test]
fn the_commands_own() -> Result<()> {
    let _turn = turn();
    for (line, status) in [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 23", 23),
        ("exit 255", 255),
        ("raise 9", 137),
        ("raise 15", 143),
    ] {
        ends(&work(&[], CLEAN, line)?, status, "no leak").with_context(|| line.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_leak_is_23() -> Result<()> {
    let _turn = turn();
    for line in ["exit 0", "exit 1"] {
        ends(&work(&[], LEAK, line)?, 23, "LEAK").with_context(|| line.to_owned())?;
    }
    ends(&work(&["--leak-exit-code", "7"], LEAK, "exit 0")?, 7, "LEAK")?;
    ends(&work(&["--leak-exit-code", "0"], LEAK, "exit 0")?, 0, "LEAK")
}

#[test]
fn what_cannot_be_run() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let plain = scratch.path().join("plain");
    std::fs::write(&plain, "no program")?;
    let plain = plain.to_string_lossy();
    ends(&ran(&mut check(&[], &["/no/such/command"])?)?, 127, "/no/such/command")?;
    ends(&ran(&mut check(&[], &["no-such-command"])?)?, 127, "no-such-command")?;
    ends(&ran(&mut check(&[], &[&plain])?)?, 126, &plain)?;
    ends(&ran(&mut check(&[], &["/proc"])?)?, 126, "/proc")
}

/// A ring of a page is too small for a storm: whatever is said then, it is not that nothing leaks.
#[test]
fn lost_events_are_never_clean() -> Result<()> {
    let _turn = turn();
    let Some(mut command) = check_script(
        &["--ring-size", "4K"],
        "i=0; while [ $i -lt 300 ]; do (: </dev/null; : </dev/null) & i=$((i+1)); done; wait",
    )?
    else {
        return Ok(());
    };
    let finished = ran(&mut command)?;
    let lost = finished.stderr.contains("INCONCLUSIVE");
    let status = finished.status.code();
    ensure!(status == Some(if lost { 24 } else { 0 }), "{}: {}", finished.status, finished.stderr);
    Ok(())
}
