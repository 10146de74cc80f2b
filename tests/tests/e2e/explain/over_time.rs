//! What grew since the last sample.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{
    BlockedReads, Explained, Explanation, Scratch, Workload, explain_command, explain_text, say, turn,
};
use std::fs;

/// What fits on one screen.
const SCREEN: usize = 25;

#[test]
fn a_saved_document_is_a_point_to_start_from() -> Result<()> {
    let _turn = turn();
    let started = Workload::start_if_possible("diff", ["kept=3000", "memfd=100"])?;
    let mut workload = started.context("it is not expected to be refused")?;
    let (scratch, options) = (Scratch::new()?, ["--json"]);
    let old = scratch.path().join("old.json");
    fs::write(&old, Explained::by(&mut explain_command(options)?)?.good()?)?;
    workload.go()?;
    let old = old.display().to_string();
    let text = explain_text(["--diff", &old])?;
    let screen = text.lines().take(SCREEN).collect::<Vec<_>>().join("\n");
    say(&screen);
    let pid = workload.pid().to_string();
    let named = screen.split(|character: char| !character.is_ascii_alphanumeric()).any(|word| word == pid);
    ensure!(named, "who grew is not named:\n{screen}");
    ensure!(screen.contains("3,1") || screen.contains("31"), "not by how much:\n{screen}");
    // The same as a document.
    let explained = Explained::by(&mut explain_command(["--json", "--diff", &old])?)?;
    serde_json::from_str::<serde_json::Value>(explained.good()?)?;
    Ok(())
}

/// Handles that no walk finds: the kernel counts them, and that is said.
#[test]
fn what_nobody_holds_grows_too() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().join("old.json");
    fs::write(&path, Explained::by(&mut explain_command(["--json"])?)?.good()?)?;
    let _blocked = BlockedReads::new(500)?;
    let text = explain_text(["--diff", &path.display().to_string()])?;
    // Their other ends are in our table, and those are named as well.
    ensure!(text.contains("  not found: "), "it is not said what the kernel counts:\n{text}");
    ensure!(!text.contains("Nothing grew"), "{text}");
    ensure!(text.contains(&format!("({})", std::process::id())), "{text}");
    Ok(())
}

#[test]
fn one_document_for_each_sample() -> Result<()> {
    let _turn = turn();
    let arguments = ["--json", "--interval", "200ms", "--count", "2"];
    let explained = Explained::by(&mut explain_command(arguments)?)?;
    let documents: Vec<_> = explained.good()?.lines().map(Explanation::parse).collect::<Result<_>>()?;
    ensure!(documents.len() == 2, "{} documents", documents.len());
    ensure!(explained.time.as_millis() >= 200, "two samples in {:?}", explained.time);
    Ok(())
}

/// Growth while it is watched: named, with a rate.
#[test]
fn growth_is_named() -> Result<()> {
    let _turn = turn();
    let started = Workload::start_if_possible("watch", ["--repeat", "--pause-ms", "5", "kept=10"])?;
    let mut workload = started.context("it is not expected to be refused")?;
    workload.repeat()?;
    let text = explain_text(["--interval", "1s", "--count", "2"])?;
    workload.stop()?;
    let pid = workload.pid().to_string();
    let named = text.split(|character: char| !character.is_ascii_alphanumeric()).any(|word| word == pid);
    ensure!(named, "who grows is not named:\n{text}");
    Ok(())
}
