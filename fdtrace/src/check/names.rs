//! The words for what a check finds: the same in JSON, in options and in texts.

use super::{Class, DiagnosticKind, Ended, Verdict};

impl Verdict {
    /// The word for it in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Leak => "leak",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl Class {
    /// All classes, in the order in which texts have them.
    pub const ALL: [Self; 10] = [
        Self::Leak,
        Self::Suppressed,
        Self::Steady,
        Self::GrowingWithPeers,
        Self::Teardown,
        Self::Loaded,
        Self::Inherited,
        Self::Mapped,
        Self::Exec,
        Self::Allowed,
    ];

    /// The word for it in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Suppressed => "suppressed",
            Self::Steady => "steady",
            Self::GrowingWithPeers => "growing-with-peers",
            Self::Teardown => "teardown",
            Self::Loaded => "loaded",
            Self::Inherited => "inherited",
            Self::Mapped => "mapped",
            Self::Exec => "exec",
            Self::Allowed => "allowed",
        }
    }
}

impl DiagnosticKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Emfile,
        Self::Enfile,
        Self::Exec,
        Self::Inherit,
        Self::CloseWait,
        Self::Deleted,
        Self::GrowingWithPeers,
        Self::Teardown,
        Self::Peak,
    ];

    /// The word for it in documents and in `--fail-on`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Emfile => "emfile",
            Self::Enfile => "enfile",
            Self::Exec => "exec",
            Self::Inherit => "inherit",
            Self::CloseWait => "close-wait",
            Self::Deleted => "deleted",
            Self::GrowingWithPeers => "growing-with-peers",
            Self::Teardown => "teardown",
            Self::Peak => "peak",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Ended {
    /// The word for it in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status(_) => "exit",
            Self::Signal(_) => "signal",
            Self::Exec => "exec",
            Self::Running => "running",
        }
    }

    /// The status as a shell has it: 128 and the signal's number for what a signal killed; none for what runs still.
    #[must_use]
    pub const fn status(self) -> Option<i32> {
        match self {
            Self::Status(status) => Some(status),
            Self::Signal(signal) => Some(128 + signal),
            Self::Exec | Self::Running => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_again() {
        assert!(
            DiagnosticKind::ALL.into_iter().all(|kind| DiagnosticKind::from_name(kind.name()) == Some(kind))
        );
        assert_eq!(DiagnosticKind::from_name("close_wait"), None);
        assert_eq!(
            [Ended::Status(3), Ended::Signal(9), Ended::Running].map(Ended::status),
            [Some(3), Some(137), None]
        );
    }
}
