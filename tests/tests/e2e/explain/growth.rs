//! What a comparison says of processes, groups and limits, to the last handle.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::unseen_holders,
    harness::{Explained, Scratch, Workload, explain_command, explain_text, kernel_release, turn},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

fn document(arguments: &[&str]) -> Result<Value> {
    let explained = Explained::by(&mut explain_command(arguments.iter().copied())?)?;
    Ok(serde_json::from_str(explained.good()?)?)
}

fn of_process(document: &Value, pid: u32) -> Result<&Value> {
    let processes = document["growth"]["processes"].as_array().context("no growth")?;
    processes.iter().find(|process| process["pid"] == pid).with_context(|| format!("{pid} is not told of"))
}

fn saved(scratch: &Scratch) -> Result<String> {
    let path = scratch.path().join("old.json");
    fs::write(&path, Explained::by(&mut explain_command(["--json"])?)?.good()?)?;
    Ok(path.display().to_string())
}

#[test]
fn what_is_new_is_counted_exactly() -> Result<()> {
    let _turn = turn();
    let unseen = unseen_holders(&kernel_release())?;
    let started = Workload::start_if_possible("growth", ["kept=300", "dups=50", "mapped=200"])?;
    let mut workload = started.context("it is not expected to be refused")?;
    let (scratch, pid) = (Scratch::new()?, workload.pid());
    let old = saved(&scratch)?;
    workload.go()?;
    let document = document(&["--json", "--diff", &old])?;
    let process = of_process(&document, pid)?;
    ensure!(process["state"] == "same", "{process}");
    // The file that is duplicated is one handle.
    ensure!(process["descriptors"]["change"] == 350, "{process}");
    if unseen.contains_key("mapping") {
        return Ok(());
    }
    ensure!(process["handles"]["change"] == 501, "{process}");
    ensure!(process["hidden"]["change"] == 200, "{process}");
    let groups = document["growth"]["hidden_groups"].as_array().context("no groups")?;
    let group = groups.iter().find(|group| {
        let processes = group["processes"].as_array().into_iter().flatten();
        group["count"]["change"] == 200 && processes.into_iter().any(|process| process["pid"] == pid)
    });
    ensure!(group.is_some(), "no such group: {groups:?}");
    Ok(())
}

/// Who came and who went since; the looking process itself is not told of.
#[test]
fn new_and_gone_processes() -> Result<()> {
    let _turn = turn();
    let start = || Workload::start_if_possible("comings", ["kept=10"])?.context("it is refused");
    let (scratch, before) = (Scratch::new()?, start()?);
    let gone = before.pid();
    let old = saved(&scratch)?;
    before.end()?;
    let after = start()?;
    let document = document(&["--json", "--diff", &old])?;
    ensure!(of_process(&document, gone)?["state"] == "gone", "{document}");
    ensure!(of_process(&document, after.pid())?["state"] == "new", "{document}");
    let own = document["taken_by"].as_u64().context("nobody took it")?;
    ensure!(of_process(&document, u32::try_from(own)?).is_err(), "it tells of itself: {document}");
    let text = explain_text(["--diff", &old])?;
    ensure!(text.contains(&format!("({gone})")), "who is gone is not named:\n{text}");
    Ok(())
}

/// A number of handles of a process that has fewer than that is reached at a moment that can be reported.
#[test]
fn the_time_until_the_limit() -> Result<()> {
    let _turn = turn();
    let started = Workload::start_if_possible("limit", ["--repeat", "--pause-ms", "5", "kept=10"])?;
    let mut workload = started.context("it is not expected to be refused")?;
    workload.repeat()?;
    let arguments = ["--json", "--interval", "1s", "--count", "2"];
    let explained = Explained::by(&mut explain_command(arguments)?)?;
    workload.stop()?;
    let last = explained.good()?.lines().last().context("no documents")?;
    let document: Value = serde_json::from_str(last)?;
    let process = of_process(&document, workload.pid())?;
    let limit = &process["limit"];
    let number = |key: &str| limit[key].as_f64().with_context(|| format!("no {key}: {process}"));
    ensure!(limit["name"] == "RLIMIT_NOFILE", "{process}");
    let left = (number("limit")? - number("used")?) / number("per_second")?;
    ensure!((left - number("seconds_left")?).abs() < 0.01 * left, "{left}: {process}");
    let per_second = number("per_second")?;
    ensure!(per_second > 10.0 && per_second < 2000.0, "{per_second} in a second");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_compared_says_why() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let whole = fs::read_to_string(saved(&scratch)?)?;
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "empty"),
        ("noise", b"\x00\xff\x1b[2J", "no document"),
        ("cut", &whole.as_bytes()[..whole.len() / 2], "cut off"),
        ("other", br#"{"schema":"fdtrace.report/1"}"#, "fdtrace.report/1"),
        ("bare", br#"{"schema":"fdtrace.explain/1"}"#, "no handles"),
    ];
    for (name, bytes, expected) in cases {
        let path = scratch.path().join(name);
        fs::write(&path, bytes)?;
        let refused = Explained::by(&mut explain_command(["--diff", &path.display().to_string()])?)?.finished;
        ensure!(refused.status.code() == Some(1), "{name}: {:?}", refused.status);
        ensure!(refused.stderr.contains(expected) && refused.stdout.is_empty(), "{name}: {refused:?}");
        ensure!(!refused.stderr.contains('\x1b'), "{name} steers the terminal");
    }
    // One that narrows what it shows is compared with its like only.
    let old = scratch.path().join("old.json").display().to_string();
    let refused = Explained::by(&mut explain_command(["--diff", &old, "--hidden"])?)?.finished;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("--hidden"), "{refused:?}");
    Ok(())
}

/// Of another boot, sums can be compared and processes cannot.
#[test]
fn a_document_of_another_boot() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let old = saved(&scratch)?;
    let mut changed: Value = serde_json::from_str(&fs::read_to_string(&old)?)?;
    changed["boot_id"] = "0b5cd7a5-0000-0000-0000-000000000000".into();
    fs::write(&old, changed.to_string())?;
    let document = document(&["--json", "--diff", &old])?;
    let growth = &document["growth"];
    ensure!(growth["processes"].as_array().is_some_and(Vec::is_empty), "{growth}");
    ensure!(growth["new_processes"].is_null() && !growth["remarks"][0].is_null(), "{growth}");
    Ok(())
}

/// Ctrl-C between two samples is no failure, and says nothing.
#[test]
fn a_watch_ends_quietly() -> Result<()> {
    let _turn = turn();
    let mut command = explain_command(["--interval", "60s"])?;
    let mut watch = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(watch.stdout.as_mut().context("no output")?).read_line(&mut line)?;
    ensure!(line.contains("handles"), "{line:?}");
    let begun = Instant::now();
    kill_process(Pid::from_child(&watch), Signal::INT)?;
    let ended = watch.wait_with_output()?;
    ensure!(ended.status.code() == Some(0) && ended.stderr.is_empty(), "{ended:?}");
    ensure!(begun.elapsed() < Duration::from_secs(10), "after {:?}", begun.elapsed());
    Ok(())
}

/// What the processes of a group share counts once in it.
#[test]
fn groups_of_processes() -> Result<()> {
    let _turn = turn();
    let started = Workload::start_if_possible("groups", ["kept=100", "shared-children=2"])?;
    let mut workload = started.context("it is not expected to be refused")?;
    workload.go()?;
    for by in ["process", "cgroup", "container"] {
        let document = document(&["--json", "--by", by])?;
        let groups = document["groups"].as_array().with_context(|| format!("no groups by {by}"))?;
        ensure!(groups.iter().all(|group| group["by"] == by), "{groups:?}");
        let sum = |key: &str, of: &Value| -> u64 {
            of.as_array().into_iter().flatten().filter_map(|line| line[key].as_u64()).sum()
        };
        let total = document["handles"]["total"].as_u64().context("no total")?;
        ensure!(groups.iter().all(|group| group["handles"].as_u64() <= Some(total)), "{groups:?}");
        ensure!(
            sum("processes", &document["groups"]) <= sum("handles", &document["processes"]),
            "{groups:?}"
        );
        for group in groups {
            let by_holder: u64 = group["by_holder"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(_, count)| count.as_u64())
                .sum();
            ensure!(group["handles"] == by_holder, "{group}");
        }
        if by == "process" {
            let single = sum("handles", &document["processes"]);
            ensure!(sum("handles", &document["groups"]) == single, "{groups:?}");
        }
    }
    Ok(())
}
