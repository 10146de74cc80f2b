//! The files that `check` writes what it found to.

use std::{
    env,
    fs::File,
    io::{self, BufWriter},
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
    let written = File::create(path).and_then(|file| write(&mut BufWriter::new(file)));
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
        assert!(fs::read_to_string(folder.join("check.xml"))?.ends_with("</testsuites>\n"));
        assert!(fs::read_to_string(folder.join("check.sarif"))?.contains("\"2.1.0\""));
        fs::remove_dir_all(&folder)
    }
}
