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

/// Verbs of the bench `hooks`.
pub(super) const OPEN_CLOSE: &str = "open-close";
pub(super) const PING_PONG: &str = "ping-pong";
pub(super) const LOADS: [&str; 2] = [OPEN_CLOSE, PING_PONG];

/// Runs a load for so many milliseconds, below the command that `wrapper` begins with, if any.
pub(super) fn run(load: &str, bench: &Bench, wrapper: &[String], time: u64) -> Result<Sample> {
    let program = bench.0.to_string_lossy().into_owned();
    let time = time.to_string();
    let words = wrapper.iter().chain([&program]).map(String::as_str).chain([load, "--time", &time]);
    let words: Vec<&str> = words.collect();
    programs::result(Command::new(words[0]).args(&words[1..]))
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
