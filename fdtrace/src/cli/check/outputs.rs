//! The files that `check` writes what it found to.

use std::{
    env,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::super::Failure;
use crate::{check::Findings, report::check};

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

impl ReportOptions {
    /// Refuses what cannot be written before a command has run for an hour in vain. A report of an earlier run is
    /// emptied: nobody shall take it for that of a run that is cut off.
    ///
    /// # Errors
    /// The first file that cannot be written.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        let files = [&self.json_out, &self.junit_out, &self.sarif_out];
        files.into_iter().flatten().try_for_each(|path| match path.metadata() {
            // Whoever reads a pipe would take this for its end.
            Ok(found) if !found.is_file() && !found.is_dir() => Ok(()),
            _ => File::create(path).map(drop).map_err(|error| Failure::cannot_write(path, &error)),
        })
    }

    /// Writes every file that was asked for, also when another one cannot be written.
    ///
    /// # Errors
    /// The first file that could not be written.
    pub(super) fn write(&self, findings: &Findings) -> Result<(), Failure> {
        let json = write(self.json_out.as_deref(), |out| check::write_json(out, findings));
        let junit = write(self.junit_out.as_deref(), |out| check::write_junit(out, findings));
        let sarif = write(self.sarif_out.as_deref(), |out| {
            // A folder that is gone has no sources in it.
            let folder = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
            check::write_sarif(out, findings, &folder)
        });
        json.and(junit).and(sarif)
    }
}

/// Replaces what was there: a report of an earlier run is of no use.
fn write(
    path: Option<&Path>,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    });
    written.map_err(|error| Failure::cannot_write(path, &error))
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
            json_out: Some(folder.join("gone/check.json")),
            junit_out: Some(folder.join("check.xml")),
            sarif_out: Some(folder.join("check.sarif")),
        };
        let failed = options.write(&all_sorts());
        assert!(
            matches!(failed, Err(Failure::Failed(error)) if error.to_string().contains("gone/check.json"))
        );
        let report = || fs::read_to_string(folder.join("check.xml"));
        assert!(report()?.ends_with("</testsuites>\n"));
        assert!(options.prepare().is_err());
        assert!(fs::read_to_string(folder.join("check.sarif"))?.contains("\"2.1.0\""));
        let options = ReportOptions { json_out: None, ..options };
        assert!(options.prepare().is_ok());
        assert_eq!(report()?, "", "it is of an earlier run");
        fs::remove_dir_all(&folder)
    }
}
