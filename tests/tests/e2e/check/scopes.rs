//! Scopes that the command announces: what is asked about them, and what is said of them in the end.

use super::{Finished, Result, check, check_script, ends};
use anyhow::{Context as _, bail, ensure};
use fdtrace_tests::harness::{NOBODY, Scratch, TIMEOUT, fdtrace, finish, turn, workload};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

/// A check of a program that speaks.
struct Spoken {
    finished: Finished,
    /// Its answers, in their order.
    answers: Vec<Value>,
    /// What `--json-out` says.
    document: Value,
    junit: String,
}

fn speak(options: &[&str], actions: &[&str]) -> Result<Spoken> {
    let scratch = Scratch::new()?;
    let path = |name: &str| scratch.path().join(name);
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    let program = scratch.copy(&workload()?)?;
    let command = check(options, &[])?;
    let end = command.get_args().count() - 1;
    let mut words: Vec<_> = command.get_args().take(end).map(ToOwned::to_owned).collect();
    words.extend([
        "--json-out".into(),
        path("json").into(),
        "--junit-out".into(),
        path("xml").into(),
        "--".into(),
    ]);
    words.extend([program.into(), "--speak".into()]);
    words.extend(actions.iter().map(Into::into));
    let mut spoken = std::process::Command::new(command.get_program());
    let finished = finish(spoken.args(words), TIMEOUT)?;
    let lines = finished.stdout.lines();
    let answers = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| json!(line))).collect();
    let document = fs::read_to_string(path("json")).with_context(|| finished.stderr.clone())?;
    let document = serde_json::from_str(&document).with_context(|| finished.stderr.clone())?;
    Ok(Spoken { finished, answers, document, junit: fs::read_to_string(path("xml"))? })
}

impl Spoken {
    /// Handles and duplicates, of the answers that have some.
    fn told(&self) -> Vec<(u64, u64)> {
        let numbers = self
            .answers
            .iter()
            .filter_map(|answer| Some((answer["handles"].as_u64()?, answer["duplicates"].as_u64()?)));
        numbers.collect()
    }

    /// Each scope's name, its verdict, and handles that it kept.
    fn found(&self) -> Vec<(&str, &str, u64)> {
        let scopes = self.document["scopes"].as_array().into_iter().flatten();
        scopes
            .map(|scope| {
                let kept = scope["kept"].as_array().into_iter().flatten();
                let kept = kept.filter_map(|kept| kept["handles"].as_u64()).sum();
                (scope["name"].as_str().unwrap_or("?"), scope["verdict"].as_str().unwrap_or("?"), kept)
            })
            .collect()
    }
}

#[test]
fn the_answer_counts_what_is_open_at_that_moment() -> Result<()> {
    let _turn = turn();
    let spoken = speak(
        &[],
        &[
            "open 3",
            "say begin a",
            "open 2",
            "say end a",
            "say begin b",
            "open 5",
            "close 5",
            "map",
            "say end b",
            "say begin c",
            "dup 3",
            "say end c",
            "say begin d",
            "open 1",
            "fork open 4",
            "say end d",
            "close 1",
            "say kept d",
            "close 2",
            "say kept c",
            "say done",
        ],
    )?;
    // A child has its end of a socket, and what its parent had open, too.
    let told = [(2, 0), (0, 0), (1, 3), (6, 0), (6, 0), (1, 1)];
    ensure!(spoken.told() == told, "{:?}", spoken.told());
    let site = &spoken.answers[1]["kept"][0];
    ensure!(site["calls"] == 2 && site["origin"] == "open", "{site}");
    ensure!(site["examples"][0]["name"] == "/etc/passwd", "{site}");
    let stack = site["stack"].as_array().context("no stack")?;
    ensure!(stack.iter().any(|frame| frame.as_str().is_some_and(|frame| frame.contains("keep"))), "{site}");
    Ok(())
}

#[test]
fn a_storm_between_two_lines_is_counted() -> Result<()> {
    let _turn = turn();
    let mut actions = Vec::new();
    for _ in 0..200 {
        actions.extend(["say begin storm", "open 7", "close 6", "say end storm", "close 1"]);
    }
    let spoken = speak(&[], &actions)?;
    ensure!(spoken.told() == vec![(1, 0); 200], "{:?}", spoken.told());
    ends(&spoken.finished, 0, "no leak")
}

#[test]
fn scopes_overlap_and_processes_speak_for_themselves() -> Result<()> {
    let _turn = turn();
    let spoken = speak(
        &[],
        &[
            "say begin outer",
            "open 1",
            "say begin inner",
            "open 2",
            "say end outer",
            "open 4",
            "say end inner",
            "fork say begin inner",
            "say begin last",
            "connect",
            "say end last",
            "say begin last",
            "open 1",
            "say end last",
        ],
    )?;
    ensure!(spoken.told() == [(3, 0), (6, 0), (1, 0)], "{:?}", spoken.answers);
    let errors: Vec<_> = spoken.answers.iter().filter_map(|answer| answer["error"].as_str()).collect();
    ensure!(errors == ["this scope has not begun"], "{:?}", spoken.answers);
    let names: Vec<_> = spoken.found().into_iter().map(|(name, ..)| name).collect();
    ensure!(names == ["outer", "inner", "inner", "last", "last"], "{names:?}");
    Ok(())
}

#[test]
fn what_is_closed_later_is_no_fault_of_its_scope() -> Result<()> {
    let _turn = turn();
    let spoken = speak(
        &[],
        &[
            "say begin fixture",
            "open 3",
            "say end fixture",
            "say begin never",
            "close 2",
            "open 1",
            "say nothing",
        ],
    )?;
    ensure!(
        spoken.found() == [("fixture", "kept", 1), ("never", "kept", 1)],
        "{}",
        spoken.document["scopes"]
    );
    let scopes = &spoken.document["scopes"];
    ensure!(
        scopes[0]["at_end"] == 3 && scopes[0]["duration_ns"].is_u64() && scopes[1]["duration_ns"].is_null(),
        "{scopes}"
    );
    Ok(())
}

/// As cargo-nextest and CTest run their tests: a process for each, and one check around them all.
#[test]
fn processes_that_join_are_scopes_by_their_arguments() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let (xml, program) = (scratch.path().join("xml"), workload()?);
    let (fdtrace, program) = (fdtrace()?.display().to_string(), program.display().to_string());
    let run = |words: &str| format!("{fdtrace} check --join -- {program} --speak {words} || exit 9; ");
    let script =
        run("'open 20'") + &run("'open 20' 'close 20'") + &run("'fork open 20' --exact leaks::here") + "true";
    let option = format!("--junit-out={}", xml.display());
    let Some(mut command) = check_script(&[&option], &script)? else { return Ok(()) };
    let finished = finish(&mut command, TIMEOUT)?;
    ends(&finished, 23, "LEAK")?;
    let junit = fs::read_to_string(xml)?;
    let cases: Vec<&str> =
        junit.lines().filter(|line| line.contains("fdtrace.scope")).map(str::trim).collect();
    let [first, second, third] = cases[..] else { bail!("{junit}") };
    ensure!(first.contains("--speak open 20&quot;") || first.contains("--speak open 20\""), "{first}");
    ensure!(!first.ends_with("/>") && second.ends_with("/>") && !third.ends_with("/>"), "{junit}");
    ensure!(third.contains("name=\"workload leaks::here\""), "{third}");
    Ok(())
}

#[test]
fn who_joins_nothing_is_checked_alone() -> Result<()> {
    let _turn = turn();
    let mut command = check(&["--join"], &[])?;
    command.arg(workload()?).args(["--speak", "open 20"]).env_remove("FDTRACE_SCOPE");
    ends(&finish(&mut command, TIMEOUT)?, 23, "LEAK: 20 files")
}

/// By the rule of call sites it is the site that leaks; its scopes are named with it.
#[test]
fn scopes_that_feed_a_leak_are_named() -> Result<()> {
    let _turn = turn();
    let spoken = speak(
        &[],
        &[
            "say begin tidy",
            "open 1",
            "close 1",
            "say end tidy",
            "say begin leaks",
            "open 20",
            "say end leaks",
            "say done",
        ],
    )?;
    ends(&spoken.finished, 23, "LEAK: 20 files")?;
    ensure!(spoken.finished.stderr.contains("leaks kept 20 files opened"), "{}", spoken.finished.stderr);
    ensure!(spoken.found() == [("tidy", "clean", 0), ("leaks", "leak", 20)], "{}", spoken.document["scopes"]);
    ensure!(spoken.junit.contains("<testcase name=\"tidy\" classname=\"fdtrace.scope\""), "{}", spoken.junit);
    ensure!(spoken.junit.contains("<failure message=\"leaks kept 20 files"), "{}", spoken.junit);
    Ok(())
}

#[test]
fn the_runner_has_the_last_word() -> Result<()> {
    let _turn = turn();
    let one = ["say begin one", "open 1", "say end one", "say fail one", "say done", "close 1"];
    let spoken = speak(&[], &one)?;
    ends(&spoken.finished, 23, "LEAK: one kept 1 file opened")?;
    ensure!(spoken.found() == [("one", "leak", 1)], "{}", spoken.document["scopes"]);
    let several = ["say begin cache", "open 20", "say end cache", "say pass cache", "say done", "close 20"];
    let spoken = speak(&[], &several)?;
    ends(&spoken.finished, 0, "no leak")?;
    ensure!(spoken.found() == [("cache", "kept", 20)], "{}", spoken.document["scopes"]);
    Ok(())
}

#[test]
fn who_breaks_the_rules_harms_nobody() -> Result<()> {
    let _turn = turn();
    let spoken = speak(
        &[],
        &[
            "say",
            "say begin",
            "say end x",
            "say BEGIN x",
            "say begin \u{202e}\u{1b}[2J",
            "raw half",
            "hang-up",
            "raw \\xff\\n",
            "answer",
            "long 4097",
            "answer",
            "hang-up",
            "long 1000000",
            "hang-up",
            "flood 1000",
            "say begin x",
            "hang-up",
        ],
    )?;
    ends(&spoken.finished, 0, "no leak")?;
    let refused = spoken.answers.iter().filter(|answer| answer["ok"] == false).count();
    ensure!(refused >= 6, "{:?}", spoken.answers);
    let shown = spoken.finished.stderr + &spoken.junit;
    ensure!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
    Ok(())
}

/// Answers that nobody reads fill the connection, and are given up.
#[test]
fn who_does_not_listen_is_left() -> Result<()> {
    let _turn = turn();
    let mut actions = vec!["silent begin deaf"];
    actions.resize(4000, "silent kept deaf");
    actions.extend(["connect", "say begin heard", "say end heard"]);
    let spoken = speak(&[], &actions)?;
    ends(&spoken.finished, 0, "no leak")?;
    ensure!(spoken.told() == [(0, 0)], "{:?}", spoken.answers);
    Ok(())
}

#[test]
fn only_the_commands_user_may_speak() -> Result<()> {
    let _turn = turn();
    let user = format!("user {NOBODY}");
    let spoken = speak(&[], &["say begin root", &user, "connect", "say begin stranger"])?;
    let said = spoken.finished.stderr.clone();
    ensure!(said.contains("Permission denied"), "{said}");
    ensure!(spoken.found().len() == 1, "{}", spoken.document["scopes"]);
    let option = format!("--user={NOBODY}:{NOBODY}");
    let spoken = speak(&[&option], &["say begin theirs", "open 1", "say end theirs"])?;
    ensure!(spoken.told() == [(1, 0)], "{:?} {}", spoken.answers, spoken.finished.stderr);
    Ok(())
}

#[test]
fn the_socket_is_gone_with_the_check() -> Result<()> {
    let _turn = turn();
    let mut command = check(&[], &["/bin/sh", "-c", "echo $FDTRACE_SCOPE; test -S $FDTRACE_SCOPE"])?;
    if !Path::new("/bin/sh").exists() {
        return Ok(());
    }
    let finished = finish(&mut command, TIMEOUT)?;
    ends(&finished, 0, "no leak")?;
    let socket = Path::new(finished.stdout.trim());
    let folder = socket.parent().filter(|_| socket.is_absolute()).context("no socket")?;
    ensure!(!folder.exists(), "{} is left", folder.display());
    Ok(())
}
