//! What a person types: one file per verb.

mod check;
mod diff;
mod doctor;
mod explain;
mod joining;
mod live;
mod options;
mod parsing;
mod pause;
mod reading;
mod record;
mod recording;
mod report;
mod saved;
mod stop;
mod tracing;
mod values;

use std::{io, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::report::{harmless_lines, words::harmless};

/// The reason for a failure, and the exit status that goes with it.
enum Failure {
    /// Status 1: it was tried and did not work.
    Failed(anyhow::Error),
    /// Status 2: what was asked for makes no sense.
    Usage(String),
}

impl Failure {
    fn cannot_write(path: &Path, error: &io::Error) -> Self {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists { " (--force replaces it)" } else { "" };
        let path = harmless(&path.to_string_lossy());
        Self::Failed(anyhow::anyhow!("cannot write {path}: {error}{hint}"))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Outcome = Result<ExitCode, Failure>;

/// Finds leaked open files on running Linux kernels.
///
/// fdtrace counts file handles (struct file), not descriptors: it says who allocated each one that is alive and where.
#[derive(Parser)]
#[command(name = "fdtrace", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Doctor(doctor::Arguments),
    Explain(Box<explain::Arguments>),
    Live(Box<live::Arguments>),
    Record(Box<record::Arguments>),
    Report(Box<report::Arguments>),
    Diff(diff::Arguments),
    Check(Box<check::Arguments>),
}

/// What `report --json` calls its documents.
const REPORT_SCHEMA: &str = "fdtrace.report/1";

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match parsing::parse().verb {
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Live(arguments) => live::run(&arguments),
        Verb::Record(arguments) => record::run(&arguments),
        Verb::Report(arguments) => report::run(&arguments),
        Verb::Diff(arguments) => diff::run(&arguments),
        Verb::Check(arguments) => return check::run(&arguments),
    };
    match outcome {
        Ok(status) => status,
        Err(Failure::Failed(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => fail(&format!("{error:#}"), 1),
        Err(Failure::Usage(sentence)) => fail(&sentence, 2),
    }
}

fn fail(sentence: &str, status: u8) -> ExitCode {
    // What it quotes may have lines, and none of them may pass for one of ours.
    eprintln!("fdtrace: {}", harmless_lines(sentence).replace('\n', "\n  "));
    ExitCode::from(status)
}

/// Whoever read our output has gone; that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}
