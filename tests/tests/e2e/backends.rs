//! Which backends attach, and whether that is what the file of expected results says.

use anyhow::{Context as _, Result, bail, ensure};
use fdtrace_tests::{
    expected::{BACKENDS, Entry},
    harness::{TIMEOUT, Tracer, fdtrace, finish, kernel_release, say, turn},
};
use serde_json::{Value, json};
use std::{
    process::{Command, id},
    sync::OnceLock,
    time::Duration,
};

/// How long `fdtrace doctor` may take, which tries three backends.
const DOCTOR: Duration = TIMEOUT.saturating_mul(3);

/// The backends that must work here.
pub(crate) fn available() -> Result<Vec<&'static str>> {
    let mut backends = Vec::new();
    for backend in BACKENDS {
        match Entry::load(&kernel_release(), backend)? {
            Entry::Available { .. } => backends.push(backend),
            Entry::Unavailable { reason } => say(&format!("not run with {backend}: {reason}")),
        }
    }
    Ok(backends)
}

/// What `fdtrace doctor --json` says. It loads the programs of all backends, the walk by unwind tables with each, which
/// takes an emulated machine a minute. So it is asked once.
fn doctor() -> Result<&'static Value> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    if let Some(document) = DOCUMENT.get() {
        return Ok(document);
    }
    let json = finish(Command::new(fdtrace()?).args(["doctor", "--json"]), DOCTOR)?;
    ensure!(json.status.success(), "{}: {}", json.status, json.stderr);
    let document = serde_json::from_str(&json.stdout).context("doctor --json")?;
    Ok(DOCUMENT.get_or_init(|| document))
}

/// Whether a backend has a hook on this kernel; says why not.
pub(crate) fn has_hook(backend: &str, name: &str) -> Result<bool> {
    let document = doctor()?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let found = list(&document["backends"]).into_iter().find(|found| found["name"] == backend);
    let hooks = list(&found.with_context(|| format!("no backend {backend}"))?["hooks"]);
    let hook = hooks.iter().find(|hook| hook["hook"] == name).with_context(|| format!("no hook {name:?}"))?;
    let works = hook["state"] == "ok" || hook["state"] == "alternative";
    if !works {
        say(&format!("{backend} has no hook {name:?} here: {}", hook["reason"]));
    }
    Ok(works)
}

#[test]
fn each_backend_attaches_or_is_known_not_to() -> Result<()> {
    let _turn = turn();
    BACKENDS.into_iter().try_for_each(|backend| attach(backend).context(backend))
}

fn attach(backend: &str) -> Result<()> {
    let expected = Entry::load(&kernel_release(), backend)?;
    let started = Tracer::start_with(backend, ["-p", &id().to_string()]);
    let seen = match &started {
        Ok(_) => "attached".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let result = json!({"kernel": kernel_release(), "backend": backend, "test": "attach", "seen": seen});
    say(&format!("RESULT {result}"));
    match (started, expected) {
        (Ok(tracer), Entry::Available { .. }) => {
            let used = &tracer.first.trace.backend;
            ensure!(used == backend, "{backend} was asked for, {used} was used");
        }
        (Err(_), Entry::Unavailable { .. }) => {}
        (Err(error), Entry::Available { .. }) => return Err(error).context("must be available here"),
        (Ok(_), Entry::Unavailable { reason }) => bail!("attached, although expected.toml says: {reason}"),
    }
    Ok(())
}

#[test]
fn doctor_says_it_in_words() -> Result<()> {
    let _turn = turn();
    let text = finish(Command::new(fdtrace()?).arg("doctor"), DOCTOR)?;
    ensure!(text.status.success(), "{}: {}", text.status, text.stderr);
    ensure!(BACKENDS.iter().any(|backend| text.stdout.contains(backend)), "{}", text.stdout);
    Ok(())
}

#[test]
fn doctor_says_what_it_chose() -> Result<()> {
    let _turn = turn();
    let document = doctor()?;
    ensure!(document["schema"] == "fdtrace.doctor/1", "schema {}", document["schema"]);
    Ok(())
}
