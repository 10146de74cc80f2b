//! The same of JavaScript, as Node.js runs it.

use super::{
    hostile::{checked, checked_with, lines_of, lost_stacks},
    hunt::{Hunted, hunt},
    interpreters::{Interpreter, nodes},
    traceback::{Subject, compare_run},
};
use anyhow::{Result, ensure};
use fdtrace_tests::harness::{Scratch, turn};
use std::{ffi::OsString, fs, path::Path, process::Command};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.js");

/// How it runs code, and by which options.
type Way = (&'static str, &'static [&'static str]);

/// In each of them some functions are optimised, inlined, or no longer valid, as the script asks for.
const WAYS: [Way; 12] = [
    ("as it likes", &[]),
    ("interpreted, then optimised", &["--no-sparkplug"]),
    ("baseline (Sparkplug), then optimised", &["--always-sparkplug"]),
    ("interpreted, TurboFan", &["--no-sparkplug", "--no-maglev"]),
    ("interpreted, Maglev, TurboFan", &["--no-sparkplug", "--maglev"]),
    ("baseline (Sparkplug), TurboFan", &["--always-sparkplug", "--no-maglev"]),
    ("baseline (Sparkplug), Maglev, TurboFan", &["--always-sparkplug", "--maglev"]),
    ("source positions from the start", &["--no-enable-lazy-source-positions"]),
    ("a copy of the interpreter for each function", &["--interpreted-frames-native-stack"]),
    ("collector that moves all objects", &["--stress-compaction"]),
    ("collector that runs all the time", &["--gc-interval=50"]),
    ("bytecode that is given up when unused", &["--stress-flush-code"]),
];

fn compare(node: &Interpreter, (code, options): Way) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path().join("cases.js"), CASES)?;
    let run = node.run_with(&scratch, |folder| {
        let options = options.iter().map(OsString::from);
        options.chain([folder.join("cases.js").into(), folder.join("files").into()]).collect()
    })?;
    // What opens a file is a script too.
    compare_run(&Subject { runtime: "V8", program: node, code }, &scratch, &run, "here", 217)
}

/// Whether it knows the options.
fn takes(node: &Path, options: &[&str]) -> bool {
    let run = Command::new(node).args(options).args(["-e", "0"]).output();
    run.is_ok_and(|run| run.status.success())
}

#[test]
fn stacks_of_javascript_are_its_own() -> Result<()> {
    let _turn = turn();
    for node in nodes() {
        for way in WAYS.into_iter().filter(|(_, options)| takes(&node, options)) {
            compare(&Interpreter::here(&node), way)?;
        }
    }
    Ok(())
}

/// A line that keeps one of a thousand files, while all functions on the way are compiled, inlined, and replaced in the loop that
/// runs. All before it have the same function at the same line.
const HOT: &str = r#"
const fs = require('fs');
function inner(path) {
  const list = [path];
  return fs.openSync(list[0]);
}
function outer(path, more) {
  return more +
    inner(path);
}
for (let i = 1; i <= 20000; i++) {
  const file = outer('/etc/passwd', 1) - 1;
  if (i % 1000 !== 0) fs.closeSync(file);
}
process.reallyExit(0);
"#;
/// Where it opens them, and how many it keeps.
const HOT_LINE: u64 = 5;
const HOT_KEPT: u64 = 20;

#[test]
fn a_line_of_javascript_that_gets_hot_is_one_site() -> Result<()> {
    let _turn = turn();
    for node in nodes() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.js");
        fs::write(&script, HOT)?;
        let (_, document) = checked(&scratch, Command::new(&node).arg(&script))?;
        let (lines, lost) = (lines_of(&document, &script.display().to_string()), lost_stacks(&document));
        let kept = lines.get(&HOT_LINE).copied().unwrap_or(0);
        let sites = document["sites"].as_array().into_iter().flatten();
        let sites = sites.filter(|site| site["user_stack"].to_string().contains("script.js")).count();
        let said = format!("{}: {lines:?} at {sites} sites, {lost} lost", node.display());
        ensure!(lines.keys().all(|line| *line == HOT_LINE) && sites == 1, "{said}");
        ensure!(kept == HOT_KEPT || (lost > 0 && kept > 0), "{said}");
    }
    Ok(())
}

/// Code that lies where other code was: of one name and one file, each with its own line of the call.
const REUSED: &str = r#"
const fs = require('fs'), vm = require('vm');
const [folder, name] = process.argv.slice(2);
for (let number = 0; number < 300; number++) {
  const source = '\n'.repeat(number % 90) + '(function made(fs, path) { return fs.openSync(path, "w"); })';
  fs.writeFileSync(name, source);
  vm.runInThisContext(source, { filename: name })(fs, `${folder}/${number}`);
  if (number % 10 === 9) gc();
}
"#;

/// The file is another one each time, so that only for the last text a line can be told: its call is in line 30, and was there four
/// times. What is found for others is none.
#[test]
fn code_of_javascript_that_takes_the_place_of_other_code() -> Result<()> {
    let _turn = turn();
    for node in nodes() {
        let scratch = Scratch::new()?;
        let (script, made) = (scratch.path().join("script.js"), scratch.path().join("made.js"));
        let folder = scratch.path().join("files");
        fs::write(&script, REUSED)?;
        fs::create_dir(&folder)?;
        let mut run = Command::new(&node);
        run.arg("--expose-gc").arg(&script).arg(&folder).arg(&made);
        let (_, document) = checked(&scratch, &run)?;
        let lines = lines_of(&document, &made.display().to_string());
        let (all, lost) = (lines.values().sum::<u64>(), lost_stacks(&document));
        let is_right = |(line, count): (&u64, &u64)| *line == 0 || (1..=90).contains(line) && *count <= 4;
        ensure!(all <= 300 && all + lost >= 297, "{}: {all}, {lost} lost: {lines:?}", node.display());
        ensure!(lines.iter().all(is_right), "{}: {lines:?}", node.display());
    }
    Ok(())
}

#[test]
fn names_of_javascript_that_are_made_up() -> Result<()> {
    let _turn = turn();
    let source = r#"
        const fs = require('fs'), vm = require('vm');
        const name = 'a\u001b[2J\n\u202e' + 'b'.repeat(5000);
        const run = vm.runInThisContext('(function (fs) { return fs.openSync("/etc/passwd"); })', { filename: name });
        for (let i = 0; i < 20; i++) run(fs);
    "#;
    for node in nodes() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.js");
        fs::write(&script, source)?;
        let (finished, document) = checked(&scratch, Command::new(&node).arg(script))?;
        let shown = finished.stdout + &finished.stderr;
        ensure!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{}: {shown}", node.display());
        let found = lines_of(&document, "a\u{1b}[2J");
        ensure!(found.values().sum::<u64>() >= 19, "{}: {found:?} {shown}", node.display());
    }
    Ok(())
}

/// Files that are opened in other threads: of two lines they are kept, of the third one closed. Its requests overlap.
const ASYNCHRONOUS: &str = r#"
const fs = require('fs');
const kept = [];

const called = name => new Promise(done => {
  fs.open(name, 'r', (error, file) => { kept.push(file); done(); });
});

async function awaited(name) {
  kept.push(await fs.promises.open(name, 'r'));
}

async function closed(name) {
  const file = await fs.promises.open(name, 'r');
  await file.close();
}

async function all() {
  for (let round = 0; round < 20; round++) {
    await Promise.all([called('/etc/passwd'), awaited('/etc/hosts'), closed('/etc/group')]);
  }
  process.reallyExit(0);
}
all();
"#;
/// Where, counted by hand.
const CALLED: u64 = 6;
const AWAITED: u64 = 10;

#[test]
fn files_that_other_threads_open_for_javascript() -> Result<()> {
    let _turn = turn();
    for node in nodes() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.js");
        fs::write(&script, ASYNCHRONOUS)?;
        // A Node.js that is installed is known before the tracer gives up what it can do; this one is met later.
        let elsewhere = scratch.path().join("node");
        fs::copy(&node, &elsewhere)?;
        let mut run = Command::new(&elsewhere);
        run.arg(&script);
        let (finished, document) = checked_with(&scratch, &["--async"], &run)?;
        let (lines, lost) = (lines_of(&document, &script.display().to_string()), lost_stacks(&document));
        let is_it = |line| lines.get(&line).is_some_and(|count| *count <= 20 && count + lost >= 20);
        ensure!(
            lines.len() == 2 && is_it(CALLED) && is_it(AWAITED),
            "{lines:?}, {lost} lost: {}",
            finished.stderr
        );
        let (finished, document) = checked(&scratch, &run)?;
        let lines = lines_of(&document, &script.display().to_string());
        ensure!(lines.is_empty() && finished.stderr.contains("--async"), "{lines:?}: {}", finished.stderr);
    }
    Ok(())
}

/// What a compiler made of ten lines more, and says so in a map: each line is of one line.
const COMPILED: &str = r#"
const fs = require('fs');
function load(path) {
  return fs.openSync(path);
}
for (let i = 0; i < 20; i++) load('/etc/passwd');
"#;
const MAP: &str =
    r#"{"version":3,"sources":["../src/app.ts"],"names":[],"mappings":"AAUA;AACA;AACA;AACA;AACA;AACA"}"#;
/// The same in base64.
const MAP_INSIDE: &str = concat!(
    "data:application/json;base64,",
    "eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIi4uL3NyYy9hcHAudHMiXSwibmFtZXMiOltdLCJtYXBw",
    "aW5ncyI6IkFBVUE7QUFDQTtBQUNBO0FBQ0E7QUFDQTtBQUNBIn0=",
);
/// Where the source opens its files.
const SOURCE_LINE: u64 = 14;

#[test]
fn a_call_is_where_its_source_map_says() -> Result<()> {
    let _turn = turn();
    for node in nodes() {
        for address in ["app.js.map", MAP_INSIDE] {
            let scratch = Scratch::new()?;
            let folder = scratch.path().join("dist");
            fs::create_dir(&folder)?;
            let script = folder.join("app.js");
            fs::write(&script, format!("{COMPILED}//# sourceMappingURL={address}\n"))?;
            fs::write(folder.join("app.js.map"), MAP)?;
            let (_, document) = checked(&scratch, Command::new(&node).arg(&script))?;
            let source = scratch.path().join("src/app.ts").display().to_string();
            let lines = lines_of(&document, &source);
            let found = lines.get(&SOURCE_LINE).copied().unwrap_or(0);
            ensure!(lines.len() == 1 && found >= 19, "{}: {lines:?}", node.display());
        }
    }
    Ok(())
}

/// A service that keeps a file in one of its requests, and closes it in all others. Its functions are compiled on the way.
const SERVICE: Hunted = Hunted {
    file: "service.mjs",
    source: r#"
import fs from 'node:fs';
import readline from 'node:readline';

const kept = [];

function loadConfig(name) {
  const file = fs.openSync(name);
  if (name.endsWith('hosts')) {
    kept.push(file);
  } else {
    fs.closeSync(file);
  }
}

console.log('ready');
for await (const line of readline.createInterface({ input: process.stdin })) {
  for (let request = 0; request < +line; request++) {
    loadConfig('/etc/passwd');
    loadConfig('/etc/hosts');
  }
  console.log('done');
}
process.reallyExit(0);
"#,
    function: "loadConfig",
    line: 8,
    of_runtime: "Builtins_",
};

#[test]
fn a_leak_in_javascript_is_found() -> Result<()> {
    let _turn = turn();
    nodes().iter().try_for_each(|node| hunt(node, &SERVICE))
}
