//! The files that `check` writes what it found to.

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::super::say::say;
use crate::{
    check::Baseline,
    files::{Existing, Output},
    model::check::Findings,
    report::{check, write_json},
    session::Failure,
    text::fmt::{counted, escape_control},
};

/// Where the findings go besides standard error.
#[derive(Args)]
#[command(next_help_heading = "Reports")]
pub(super) struct ReportOptions {
    /// Write what was found as JSON
    #[arg(long, value_name = "FILE")]
    json_out: Option<PathBuf>,
    /// Write what was found as JUnit XML: a failed test for each leak
    #[arg(long, value_name = "FILE")]
    junit_out: Option<PathBuf>,
    /// Write what was found as SARIF, for a code host that shows leaks beside their lines
    #[arg(long, value_name = "FILE")]
    sarif_out: Option<PathBuf>,
}

/// A file by its name, and opened.
type Named = (PathBuf, Output);

/// The outputs of a check, opened before its command runs: nothing that the command does to their names counts.
pub(super) struct Outputs {
    json: Option<Named>,
    junit: Option<Named>,
    sarif: Option<Named>,
    baseline: Option<Named>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// One could not be written.
    pub(super) failed: bool,
    /// Whoever runs the check has decided to live with what leaks.
    pub(super) baseline: bool,
}

impl ReportOptions {
    /// Opens every output: what cannot be written is refused before a command has run for an hour in vain.
    ///
    /// # Errors
    /// The first file that cannot be written.
    pub(super) fn open(&self, baseline: Option<&Path>) -> Result<Outputs, Failure> {
        Ok(Outputs {
            json: open(self.json_out.as_deref())?,
            junit: open(self.junit_out.as_deref())?,
            sarif: open(self.sarif_out.as_deref())?,
            baseline: open(baseline)?,
        })
    }
}

fn open(path: Option<&Path>) -> Result<Option<Named>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let output = Output::open(path, Existing::Replaced);
    output.map(|output| Some((path.to_owned(), output))).map_err(|error| Failure::cannot_write(path, &error))
}

impl Outputs {
    /// Writes every output, also when another one cannot be written; says which could not.
    pub(super) fn write(self, findings: &Findings) -> Written {
        // A folder that is gone has no sources in it.
        let folder = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let json = say_if_not(self.json, |output| output.write(|out| write_json(out, findings)));
        let junit = say_if_not(self.junit, |output| output.write(|out| check::write_junit(out, findings)));
        let sarif =
            say_if_not(self.sarif, |output| output.write(|out| check::write_sarif(out, findings, &folder)));
        let asked = self.baseline.is_some();
        let baseline = write_baseline(self.baseline, findings);
        Written { failed: !(json && junit && sarif && baseline), baseline: asked && baseline }
    }
}

fn write_baseline(named: Option<Named>, findings: &Findings) -> bool {
    let Some(path) = named.as_ref().map(|(path, _)| escape_control(&path.to_string_lossy())) else {
        return true;
    };
    let baseline = Baseline::of(findings);
    let written =
        say_if_not(named, |output| output.write(|out| out.write_all(baseline.to_json().as_bytes())));
    if written {
        say!("{} written to {path}", counted(baseline.len() as u64, "known leak"));
    }
    written
}

/// Whether it was written, if there is one.
fn say_if_not(named: Option<Named>, write: impl FnOnce(Output) -> io::Result<()>) -> bool {
    let Some((path, output)) = named else { return true };
    let Err(error) = write(output) else { return true };
    say!("cannot write {}: {error}", escape_control(&path.to_string_lossy()));
    false
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::check::fixture::all_sorts;

    #[test]
    fn one_that_cannot_be_written_does_not_stop_the_others() -> io::Result<()> {
        let folder = env::temp_dir().join(format!("fdtrace-outputs-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let options = ReportOptions {
            json_out: Some("/dev/full".into()),
            junit_out: Some(folder.join("check.xml")),
            sarif_out: Some(folder.join("check.sarif")),
        };
        let open = |options: &ReportOptions| options.open(Some(&folder.join("baseline"))).ok();
        let written = open(&options).map(|outputs| outputs.write(&all_sorts()));
        assert_eq!(written, Some(Written { failed: true, baseline: true }));
        let report = || fs::read_to_string(folder.join("check.xml"));
        assert!(report()?.ends_with("</testsuites>\n"));
        assert!(fs::read_to_string(folder.join("check.sarif"))?.contains("\"2.1.0\""));
        let gone = ReportOptions { json_out: Some(folder.join("gone/check.json")), ..options };
        assert!(open(&gone).is_none());
        let whole = open(&ReportOptions { json_out: None, ..gone });
        assert_eq!(report()?, "", "it is of an earlier run");
        assert_eq!(whole.map(|outputs| outputs.write(&all_sorts()).failed), Some(false));
        fs::remove_dir_all(&folder)
    }
}
