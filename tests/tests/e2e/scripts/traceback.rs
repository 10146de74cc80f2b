//! Frame by frame, in each version that is installed.

use super::{
    hostile::lost_stacks,
    interpreters::{IN_ROOT, Interpreter, numbered, pythons},
    traced,
};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Scratch, TIMEOUT, finish, say, turn};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::HashMap, fs, process::Command};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.py");

/// What the script says before it opens a file.
#[derive(Deserialize)]
struct Stand {
    case: String,
    frames: Vec<(String, String, u32)>,
}

/// So many stacks may have no lines.
const FEW: usize = 1;
/// Of a stack that has more frames, these are told at least; the innermost ones.
const TOLD: usize = 100;

#[test]
fn is_the_languages_own() -> Result<()> {
    let _turn = turn();
    for python in Interpreter::all(pythons(), numbered("python", 3, 6..=14)) {
        compare(&python, "cases.py", CASES, 30)?;
    }
    Ok(())
}

/// Compares each stack of the script with what it says itself; it says at least so many. No frame may be another. A stack may have
/// none: memory that the kernel moves at that moment cannot be read; but not many may.
pub(super) fn compare(program: &Interpreter, name: &str, script: &str, least: usize) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path().join(name), script)?;
    compare_run(&program.to_string(), &scratch, &program.run(&scratch, name)?, "", least)
}

/// The same of a program that is run in that way. What it calls to open a file may have functions in its language too, which it does
/// not know: its own have names that begin so.
pub(super) fn compare_run(
    program: &str,
    scratch: &Scratch,
    run: &Command,
    own: &str,
    least: usize,
) -> Result<()> {
    let compared = compared(scratch, run, own).with_context(|| program.to_owned())?;
    let Compared { right, all, lost, late } = compared;
    say(&format!("{program}: {right} of {all} stacks as the script has them, {late} too early, {lost} lost"));
    ensure!(all >= least, "{program} stopped early");
    // Nobody can know of it before it begins where no tracer looks for what is installed.
    let early = if run.get_program() == IN_ROOT { late } else { 0 };
    let is_right = right > 0 && right + early + FEW + lost >= all;
    ensure!(is_right, "{program}: {right} of {all} have lines, {late} were too early, {lost} were lost");
    Ok(())
}

/// How many stacks of the script are as it says itself, and of how many; and how many of all stacks were lost, by fdtrace's own
/// count: on a busy machine the tables of what they led through are read late.
struct Compared {
    right: usize,
    all: usize,
    lost: usize,
    /// How many before the first one that has lines: it takes its time to recognise an interpreter.
    late: usize,
}

fn compared(scratch: &Scratch, run: &Command, own: &str) -> Result<Compared> {
    let path = |name: &str| scratch.path().join(name);
    fs::create_dir(path("files"))?;
    let mut command = traced("check")?;
    command.arg("--json-out").arg(path("json")).arg("--").arg(run.get_program()).args(run.get_args());
    let finished = finish(&mut command, 4 * TIMEOUT)?;
    let document = fs::read_to_string(path("json")).with_context(|| finished.stderr.clone())?;
    let mut stacks = HashMap::new();
    let document = serde_json::from_str(&document)?;
    collect(&document, &mut stacks);
    let stands = finished.stdout.lines().filter(|line| line.starts_with('{'));
    let stands: Vec<Stand> = stands.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (mut right, mut late) = (0, 0);
    for (number, Stand { case, frames }) in stands.iter().enumerate() {
        // In another root the path begins otherwise.
        let file = format!("files/case-{number}");
        // Those without a stack are one site, which gives a few of its names.
        let told = stacks.get(&file).map_or(&[][..], Vec::as_slice);
        if told.is_empty() {
            say(&format!("{case}: no lines"));
            late += usize::from(right == 0);
            continue;
        }
        right += 1;
        let first = told.iter().position(|(function, ..)| function.starts_with(own));
        let told = &told[first.unwrap_or_default()..];
        let is_deep = frames.len() > TOLD && told.len() >= TOLD;
        let wanted = if is_deep { &frames[..told.len().min(frames.len())] } else { frames };
        ensure!(told == wanted, "{case}: {told:?} instead of {wanted:?}");
    }
    Ok(Compared { right, all: stands.len(), lost: lost_stacks(&document).try_into()?, late })
}

/// The script frames of each site, by the names of its files, each the last two parts of its path.
fn collect(document: &Value, stacks: &mut HashMap<String, Vec<(String, String, u32)>>) {
    if let Some(frames) = document["user_stack"].as_array() {
        let frames: Vec<_> = frames.iter().filter(|frame| frame["runtime"].is_string()).map(frame).collect();
        let examples = document["examples"].as_array().into_iter().flatten();
        for name in examples.filter_map(|example| example["name"].as_str()) {
            let start = name.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1);
            stacks.insert(name[start..].to_owned(), frames.clone());
        }
    }
    match document {
        Value::Object(fields) => fields.values().for_each(|value| collect(value, stacks)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, stacks)),
        _ => {}
    }
}

fn frame(frame: &Value) -> (String, String, u32) {
    let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
    let line = frame["line"].as_u64().and_then(|line| u32::try_from(line).ok());
    (text("symbol"), text("file"), line.unwrap_or(0))
}
