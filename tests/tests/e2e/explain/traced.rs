//! A walk beside a trace: who allocated what is hidden.

use super::Held;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::unseen_holders,
    harness::{
        Explained, Recorder, Scratch, Workload, explain_command, explain_text, kernel_release, say, turn,
    },
};
use serde_json::Value;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn joined(trace: &str) -> Result<Value> {
    let explained = Explained::by(&mut explain_command(["--json", "--trace", trace])?)?;
    Ok(serde_json::from_str(explained.good()?)?)
}

/// How many of the hidden handles that the process holds in this way a site is known of, and of how many it is not.
fn known(document: &Value, holder: &str, pid: u32) -> (u64, u64) {
    let hidden = document["hidden"].as_array().into_iter().flatten();
    let is_own = |group: &&Value| {
        group["holder"] == holder
            && group["code"] != true
            && group["processes"].as_array().into_iter().flatten().any(|process| process["pid"] == pid)
    };
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    hidden.filter(is_own).fold((0, 0), |(sites, all), group| {
        let of = |site: &Value| {
            let made = site["pids"].as_array().into_iter().flatten().any(|maker| *maker == pid);
            if made && !site["stack"].as_str().unwrap_or_default().is_empty() {
                number(&site["count"])
            } else {
                0
            }
        };
        let traced: u64 = group["sites"].as_array().into_iter().flatten().map(of).sum();
        (sites + traced, all + number(&group["count"]))
    })
}

/// While it is recorded, and when the trace has ended.
#[test]
fn hidden_handles_have_their_sites() -> Result<()> {
    let _turn = turn();
    let unseen = unseen_holders(&kernel_release())?;
    let holders = [
        ("mapping", "mapped=40", 40),
        ("shm_attach", "shm-attach=30", 30),
        ("shm_segment", "shm-segments=3", 3),
    ];
    if let Some(reason) = holders.iter().find_map(|(holder, ..)| unseen.get(*holder)) {
        say(&format!("not run: {reason}"));
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = scratch.path().join("t.fdt");
    let trace = file.display().to_string();
    let arguments: Vec<&str> = holders.iter().map(|(_, argument, _)| *argument).collect();
    let started = Workload::start_if_possible("traced", arguments)?;
    let mut workload = started.context("it is not expected to be refused")?;
    let recorder = Recorder::start::<&str>(&file, [])?;
    workload.go()?;
    let pid = workload.pid();
    let all_known =
        |document: &Value| holders.iter().all(|(holder, _, count)| known(document, holder, pid).0 >= *count);
    let deadline = Instant::now() + TIMEOUT;
    let mut document = joined(&trace)?;
    while !all_known(&document) && Instant::now() < deadline {
        sleep(Duration::from_millis(300));
        document = joined(&trace)?;
    }
    for (holder, _, count) in holders {
        let (known, all) = known(&document, holder, pid);
        ensure!(known >= count, "{holder}: {known} of {all} are known: {}", document["hidden"]);
    }
    ensure!(document["trace"]["older"].as_u64() > Some(0), "{}", document["trace"]);
    recorder.interrupt()?;
    ensure!(all_known(&joined(&trace)?), "known while it was recorded, and not after");
    let text = explain_text(["--trace", &trace])?;
    ensure!(text.contains("by the trace"), "{text}");
    Ok(())
}

/// What was allocated after the end of a trace is unknown, also where an address is used again.
#[test]
fn what_came_later_is_unknown() -> Result<()> {
    let _turn = turn();
    if let Some(reason) = unseen_holders(&kernel_release())?.get("mapping") {
        say(&format!("not run: {reason}"));
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = scratch.path().join("t.fdt");
    let recorder = Recorder::start::<&str>(&file, [])?;
    recorder.interrupt()?;
    let held = Held::new("later", &["mapped=50"])?.context("it is not expected to be refused")?;
    let document = joined(&file.display().to_string())?;
    let (known, all) = known(&document, "mapping", held.workload.pid());
    ensure!(known == 0 && all >= 50, "{known} of {all} are known: {}", document["hidden"]);
    ensure!(document["trace"]["unknown"].as_u64() >= Some(50), "{}", document["trace"]);
    Ok(())
}

#[test]
fn a_file_that_is_no_trace_says_so() -> Result<()> {
    let _turn = turn();
    for file in ["/etc/passwd", "/dev/null", "/nonexistent"] {
        let refused = Explained::by(&mut explain_command(["--trace", file])?)?.finished;
        ensure!(refused.status.code() == Some(1), "{file}: {refused:?}");
        ensure!(refused.stderr.contains(file) && refused.stdout.is_empty(), "{file}: {refused:?}");
    }
    Ok(())
}
