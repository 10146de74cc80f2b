//! Options of a trace file that is being written: `record`, and `live --record`.

use std::path::Path;

use clap::Args;

use super::{Failure, values};
use crate::{
    record::{Limits, Recording},
    trace::{Header, rotated},
};

/// How a trace file is written.
#[derive(Args)]
#[command(next_help_heading = "Trace file")]
pub(super) struct RecordingOptions {
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
    /// End the file when it has this size (64K or more)
    #[arg(long, value_name = "BYTES", value_parser = values::file_size)]
    max_size: Option<u64>,
    /// Keep so many files of --max-size: FILE, FILE.1 and so on, the newest first
    #[arg(long, value_name = "N", requires = "max_size", value_parser = clap::value_parser!(u32).range(2..))]
    rotate: Option<u32>,
}

impl RecordingOptions {
    /// Creates the file.
    pub(super) fn create(&self, path: &Path, header: Header) -> Result<Recording, Failure> {
        let limits = Limits { max_size: self.max_size, parts: self.rotate.unwrap_or(0) };
        let mut later = (1..limits.parts).map(|part| rotated(path, part));
        if let Some(part) = later.find(|part| !self.force && part.symlink_metadata().is_ok()) {
            let part = part.display();
            return Err(Failure::Failed(anyhow::anyhow!("{part} is there already (--force replaces it)")));
        }
        Recording::create(path, self.force, header, limits)
            .map_err(|error| Failure::cannot_write(path, &error))
    }

    /// Whether a full file is followed by another one.
    pub(super) const fn rotates(&self) -> bool {
        self.rotate.is_some()
    }
}
