//! Interpreters of this machine: what is read of them against what they say of themselves.
#![expect(clippy::print_stderr, reason = "a test says what it leaves out")]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde::Deserialize;

use super::*;
use crate::runtimes::{Refusal, ScriptFrame};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/stacks/scripts/cases.py");
/// Each case has fewer.
const MAX_CALLS: usize = 600;

/// What the script says when it stands still.
#[derive(Deserialize)]
struct Stand {
    case: String,
    thread: u64,
    frames: Vec<(String, String, u32)>,
}

/// A script that stands still until it is told to go on.
struct Script(Child, BufReader<std::process::ChildStdout>);

impl Script {
    fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an interpreter");
        let says = BufReader::new(child.stdout.take().expect("its output"));
        Self(child, says)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line
    }

    fn next(&mut self) -> Option<Stand> {
        let line = self.line();
        (!line.is_empty()).then(|| serde_json::from_str(&line).expect("a stand"))
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().expect("its input").write_all(b"\n").expect("room");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What pyenv has installed.
fn folders() -> impl Iterator<Item = PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    versions.into_iter().flatten().flatten().map(|entry| entry.path())
}

/// CPython 3, as pyenv and distributions install it.
fn interpreters() -> BTreeSet<PathBuf> {
    let packaged = (6..=20).map(|minor| PathBuf::from(format!("/usr/bin/python3.{minor}")));
    let all = folders().map(|folder| folder.join("bin/python3")).chain(packaged);
    all.filter_map(|path| path.canonicalize().ok()).collect()
}

#[test]
fn frames_are_those_that_a_script_sees_itself() {
    let interpreters = interpreters();
    if interpreters.is_empty() {
        eprintln!("skipped: no CPython 3 is installed");
    }
    for python in interpreters {
        let cases = compare(&python);
        assert!(cases >= 30, "{} stopped after {cases} cases", python.display());
    }
}

/// How many cases a version has passed.
fn compare(python: &Path) -> usize {
    let (mut script, readers, mut cases) =
        (Script::of(Command::new(python).arg(CASES)), Readers::of_test(), 0);
    while let Some(stand) = script.next() {
        let found = runtimes(script.0.id(), &readers, MAX_CALLS).expect("its memory");
        let frames = frames_of(&found, stand.thread);
        let wanted: Vec<ScriptFrame> = stand.frames.into_iter().map(frame).collect();
        let context = format!("{}: {}", python.display(), stand.case);
        assert_eq!(frames.len(), wanted.len(), "{context}: {frames:?}");
        for (found, wanted) in frames.iter().zip(&wanted) {
            assert_eq!(found, wanted, "{context}");
        }
        cases += 1;
        script.go_on();
    }
    cases
}

fn frame((function, file, line): (String, String, u32)) -> ScriptFrame {
    ScriptFrame { function, file, line: Some(line) }
}

/// The frames of a thread of the one runtime.
fn frames_of(found: &Runtimes, pthread: u64) -> Vec<ScriptFrame> {
    let [runtime] = &found.found[..] else { panic!("{} runtimes", found.found.len()) };
    assert_eq!(runtime.sighting.found.as_ref().err(), None, "{:?}", runtime.sighting.version);
    let thread = runtime.threads.iter().find(|thread| thread.pthread == pthread);
    thread.expect("the thread").frames.clone()
}

/// The third line waits, in a block of one statement.
const WAITS: &str = "sub waits {
    if (1) {
        <STDIN>;
    }
}
sub calls { eval { waits() } }
$| = 1; print qq({}\\n); calls();";

#[test]
fn frames_of_perl_are_those_of_its_script() {
    let perl = Path::new("/usr/bin/perl");
    if !perl.exists() {
        eprintln!("skipped: no Perl is installed");
        return;
    }
    let mut script = Script::of(Command::new(perl).args(["-e", WAITS]));
    script.line();
    let wanted = [("main::waits", 3), ("main::calls", 6), ("{main}", 7)];
    let wanted = wanted.map(|(function, line)| frame((function.to_owned(), "-e".to_owned(), line)));
    // It has said so before it waits.
    let frames = (0..100).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let found = runtimes(script.0.id(), &Readers::of_test(), MAX_CALLS).expect("its memory");
        frames_of(&found, 0)
    });
    let found: Vec<_> = frames.take_while(|frames| frames != &wanted).collect();
    assert!(found.len() < 100, "{:?}", found.last());
}

#[test]
fn a_process_without_a_runtime_has_none() {
    let found = runtimes(std::process::id(), &Readers::of_test(), 1).expect("own memory");
    assert!(found.found.is_empty() && found.unread.is_empty());
}

#[test]
fn what_is_too_old_is_told() {
    let python = folders().map(|folder| folder.join("bin/python2.7")).find(|path| path.exists());
    let Some(python) = python else {
        eprintln!("skipped: no CPython 2.7 is installed");
        return;
    };
    let mut script = Script::of(
        Command::new(python).args(["-c", "print('{}'); raw_input()"]).env("PYTHONUNBUFFERED", "1"),
    );
    script.line();
    let found = runtimes(script.0.id(), &Readers::of_test(), 1).expect("its memory").found;
    let sighting = found.into_iter().map(|found| found.sighting).next().expect("a runtime");
    assert_eq!((sighting.version.as_deref(), sighting.found), (Some("2.7"), Err(Refusal::UnknownVersion)));
}
