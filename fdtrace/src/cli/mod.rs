//! What a person types: one file per verb.

mod check;
mod command;
mod completions;
mod diff;
mod doctor;
mod examples;
mod explain;
mod live;
mod load_json;
mod options;
mod parsing;
mod pause;
mod privilege;
mod reading;
mod record;
mod recording;
mod report;
mod say;
mod screen;
mod signals;
mod trace_join;
mod tracing;
mod user;
mod values;

use std::{fs::File, io, path::Path, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::runtime::{Builder, Runtime};

use self::say::say;
use crate::report::{escape_control_lines, fmt::escape_control};

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
        let path = escape_control(&path.to_string_lossy());
        Self::Failed(anyhow::anyhow!("cannot write {path}: {error}{hint}"))
    }

    /// Names the file, when this came of writing it; what else goes wrong names itself.
    fn in_writing(self, path: &Path) -> Self {
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
    Diff(diff::Arguments),
    #[command(after_help = examples::CHECK)]
    Check(Box<check::Arguments>),
    Completions(completions::Arguments),
}

/// What `report --json` calls its documents.
const REPORT_SCHEMA: &str = "fdtrace.report/1";

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
    survive_large_files();
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

/// Descriptors that a runtime needs, which panics without them.
const ROOM: usize = 16;

/// What waits for events, signals of children and moments, in this thread alone.
fn runtime() -> io::Result<Runtime> {
    let room: io::Result<Vec<File>> = (0..ROOM).map(|_| File::open("/dev/null")).collect();
    drop(room.map_err(|error| io::Error::other(format!("no room for {ROOM} more open files: {error}")))?);
    Builder::new_current_thread().enable_all().build()
}

/// A file that has reached RLIMIT_FSIZE kills its writer, unless it handles the signal; then writing is an error. A handler
/// is nothing that a command would inherit.
fn survive_large_files() {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &action) };
}

/// Whoever read our output has gone; that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}
