//! `check`: the gate for CI.

mod archive;
mod join;
mod outputs;
mod policy;
mod project;
mod run;
mod scope;
mod until;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use super::{
    Failure, fail,
    options::{OutputOptions, TraceOptions},
    signals, values,
};

/// Run a command, and fail when it or a child leaks open files
///
/// The exit status is the command's own (128 and the number of the signal that killed it) when nothing leaks; 23 when
/// something does; 24 when too much was lost to say so; 125 when fdtrace itself failed, 126 when the command cannot be
/// executed, and 127 when it is not found. Standard output is the command's; the report goes to standard error when it has
/// ended.
#[derive(clap::Args)]
#[command(
    after_help = "`.fdtrace.toml` in the project's folder sets defaults: a table [check] with the long options' names."
)]
pub(super) struct Arguments {
    /// Watch a running process and its descendants for --duration: what grows is a leak; can be repeated
    #[arg(short, long = "pid", value_name = "PID", value_parser = values::pid, requires = "duration", conflicts_with = "command")]
    pids: Vec<u32>,
    /// With --pid: how long to watch
    #[arg(long, value_name = "DUR", requires = "pids", value_parser = values::interval)]
    duration: Option<Duration>,
    /// For a service: end CMD as soon as this shell command succeeds; it is run again until it does. What grows is a leak
    #[arg(long, value_name = "SHELL", requires = "command")]
    until: Option<String>,
    /// With --until: the signal that ends CMD
    #[arg(long, value_name = "NAME", default_value = "TERM", value_parser = signals::parse)]
    signal: i32,
    /// Run CMD as this user, with the user's groups; the environment stays as it is
    #[arg(long, value_name = "USER[:GROUP]", requires = "command")]
    user: Option<String>,
    /// Within the command of a check: run CMD as a scope of that check, named by its arguments. Elsewhere: a check of its own
    #[arg(long, requires = "command", conflicts_with = "until")]
    join: bool,
    /// Write a trace file too, for `fdtrace report`
    #[arg(long, alias = "keep-trace", value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The command to run
    #[arg(last = true, value_name = "CMD", required_unless_present = "pids")]
    command: Vec<std::ffi::OsString>,
    #[command(flatten)]
    policy: policy::PolicyOptions,
    #[command(flatten)]
    reports: outputs::ReportOptions,
    #[command(flatten)]
    output: OutputOptions,
    #[command(flatten)]
    tracing: TraceOptions,
}

/// fdtrace itself failed.
pub(super) const FAILED: u8 = 125;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let joins = arguments.join && join::is_joined();
    match if joins { join::run(&arguments.command) } else { run::check(arguments) } {
        Ok(status) => status,
        Err(Failure::Failed(error)) => fail(&format!("{error:#}"), FAILED),
        Err(Failure::Usage(sentence)) => fail(&sentence, 2),
    }
}
