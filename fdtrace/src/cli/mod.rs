//! What a person types: one file per verb.

mod check;
mod completions;
mod diff;
mod doctor;
mod examples;
mod explain;
mod live;
mod options;
mod parsing;
mod reading;
mod record;
mod recording;
mod report;
mod say;
mod screen;
mod values;

use std::{io, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::say::say;
use crate::{
    session::{Failure, privilege, signals},
    text::escape_control_lines,
};

type Outcome = Result<ExitCode, Failure>;

/// Finds leaked open files on running Linux kernels.
///
/// fdtrace counts file handles (struct file), not descriptors: it says who allocated each one that is alive and where.
#[derive(Parser)]
#[command(name = "fdtrace", version, max_term_width = 110, after_help = examples::VERBS)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Doctor(doctor::Arguments),
    #[command(after_help = examples::EXPLAIN)]
    Explain(Box<explain::Arguments>),
    #[command(after_help = examples::LIVE)]
    Live(Box<live::Arguments>),
    #[command(after_help = examples::RECORD)]
    Record(Box<record::Arguments>),
    #[command(after_help = examples::REPORT)]
    Report(Box<report::Arguments>),
    #[command(after_help = examples::DIFF)]
    Diff(Box<diff::Arguments>),
    #[command(after_help = examples::CHECK)]
    Check(Box<check::Arguments>),
    Completions(completions::Arguments),
}

/// The command line, for whoever documents it.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let verb = parsing::parse().verb;
    if let Err(sentence) = privilege::settle() {
        return fail(&sentence, if matches!(verb, Verb::Check(_)) { check::FAILED } else { 1 });
    }
    signals::survive_large_files();
    let outcome = match verb {
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Live(arguments) => live::run(&arguments),
        Verb::Record(arguments) => record::run(&arguments),
        Verb::Report(arguments) => report::run(&arguments),
        Verb::Diff(arguments) => diff::run(&arguments),
        Verb::Check(arguments) => return check::run(&arguments),
        Verb::Completions(arguments) => completions::run(&arguments),
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
    say!("{}", escape_control_lines(sentence).replace('\n', "\n  "));
    ExitCode::from(status)
}

/// Whoever read our output has gone; that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}
