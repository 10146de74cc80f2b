//! `cargo xtask known-leaks`: leaks that published software had, and what `fdtrace check` says of them.
//!
//! Whoever reads a report of a leak wants to know whether the gate would have found it: the version that leaks must be a leak,
//! with the right count and the right function, and the version that was mended must be clean.

use crate::{
    apt,
    ordinary::{self, Report, is_on_path},
    run,
    tables::markdown,
};
use anyhow::{Context as _, Result, bail, ensure};
use fdtrace_tests::corpus::{Verdict, timed};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

const FILE: &str = include_str!("../../tests/known-leaks.toml");

/// What stands for the version.
const VERSION: &str = "{version}";
/// Says in a folder that all is installed there.
const INSTALLED: &str = ".installed";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these leaks of tests/known-leaks.toml, by the beginnings of their names
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// An fdtrace that is built already
    #[arg(long, value_name = "PATH")]
    fdtrace: Option<PathBuf>,
    /// First install the programs that are missing (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

/// A leak of the table; the comment in the file says what the fields are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Leak {
    name: String,
    report: String,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    install: String,
    command: Vec<String>,
    #[serde(default)]
    leaking: Vec<String>,
    #[serde(default)]
    fixed: Vec<String>,
    leaked: u64,
    names: String,
}

/// What came of one version.
struct Row {
    cells: Vec<String>,
    wrong: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let leaks = ordinary::chosen(table()?, &args.only, "leak", |leak| &leak.name)?;
    if args.install {
        let missing = leaks.iter().filter(|leak| leak.missing().is_some());
        let packages: BTreeSet<&str> = missing.flat_map(|leak| &leak.packages).map(String::as_str).collect();
        apt::install(&packages.into_iter().collect::<Vec<_>>())?;
    }
    if !run::is_root()? {
        bail!("tracing needs root");
    }
    let fdtrace = ordinary::fdtrace(args.fdtrace.as_deref())?;
    let folder = run::checkout()?.join("target/known-leaks");
    let mut rows = Vec::new();
    for leak in &leaks {
        for (version, leaks) in leak.versions() {
            eprintln!("{} {version}", leak.name);
            rows.push(leak.row(&fdtrace, &folder, version, leaks));
        }
    }
    let header = ["leak", "report", "version", "expected", "found"].map(str::to_owned).to_vec();
    print!("{}", markdown(&[vec![header], rows.iter().map(|row| row.cells.clone()).collect()].concat()));
    let wrong: Vec<_> = rows.iter().filter_map(|row| row.wrong.as_ref()).collect();
    println!("\n{} versions; {} differ from what is expected.", rows.len(), wrong.len());
    wrong.iter().for_each(|wrong| println!("{wrong}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table() -> Result<Vec<Leak>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        leaks: Vec<Leak>,
    }
    let table: Table = toml::from_str(FILE).context("tests/known-leaks.toml")?;
    Ok(table.leaks)
}

impl Leak {
    /// The first program that it needs and that is not there.
    fn missing(&self) -> Option<&str> {
        let is_there =
            |name: &str| if name.contains('/') { Path::new(name).exists() } else { is_on_path(name) };
        self.needs.iter().map(String::as_str).find(|name| !is_there(name))
    }

    /// Each version, and whether it leaks.
    fn versions(&self) -> impl Iterator<Item = (&str, bool)> {
        let leaking = self.leaking.iter().map(|version| (version.as_str(), true));
        leaking.chain(self.fixed.iter().map(|version| (version.as_str(), false)))
    }

    fn row(&self, fdtrace: &Path, folder: &Path, version: &str, leaks: bool) -> Row {
        let found = self.check(fdtrace, folder, version);
        let expected =
            if leaks { format!("leak, {} calls at {}", self.leaked, self.names) } else { "clean".to_owned() };
        let (found, wrong) = match found {
            Ok(report) => (say(&report), self.wrong(&report, leaks)),
            Err(error) => ("-".to_owned(), Some(format!("{error:#}"))),
        };
        let cells = [&self.name, &self.report, version, &expected, &found].map(ToString::to_string).to_vec();
        Row { cells, wrong: wrong.map(|wrong| format!("{} {version}: {wrong}", self.name)) }
    }

    fn wrong(&self, report: &Report, leaks: bool) -> Option<String> {
        let expected = if leaks { Verdict::Leak } else { Verdict::Clean };
        if report.verdict != expected {
            return Some(format!("{} and not {expected}: {}", report.verdict, say(report)));
        }
        let is_it = |leak: &String| leak.contains(&self.names);
        let is_right = !leaks || report.leaked() == self.leaked && report.leaks().iter().all(is_it);
        (!is_right).then(|| say(report))
    }

    /// Runs a version under the check, once it is installed.
    fn check(&self, fdtrace: &Path, folder: &Path, version: &str) -> Result<Report> {
        if let Some(missing) = self.missing() {
            bail!("there is no {missing} (--install)");
        }
        let folder = folder.join(format!("{}-{version}", self.name.split(':').next().unwrap_or_default()));
        self.prepare(&folder, version)?;
        let document = folder.join("check.json");
        let mut check = Command::new(fdtrace);
        check.current_dir(&folder).args(["check", "--json-out"]).arg(&document).arg("--").args(&self.command);
        ordinary::forget_cargo(&mut check);
        let ended = timed(&mut check)?;
        let say = || format!("status {}: {}", ended.status, ended.stderr.trim());
        Report::parse(&fs::read_to_string(&document).with_context(say)?)
    }

    fn prepare(&self, folder: &Path, version: &str) -> Result<()> {
        let done = folder.join(INSTALLED);
        if fs::read_to_string(&done).is_ok_and(|script| script == self.install) {
            return Ok(());
        }
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let mut command = Command::new("bash");
        command
            .current_dir(folder)
            .args(["-euc", &self.install.replace(VERSION, version)])
            .stdin(Stdio::null());
        ordinary::forget_cargo(&mut command);
        let output = command.output().context("no bash")?;
        ensure!(
            output.status.success(),
            "cannot be installed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(fs::write(done, &self.install)?)
    }
}

fn say(report: &Report) -> String {
    match report.leaks().first() {
        Some(worst) => format!("{} calls, {worst}", report.leaked()),
        None => report.verdict.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() -> Result<()> {
        let leaks = table()?;
        assert!(leaks.iter().any(|leak| !leak.fixed.is_empty()));
        for leak in &leaks {
            assert!(!leak.leaking.is_empty() && !leak.command.is_empty(), "{}", leak.name);
            let versions: BTreeSet<_> = leak.versions().map(|(version, _)| version).collect();
            assert_eq!(versions.len(), leak.leaking.len() + leak.fixed.len(), "{}", leak.name);
        }
        Ok(())
    }

    #[test]
    fn a_leak_is_one_at_the_right_place() -> Result<()> {
        let leak = &table()?[0];
        let report = |leaked: u64, symbol: &str| {
            let site = serde_json::json!({"class": "leak", "leaked": leaked, "user_stack": [
                {"symbol": symbol, "module": "/lib/libc.so.6", "offset": 1, "line": null}]});
            Report::parse(
                &serde_json::json!({"schema": "fdtrace.check/1", "verdict": "leak", "doubts": [],
                    "command": {"exit_status": 0}, "programs": 1, "trace": {"events": {"allocated": 1}},
                    "sites": [site]})
                .to_string(),
            )
        };
        assert_eq!(leak.wrong(&report(120, "pipe2")?, true), None);
        assert!(leak.wrong(&report(119, "pipe2")?, true).is_some());
        assert!(leak.wrong(&report(120, "socket")?, true).is_some());
        assert!(leak.wrong(&report(120, "pipe2")?, false).is_some());
        assert!(leak.wrong(&report(0, "pipe2")?, true).is_some());
        Ok(())
    }
}
