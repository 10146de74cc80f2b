//! The loads that are slowed down.

use super::programs::{self, Bench};
use anyhow::Result;
use serde::Deserialize;
use std::process::Command;

/// How the ways of running a load take turns.
#[derive(clap::Args)]
pub(super) struct Turns {
    /// How often each way has its turn
    #[arg(long, default_value_t = 8)]
    pub(super) rounds: usize,
    /// How long a load runs in each turn
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 700)]
    pub(super) time: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    OpenClose,
    PingPong,
}

impl Load {
    pub(super) const ALL: [Self; 2] = [Self::OpenClose, Self::PingPong];

    /// The verb of the bench `hooks`.
    const fn verb(self) -> &'static str {
        match self {
            Self::OpenClose => "open-close",
            Self::PingPong => "ping-pong",
        }
    }

    /// Runs it for so many milliseconds, below the command that `wrapper` begins with, if any.
    pub(super) fn run(self, bench: &Bench, wrapper: &[String], time: u64) -> Result<Sample> {
        let time = time.to_string();
        let words = [self.verb(), "--time", &time];
        let mut command = match wrapper {
            [] => Command::new(&bench.0),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&bench.0);
                command
            }
        };
        programs::result(command.args(words))
    }
}

/// What a turn of a load took, in nanoseconds where nothing else is said.
#[derive(Deserialize)]
pub(super) struct Sample {
    /// By the wall's clock.
    pub(super) wall_ns: f64,
    /// Processor time.
    pub(super) cpu_ns: f64,
    /// Processor time in units of other work that was done at the same moment and that no tracer of handles slows down.
    pub(super) relative: f64,
}
