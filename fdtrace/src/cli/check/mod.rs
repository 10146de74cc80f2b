//! `check`: the gate for CI.

mod outputs;
mod policy;
mod project;

use std::{
    io::{self, BufWriter},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use self::{outputs::Outputs, policy::Settled, project::Project};
use super::{
    fail,
    options::{OutputOptions, TraceOptions, Watch},
    say::say,
    values,
};
use crate::{
    kernel::{Acquisitions, Filters, Settings},
    model::check::Verdict,
    process, report,
    session::{
        Failure,
        check::{Check, Checked, join},
        command::{self, Passed},
        recording::News,
        runtime,
        signals::{self, FOR_A_COMMAND, Signals},
        user::Credentials,
    },
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
/// What this kernel's table of handles was too small for, or too much was lost.
const INCONCLUSIVE: u8 = 24;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let joins = arguments.join && join::is_joined();
    match if joins { join(arguments) } else { check(arguments) } {
        Ok(status) => status,
        Err(Failure::Failed(error)) => fail(&format!("{error:#}"), FAILED),
        Err(Failure::Usage(sentence)) => fail(&sentence, 2),
    }
}

/// Becomes the command, as a scope of the check around it.
fn join(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let passed = Passed::read()?;
    if let Err(why) = join::announce(&arguments.command) {
        say!("note: {why}");
    }
    let (status, sentence) = command::replace(&arguments.command, passed);
    Ok(fail(&sentence, status))
}

fn check(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let passed = Passed::read()?;
    let signals = Signals::take(FOR_A_COMMAND)?;
    // Where there is no room for it there is none for the files of a project either.
    let runtime = runtime()?;
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let project = Project::find(&folder)?;
    let settled = arguments.policy.settle(project.as_ref())?;
    let credentials = arguments.user.as_deref().map(Credentials::find).transpose()?;
    let outputs = arguments.reports.open(settled.write_baseline.as_deref())?;
    let check = Check {
        command: &arguments.command,
        duration: arguments.duration.unwrap_or_default(),
        until: arguments.until.as_deref(),
        signal: arguments.signal,
        keep_trace: arguments.trace.as_deref(),
        settings: arguments.settings()?,
        max_per_site: settled.max_per_site,
        settle: settled.settle,
        close_wait: settled.close_wait,
        policy: &settled.policy,
        passed,
        signals,
        news: News::of(arguments.trace.as_deref()),
        note: &|sentence| say!("{sentence}"),
    };
    match runtime.block_on(check.run(credentials))? {
        Ok(checked) => Ok(arguments.conclude(&checked, &settled, outputs)),
        Err((status, sentence)) => Ok(fail(&sentence, status)),
    }
}

impl Arguments {
    fn settings(&self) -> Result<Settings, Failure> {
        // The command is our child: whoever follows us follows it from its first moment, and we trace nothing of ours.
        let pids = match self.pids.as_slice() {
            [] => vec![std::process::id()],
            pids => match pids.iter().find(|pid| !process::exists(**pid)) {
                Some(gone) => return Err(Failure::Usage(format!("there is no process {gone}"))),
                None => process::with_descendants(pids),
            },
        };
        let filters = Filters { pids, follow: true, ..Filters::default() };
        self.tracing.settings(
            filters,
            Watch {
                mappings: true,
                fd_exit_scan: true,
                descriptors: Acquisitions::Watched,
                // What a service closes when it is told to end is no merit anyway.
                closers: !self.command.is_empty() && self.until.is_none(),
                min_age: Duration::ZERO,
            },
        )
    }

    /// Says and writes what was found: the exit status.
    fn conclude(&self, checked: &Checked, settled: &Settled, outputs: Outputs) -> ExitCode {
        let findings = &checked.findings;
        let style = self.output.error_style();
        // Whatever cannot be written, the rest is. Standard error may be full, or closed.
        drop(report::check::write_text(&mut BufWriter::new(io::stderr().lock()), findings, style));
        let written = outputs.write(findings);
        let status = match findings.verdict {
            // Whoever writes a baseline has decided to live with what leaks.
            Verdict::Leak if !written.baseline => settled.leak_exit_code,
            Verdict::Inconclusive => INCONCLUSIVE,
            _ if checked.as_told => 0,
            _ => findings.command.ended.status().map_or(0, |status| u8::try_from(status).unwrap_or(u8::MAX)),
        };
        ExitCode::from(if status == 0 && written.failed { FAILED } else { status })
    }
}
