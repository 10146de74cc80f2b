//! What there is to say of a trace file while it is written.

use std::{cell::Cell, path::Path};

use crate::{collect::Written, text::fmt::escape_control};

/// Says once that a trace file ended before its time, because the disk is full.
pub(crate) struct News<'a> {
    path: Option<&'a Path>,
    reported: Cell<bool>,
}

impl<'a> News<'a> {
    pub(crate) const fn of(path: Option<&'a Path>) -> Self {
        Self { path, reported: Cell::new(false) }
    }

    /// The sentence, if there is something new to say, with what becomes of the rest.
    pub(crate) fn of_written(&self, written: &Written, rest: &str) -> Option<String> {
        let (path, failure) = self.path.zip(written.failure.as_ref())?;
        let path = escape_control(&path.to_string_lossy());
        let is_new = !self.reported.replace(true);
        is_new.then(|| format!("{path} ends here, whole: it cannot be written further ({failure}); {rest}"))
    }
}
