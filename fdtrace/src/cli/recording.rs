//! Options of a trace file that is being written: `record`, and `live --trace`.

use std::{cell::Cell, path::Path};

use clap::Args;

use super::{Failure, say::say, values};
use crate::{
    collect::Written,
    record::{Limits, Recording},
    report::fmt::escape_control,
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

/// Says once that a trace file ended before its time, because the disk is full.
pub(super) struct News<'a> {
    path: Option<&'a Path>,
    told: Cell<bool>,
}

impl<'a> News<'a> {
    pub(super) const fn of(path: Option<&'a Path>) -> Self {
        Self { path, told: Cell::new(false) }
    }

    /// Says it if there is something to say, with what becomes of the rest.
    pub(super) fn tell(&self, written: &Written, rest: &str) {
        if let (Some(path), Some(failure), false) = (self.path, &written.failure, self.told.get()) {
            self.told.set(true);
            let path = escape_control(&path.to_string_lossy());
            say!("{path} ends here, whole: it cannot be written further ({failure}); {rest}");
        }
    }
}
