//! Scripts that make it hard: code that comes and goes, names that are made up, versions beside each other, short lives.

use super::{interpreters::pythons, traced};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Finished, Scratch, TIMEOUT, finish, say, turn};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// Code objects that lie where others were: of one name, one file and one first line, each with its own line of the call.
const REUSED: &str = r#"
import os, sys
for number in range(1000):
    source = "\n" * (number % 90) + "os.open('%s/%d' % (folder, number), os.O_RDONLY)"
    open("%s/%d" % (sys.argv[1], number), "w").close()
    exec(compile(source, "<made>", "exec"), {"os": os, "folder": sys.argv[1], "number": number})
"#;

#[test]
fn code_that_takes_the_place_of_other_code() -> Result<()> {
    let _turn = turn();
    for python in pythons() {
        let scratch = Scratch::new()?;
        fs::write(scratch.path().join("script.py"), REUSED)?;
        let folder = scratch.path().join("files");
        fs::create_dir(&folder)?;
        let script = scratch.path().join("script.py");
        let (_, document) = checked(&scratch, Command::new(&python).arg(script).arg(&folder))?;
        let lines = lines_of(&document, "<made>");
        let all: u64 = lines.values().sum();
        let wrong: Vec<_> =
            (0..90).filter(|line| lines.get(&(line + 1)).copied().unwrap_or(0) > expected(*line)).collect();
        // A few may have no line, as in `traceback`, and those of lost stacks; none another. On a busy machine the tables of what
        // they led through are read late.
        let lost = lost_stacks(&document);
        ensure!(
            all <= 1000 && all + lost >= 990 && wrong.is_empty(),
            "{}: {all}, {lost} lost, {wrong:?}: {lines:?}",
            python.display()
        );
    }
    Ok(())
}

/// How many numbers below a thousand have this remainder.
pub(super) const fn expected(line: u64) -> u64 {
    (1000 - line).div_ceil(90)
}

#[test]
fn names_that_are_made_up() -> Result<()> {
    let _turn = turn();
    let source = "import os\n\
        name = 'a\\x1b[2J\\n\\u202e' + 'b' * 5000\n\
        code = compile('[os.open(\"/etc/passwd\", 0) for _ in range(20)]', name, 'exec')\n\
        exec(code.replace(co_name=name) if hasattr(code, 'replace') else code, {'os': os})\n";
    for python in pythons() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.py");
        fs::write(&script, source)?;
        let (finished, document) = checked(&scratch, Command::new(&python).arg(script))?;
        let shown = finished.stdout + &finished.stderr;
        ensure!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{}: {shown}", python.display());
        let found = lines_of(&document, "a\u{1b}[2J");
        ensure!(found.values().sum::<u64>() >= 19, "{}: {found:?} {shown}", python.display());
    }
    Ok(())
}

#[test]
fn versions_in_one_tree() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let script = scratch.path().join("script.py");
    fs::write(&script, "import os\nos.open('/etc/passwd', 0)\nos._exit(0)\n")?;
    let pythons = pythons();
    let run = |python: &Path| format!("{} {}; ", python.display(), script.display());
    let line: String = pythons.iter().map(|python| run(python)).collect();
    if pythons.is_empty() {
        return Ok(());
    }
    let (_, document) = checked(&scratch, Command::new("/bin/sh").args(["-c", &(line + "true")]))?;
    let found = lines_of(&document, &script.display().to_string());
    let calls: u64 = found.values().sum();
    // Each of them ends a moment after it has begun.
    say(&format!("{calls} of {} scripts that end at once have their line", pythons.len()));
    ensure!(found.keys().all(|line| *line == 2) && calls + 1 >= pythons.len() as u64, "{found:?}");
    Ok(())
}

/// Stacks that could not be had, by the trace's own count.
pub(super) fn lost_stacks(document: &Value) -> u64 {
    document["trace"]["lost"]["stacks"].as_u64().unwrap_or(0)
}

/// A check of a command, and its document.
pub(super) fn checked(scratch: &Scratch, command: &Command) -> Result<(Finished, Value)> {
    checked_with(scratch, &[], command)
}

/// The same with some options.
pub(super) fn checked_with(
    scratch: &Scratch,
    options: &[&str],
    command: &Command,
) -> Result<(Finished, Value)> {
    let file = scratch.path().join("json");
    let mut check = traced("check")?;
    check.args(options).arg("-v").arg("--json-out").arg(&file).arg("--").arg(command.get_program());
    let finished = finish(check.args(command.get_args()), 4 * TIMEOUT)?;
    let document = fs::read_to_string(file).with_context(|| finished.stderr.clone())?;
    Ok((finished, serde_json::from_str(&document)?))
}

/// How many calls sites have whose innermost script frame is of a file that begins so, by its line.
pub(super) fn lines_of(document: &Value, file: &str) -> BTreeMap<u64, u64> {
    let mut lines = BTreeMap::new();
    add(document, file, &mut lines);
    lines
}

fn add(document: &Value, file: &str, lines: &mut BTreeMap<u64, u64>) {
    let frames = document["user_stack"].as_array().into_iter().flatten();
    let file_of = |frame: &Value| frame["file"].as_str().unwrap_or_default().to_owned();
    // What Node.js has in its program is a script too; to 14 `fs.js`, `internal/fs/promises.js`.
    let is_of_node =
        |file: &str| file.starts_with("node:") || file.starts_with("internal/") || file == "fs.js";
    let is_its_own = |frame: &&Value| frame["runtime"].is_string() && !is_of_node(&file_of(frame));
    let innermost = frames.clone().find(is_its_own);
    if let Some(frame) = innermost.filter(|frame| file_of(frame).starts_with(file)) {
        let calls = document["calls"].as_u64().or_else(|| document["handles"].as_u64());
        *lines.entry(frame["line"].as_u64().unwrap_or(0)).or_default() += calls.unwrap_or(0);
    }
    match document {
        Value::Object(fields) => fields.values().for_each(|value| add(value, file, lines)),
        Value::Array(values) => values.iter().for_each(|value| add(value, file, lines)),
        _ => {}
    }
}
