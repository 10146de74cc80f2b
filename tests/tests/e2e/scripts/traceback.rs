//! Frame by frame, in each version that is installed.

use super::{
    hostile::lost_stacks,
    interpreters::{IN_ROOT, Interpreter, numbered, pythons},
    traced,
};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Scratch, TIMEOUT, finish, say, turn};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    fs,
    process::Command,
};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.py");

/// What the script says before it opens a file.
#[derive(Deserialize)]
struct Stand {
    case: String,
    frames: Vec<Said>,
}

/// Function, file and line of a call, and its column where the language tells.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Line(String, String, u32),
    Column(String, String, u32, u32),
}

impl Said {
    fn line(&self) -> (&str, &str, u32) {
        let (Self::Line(function, file, line) | Self::Column(function, file, line, _)) = self;
        (function, file, *line)
    }

    fn column(&self) -> Option<u32> {
        match self {
            Self::Column(.., column) => Some(*column),
            Self::Line(..) => None,
        }
    }
}

/// A call as fdtrace has it.
#[derive(Clone, Debug)]
struct Told {
    function: String,
    file: String,
    line: u32,
    column: Option<u32>,
}

impl Told {
    fn line(&self) -> (&str, &str, u32) {
        (&self.function, &self.file, self.line)
    }
}

/// All that a script says of columns, by function, file and line: calls of one line are one site, which has the column of the first.
struct Columns<'a>(HashSet<((&'a str, &'a str, u32), u32)>);

impl<'a> Columns<'a> {
    fn of(stands: &'a [Stand]) -> Self {
        let calls = stands.iter().flat_map(|stand| &stand.frames);
        Self(calls.filter_map(|call| Some((call.line(), call.column()?))).collect())
    }

    /// Whether calls are those that the script says, or the innermost ones of them where they are many.
    fn are(&self, said: &[Said], told: &[Told]) -> bool {
        let is_deep = said.len() > TOLD && told.len() >= TOLD;
        let wanted = if is_deep { &said[..told.len().min(said.len())] } else { said };
        told.len() == wanted.len() && wanted.iter().zip(told).all(|(said, told)| self.agree(said, told))
    }

    /// The same of one.
    fn agree(&self, said: &Said, told: &Told) -> bool {
        let is_column = |column| self.0.contains(&(said.line(), column));
        said.line() == told.line() && told.column.is_none_or(is_column)
    }
}

/// So many stacks may have no lines.
const FEW: usize = 1;
/// Of a stack that has more frames, these are told at least; the innermost ones.
const TOLD: usize = 100;

#[test]
fn is_the_languages_own() -> Result<()> {
    let _turn = turn();
    for python in Interpreter::all(pythons(), numbered("python", 3, 6..=14)) {
        compare("CPython", &python, "cases.py", CASES, 30)?;
    }
    Ok(())
}

/// Compares each stack of the script with what it says itself; it says at least so many. No frame may be another. A stack may have
/// none: memory that the kernel moves at that moment cannot be read; but not many may.
pub(super) fn compare(
    runtime: &'static str,
    program: &Interpreter,
    name: &str,
    script: &str,
    least: usize,
) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path().join(name), script)?;
    let subject = Subject { runtime, program, code: "as it likes" };
    compare_run(&subject, &scratch, &program.run(&scratch, name)?, "", least)
}

/// What is compared.
pub(super) struct Subject<'a> {
    pub(super) runtime: &'static str,
    pub(super) program: &'a Interpreter,
    /// How it runs code.
    pub(super) code: &'a str,
}

/// The same of a program that is run in that way. What it calls to open a file may have functions in its language too, which it does
/// not know: its own have names that begin so.
pub(super) fn compare_run(
    subject: &Subject<'_>,
    scratch: &Scratch,
    run: &Command,
    own: &str,
    least: usize,
) -> Result<()> {
    let Subject { runtime, program, code } = subject;
    let program = &format!("{program}, {code}");
    let compared = compared(scratch, run, own).with_context(|| program.to_owned())?;
    let Compared { right, all, lost, late, columns } = compared;
    say(&format!(
        "{program}: {right} of {all} stacks as the script has them, {late} too early, {lost} lost, {columns} columns"
    ));
    ensure!(all >= least, "{program} stopped early");
    // Nobody can know of it before it begins where no tracer looks for what is installed.
    let early = if run.get_program() == IN_ROOT { late } else { 0 };
    let is_right = right > 0 && right + early + FEW + lost >= all;
    ensure!(is_right, "{program}: {right} of {all} have lines, {late} were too early, {lost} were lost");
    let version = subject.program.version(scratch)?;
    // The table of docs/call-sites.md is made of these lines.
    let result = json!({"runtime": runtime, "version": version, "code": code, "stacks": all, "right": right,
                        "early": early, "lost": lost, "columns": columns});
    say(&format!("RESULT {result}"));
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
    /// How many calls have a column.
    columns: usize,
}

fn compared(scratch: &Scratch, run: &Command, own: &str) -> Result<Compared> {
    let path = |name: &str| scratch.path().join(name);
    fs::create_dir(path("files"))?;
    let mut command = traced("check")?;
    command.arg("--json-out").arg(path("json")).arg("--").arg(run.get_program()).args(run.get_args());
    let finished = finish(&mut command, 4 * TIMEOUT)?;
    let document = fs::read_to_string(path("json")).with_context(|| finished.stderr.clone())?;
    let document = serde_json::from_str(&document)?;
    let mut stacks = Stacks::default();
    stacks.collect(&document, own);
    let stands = finished.stdout.lines().filter(|line| line.starts_with('{'));
    let stands: Vec<Stand> = stands.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let said = Columns::of(&stands);
    let (mut right, mut late, mut columns) = (0, 0, 0);
    for (number, Stand { case, frames }) in stands.iter().enumerate() {
        // In another root the path begins otherwise.
        let file = format!("files/case-{number}");
        let Some(told) = stacks.of(&file, |told| said.are(frames, told)) else {
            say(&format!("{case}: no lines"));
            late += usize::from(right == 0);
            continue;
        };
        right += 1;
        ensure!(said.are(frames, told), "{case}: {told:?} instead of {frames:?}");
        columns += told.iter().filter(|call| call.column.is_some()).count();
    }
    Ok(Compared { right, all: stands.len(), lost: lost_stacks(&document).try_into()?, late, columns })
}

/// The calls of scripts of each site.
#[derive(Default)]
struct Stacks {
    /// By the names of its files, each the last two parts of its path.
    named: HashMap<String, Vec<Told>>,
    /// Of files that a site has beyond those that it names.
    others: Vec<(Vec<Told>, u64)>,
}

impl Stacks {
    fn collect(&mut self, document: &Value, own: &str) {
        if let Some(frames) = document["user_stack"].as_array() {
            let frames = frames.iter().filter(|frame| frame["runtime"].is_string()).map(frame);
            let frames: Vec<_> = frames.skip_while(|call| !call.function.starts_with(own)).collect();
            let examples = document["examples"].as_array().into_iter().flatten();
            let names: Vec<_> = examples.filter_map(|example| example["name"].as_str()).collect();
            let others = document["handles"].as_u64().unwrap_or(0).saturating_sub(names.len() as u64);
            if frames.is_empty() {
                return;
            }
            for name in names {
                let start = name.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1);
                self.named.insert(name[start..].to_owned(), frames.clone());
            }
            self.others.push((frames, others));
        }
        match document {
            Value::Object(fields) => fields.values().for_each(|value| self.collect(value, own)),
            Value::Array(values) => values.iter().for_each(|value| self.collect(value, own)),
            _ => {}
        }
    }

    /// Those of a file: by its name, or the ones that it should have where a site with these has more files than it names.
    fn of(&mut self, file: &str, should_be: impl Fn(&[Told]) -> bool) -> Option<&[Told]> {
        if let Some(told) = self.named.get(file) {
            return Some(told);
        }
        let (told, left) = self.others.iter_mut().find(|(told, left)| *left > 0 && should_be(told))?;
        *left -= 1;
        Some(told)
    }
}

fn frame(frame: &Value) -> Told {
    let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| frame[key].as_u64().and_then(|number| u32::try_from(number).ok());
    let line = number("line").unwrap_or(0);
    Told { function: text("symbol"), file: text("file"), line, column: number("column") }
}
