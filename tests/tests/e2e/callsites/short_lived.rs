//! Programs that leak to their end and are gone: `fdtrace record -- PROGRAM`.

use super::programs;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    callsites::{Program, Score},
    harness::{Document, Scratch, TIMEOUT, fdtrace, finish, kernel_release, record, say, turn},
};
use std::{path::Path, process::Command};

/// One for each language, and one without names.
const CHOSEN: [&str; 6] = ["plain", "static", "stripped", "templates", "release", "service"];

#[test]
fn a_report_names_the_leak_of_a_program_that_is_gone() -> Result<()> {
    let _turn = turn();
    if !tells_of_code() {
        say(
            "not run: before 6.1 the kernel side does not tell what a process had mapped, so its stack may be cut",
        );
        return Ok(());
    }
    let programs = programs()?;
    let chosen = programs.iter().filter(|program| CHOSEN.contains(&program.name.as_str()));
    let documents: Vec<_> = chosen
        .map(|program| Ok((program, recorded(program).with_context(|| program.name.clone())?)))
        .collect::<Result<_>>()?;
    let scores: Vec<_> =
        documents.iter().map(|(program, document)| Score::of_history(program, document)).collect();
    mostly_named(&scores)
}

/// The kernel side has room for some of the mappings that a stack points into: now and then the one that counts is not
/// among them. Then the stack is cut there, and says so.
fn mostly_named(scores: &[Score<'_>]) -> Result<()> {
    let cut: Vec<_> = scores.iter().filter(|score| !score.is_perfect()).map(ToString::to_string).collect();
    say(&format!("{} of {} programs have all their stacks", scores.len() - cut.len(), scores.len()));
    ensure!(scores.iter().all(Score::is_begun) && cut.len() * 2 < scores.len(), "{}", cut.join("\n"));
    Ok(())
}

/// From the kernel on that keeps mappings in a maple tree.
fn tells_of_code() -> bool {
    let release = kernel_release();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(1))
}

/// With an input that is at its end from the beginning the program waits for nothing.
fn recorded(program: &Program) -> Result<Document> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("trace");
    let ended = finish(record(&file)?.arg("--").arg(program.path()), TIMEOUT)?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    everything(&file)
}

fn everything(file: &Path) -> Result<Document> {
    let ended = finish(Command::new(fdtrace()?).args(["report", "--all", "--json"]).arg(file), TIMEOUT)?;
    Document::parse(&ended.stdout).with_context(|| ended.stderr.clone())
}
