//! Options of a trace file that is being written: `record`, and `live --trace`.

use std::path::Path;

use clap::Args;

use super::values;
use crate::{
    record::{Limits, Recording},
    session::Failure,
    trace::Header,
};

/// How a trace file is written.
#[derive(Args)]
#[command(next_help_heading = "Trace file")]
pub(super) struct RecordingOptions {
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    /// Stop writing the file at this size (64K or more)
    #[arg(long, value_name = "BYTES", value_parser = values::file_size)]
    max_size: Option<u64>,
    /// Keep N files of --max-size: FILE, FILE.1 and so on, the newest first
    #[arg(long, value_name = "N", requires = "max_size", value_parser = clap::value_parser!(u32).range(2..))]
    rotate: Option<u32>,
}

impl RecordingOptions {
    /// Creates the file.
    pub(super) fn create(&self, path: &Path, header: Header) -> Result<Recording, Failure> {
        let limits = Limits { max_size: self.max_size, parts: self.rotate.unwrap_or(0) };
        Recording::create(path, self.force, header, limits)
            .map_err(|error| Failure::cannot_write(path, &error))
    }

    /// Whether a full file is followed by another one.
    pub(super) const fn rotates(&self) -> bool {
        self.rotate.is_some()
    }
}
