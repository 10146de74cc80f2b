//! Files that somebody made to do harm. No test here traces anything.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    harness::{Finished, Scratch, TIMEOUT, fdtrace, finish},
    hostile::{
        names::{NAMES, is_forbidden},
        trace,
    },
};
use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Command};

/// What any of the verbs may allocate for a file of a few kilobytes.
const MEMORY: libc::rlim_t = 300 << 20;

/// fdtrace, with no more memory than that.
fn limited(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(fdtrace()?);
    command.args(words);
    let limit = libc::rlimit { rlim_cur: MEMORY, rlim_max: MEMORY };
    let lower = move || {
        // SAFETY: a limit of this process, from a whole structure.
        match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(lower) };
    Ok(command)
}

/// It ends by itself and says why, whatever it makes of the file.
fn survives(words: &[&str]) -> Result<Finished> {
    let found = finish(&mut limited(words)?, TIMEOUT)?;
    let said = format!("{}: {}", found.status, found.stderr);
    ensure!(matches!(found.status.code(), Some(0..=2)), "{said}");
    ensure!(!found.stderr.contains("panicked"), "{said}");
    Ok(found)
}

/// The ways to show a trace.
const VIEWS: [&[&str]; 8] = [
    &["--all"],
    &["--by", "process"],
    &["--by", "kind", "--all"],
    &["--json", "--all"],
    &["--format", "jsonl", "--interval", "1h"],
    &["--format", "folded"],
    &["--format", "flamegraph"],
    &["--format", "pprof"],
];

#[test]
fn a_trace_takes_no_more_than_its_bytes_justify() -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("trace");
    let file = path.to_str().context("a path")?;
    for (name, bytes) in trace::bombs() {
        ensure!(bytes.len() < 500_000, "{name}: {} bytes", bytes.len());
        fs::write(&path, bytes)?;
        for view in [&["--all"][..], &["--json", "--all"], &["--format", "flamegraph"]] {
            let words = [&["report", file], view].concat();
            survives(&words).with_context(|| format!("{name}, {view:?}"))?;
        }
        survives(&["diff", file, file]).with_context(|| format!("{name}, diff"))?;
    }
    Ok(())
}

#[test]
fn what_is_cut_off_is_said() -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("trace");
    let (_, bytes) = trace::bombs().swap_remove(0);
    fs::write(&path, bytes)?;
    let found = survives(&["report", path.to_str().context("a path")?])?;
    ensure!(found.stderr.contains("bytes justify"), "{}", found.stderr);
    Ok(())
}

/// What stands in a document is read again as it was written.
#[test]
fn a_document_takes_no_more_than_its_bytes_justify() -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("document");
    let file = path.to_str().context("a path")?;
    let documents = [
        "[".repeat(400_000),
        "{\"a\":".repeat(80_000),
        format!("[{}0]", "[],".repeat(130_000)),
        format!("{{\"schema\":\"fdtrace.explain/1\",\"handles\":{{\"total\":{}}}}}", "9".repeat(390_000)),
        format!("\"{}", "\\u0000".repeat(60_000)),
        "1e".repeat(200_000),
        "\u{0}".repeat(400_000),
        format!("{{\"schema\":\"{}\"}}", "\u{1b}[2J\u{202e}".repeat(1000)),
    ];
    for (number, document) in documents.iter().enumerate() {
        fs::write(&path, document)?;
        let found = survives(&["explain", "--diff", file]).with_context(|| format!("document {number}"))?;
        ensure!(!found.status.success(), "document {number} was taken");
        harmless(&found.stderr).with_context(|| format!("document {number}"))?;
        let check = ["check", "--baseline", file, "--", "/bin/true"];
        let found = survives_check(&check).with_context(|| format!("baseline {number}"))?;
        harmless(&found.stderr).with_context(|| format!("baseline {number}"))?;
    }
    Ok(())
}

fn survives_check(words: &[&str]) -> Result<Finished> {
    let found = finish(Command::new(fdtrace()?).args(words), TIMEOUT)?;
    ensure!(found.status.code().is_some() && !found.stderr.contains("panicked"), "{found:?}");
    Ok(found)
}

/// No character of a text does anything to a terminal or to its neighbours.
fn harmless(text: &str) -> Result<()> {
    let bad = text.chars().find(|character| is_forbidden(*character));
    ensure!(bad.is_none(), "{bad:?} in {text:?}");
    // A name may have a line's end, and a line of its own would be a lie.
    ensure!(!text.lines().any(|line| line.starts_with("fdtrace: no leak")), "{text}");
    Ok(())
}

#[test]
fn names_of_a_trace_are_harmless_in_every_view() -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("trace");
    for name in NAMES {
        fs::write(&path, trace::named(name))?;
        views(&path).with_context(|| format!("{name:?}"))?;
    }
    Ok(())
}

fn views(path: &Path) -> Result<()> {
    let file = path.to_str().context("a path")?;
    for view in VIEWS {
        let found = survives(&[&["report", file], view].concat())?;
        ensure!(found.status.success(), "{view:?}: {}", found.stderr);
        if !view.contains(&"pprof") {
            harmless(&found.stdout).with_context(|| format!("{view:?}"))?;
        }
        harmless(&found.stderr).with_context(|| format!("{view:?}"))?;
    }
    for words in [
        &["diff", file, file][..],
        &["report", file, "-v"],
        &["report", file, "--color", "never"],
        &["explain", "--trace", file],
    ] {
        let found = survives(words)?;
        harmless(&found.stdout).with_context(|| format!("{words:?}"))?;
        harmless(&found.stderr).with_context(|| format!("{words:?}"))?;
    }
    Ok(())
}

/// What a person types may come from somebody else, too.
#[test]
fn arguments_are_harmless_where_an_error_quotes_them() -> Result<()> {
    let name = NAMES.concat().replace('\0', "");
    let name = name.as_str();
    let option = format!("--{name}");
    let missing = format!("/no/such/{name}");
    for words in [
        &[name][..],
        &["report", &option],
        &["report", &missing],
        &["report", &missing, "--by", name],
        &["diff", &missing, name],
        &["explain", "--diff", &missing],
        &["explain", "--trace", &missing],
        &["live", "--pid", name],
        &["live", "--cgroup", &missing],
        &["live", "--kind", name],
        &["live", "--bpf-log", &missing],
        &["record", "-o", &missing],
        &["check", "--suppressions", &missing, "--", "true"],
        &["check", "--baseline", &missing, "--", "true"],
        &["check", "--user", name, "--", "true"],
        &["check", "--json-out", &missing, "--", "true"],
        &["check", "--", &missing],
    ] {
        let found = finish(Command::new(fdtrace()?).args(words), TIMEOUT)?;
        ensure!(found.status.code().is_some_and(|status| status != 0), "{words:?}: {found:?}");
        harmless(&found.stdout).with_context(|| format!("{words:?}"))?;
        harmless(&found.stderr).with_context(|| format!("{words:?}"))?;
    }
    Ok(())
}
