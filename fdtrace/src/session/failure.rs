//! Why a use case came to nothing.

use std::{io, path::Path};

use crate::text::fmt::escape_control;

/// The reason for a failure, and the exit status that goes with it.
pub(crate) enum Failure {
    /// Status 1: it was tried and did not work.
    Failed(anyhow::Error),
    /// Status 2: what was asked for makes no sense.
    Usage(String),
}

impl Failure {
    pub(crate) fn cannot_write(path: &Path, error: &io::Error) -> Self {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists { " (--force replaces it)" } else { "" };
        let path = escape_control(&path.to_string_lossy());
        Self::Failed(anyhow::anyhow!("cannot write {path}: {error}{hint}"))
    }

    /// Names the file, when this came of writing it; what else goes wrong names itself.
    pub(crate) fn in_writing(self, path: &Path) -> Self {
        match &self {
            Self::Failed(why) => {
                why.downcast_ref().map(|error| Self::cannot_write(path, error)).unwrap_or(self)
            }
            Self::Usage(_) => self,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
