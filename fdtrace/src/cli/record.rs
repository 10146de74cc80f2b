use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use tokio::{
    process::Child,
    time::{Instant, sleep_until},
};

use super::{
    Outcome,
    options::{FilterOptions, Switch, TraceOptions, Watch},
    recording::RecordingOptions,
    say::{say, say_all},
    values,
};
use crate::{
    collect::Written,
    kernel::Acquisitions,
    session::{
        Failure,
        command::{self, Passed, Scope},
        recording::News,
        runtime,
        signals::{FOR_A_COMMAND, Signals, TO_STOP},
        tracing::{Attached, Tracing, ticker},
    },
    text::fmt::{self, escape_control},
    view::{Selection, View},
};

/// Record every allocation and release of a handle to a file, for `fdtrace report`
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Stop after this time [default: with Ctrl-C, or when CMD ends]
    #[arg(long, value_name = "DUR", value_parser = values::interval)]
    duration: Option<Duration>,
    /// Record who maps handles; with the tracepoint backend each system call pays some 50 ns for it
    #[arg(long, value_enum, value_name = "ON|OFF", require_equals = true, default_value = "on")]
    mappings: Switch,
    #[arg(long, hide = true)]
    no_mappings: bool,
    /// Record who duplicates descriptors; with the tracepoint backend each system call pays for it likewise
    #[arg(long, value_enum, value_name = "ON|OFF", require_equals = true, default_value = "on")]
    descriptors: Switch,
    #[arg(long, hide = true)]
    no_descriptors: bool,
    /// With CMD: trace all processes, not only CMD and its descendants
    #[arg(short, long, requires = "command")]
    all_processes: bool,
    /// Only count what its own process closes before this age
    #[arg(long, value_name = "DUR", default_value = "0s", value_parser = values::duration)]
    min_age: Duration,
    /// A command to run; fdtrace ends with its exit status
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    #[command(flatten)]
    recording: RecordingOptions,
    #[command(flatten)]
    filters: FilterOptions,
    #[command(flatten)]
    trace: TraceOptions,
}

/// How often it looks: the moments that a report has documents of, and up to which the file can be read.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let passed = Passed::read()?;
    let signals = Signals::take(if arguments.command.is_empty() { TO_STOP } else { FOR_A_COMMAND })?;
    runtime()?.block_on(record(arguments, passed, &signals))
}

async fn record(arguments: &Arguments, passed: Passed, signals: &Signals) -> Outcome {
    let mut filters = arguments.filters.filters()?;
    if !arguments.command.is_empty() && !arguments.all_processes {
        if !filters.pids.is_empty() {
            return Err(Failure::Usage("--pid and a command to run exclude each other".to_owned()));
        }
        // The command is our child: whoever follows us follows it from its first moment, and we trace nothing of ours.
        (filters.pids, filters.follow) = (vec![std::process::id()], true);
    }
    let watches = |switch: Switch, not: bool| switch == Switch::On && !not;
    let descriptors = if watches(arguments.descriptors, arguments.no_descriptors) {
        Acquisitions::Watched
    } else {
        Acquisitions::Off
    };
    let settings = arguments.trace.settings(
        filters,
        Watch {
            mappings: watches(arguments.mappings, arguments.no_mappings),
            descriptors,
            min_age: arguments.min_age,
            ..Watch::default()
        },
    )?;
    let mut attached = Attached::attach(&settings)?;
    say_all(&attached.remarks());
    if arguments.command.is_empty() {
        // Whoever sees the file may end the recording.
        signals.watch();
    }
    let argv: Vec<String> =
        arguments.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let header = attached.header(&settings, &argv);
    let sink = arguments.recording.create(&arguments.output, header)?;
    let mut view = View::new(attached.session.clone(), Selection::default());
    let mut tracing = attached.begin(Some(Box::new(sink)), true)?;
    let path = escape_control(&arguments.output.to_string_lossy());
    if io::stderr().is_terminal() && arguments.command.is_empty() {
        say!("recording into {path}; Ctrl-C ends it");
    }
    let mut child = start(arguments, passed, signals)?;
    tracing.keep_only_what_is_needed()?;
    let news = News::of(Some(&arguments.output));
    let stopped = watch(arguments, &mut tracing, &mut view, signals, child.as_mut(), &news).await?;
    let written = end(&mut tracing, &mut view).await?;
    news.of_written(&written, "what came since is not in it").iter().for_each(|sentence| say!("{sentence}"));
    let why =
        if stopped == Stopped::Full { "; it has reached --max-size, and the recording ended" } else { "" };
    say!("{} in {path}{why}", fmt::bytes(written.bytes));
    Ok(match &mut child {
        // It runs on when the time is over or the file is full.
        Some(child) => status(child.wait().await?),
        None if written.failure.is_some() => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

fn start(arguments: &Arguments, passed: Passed, signals: &Signals) -> Result<Option<Child>, Failure> {
    if arguments.command.is_empty() {
        return Ok(None);
    }
    let started =
        signals.start(false, || command::start(&arguments.command, passed, None, None, Scope::Inherited))?;
    started.map(Some).map_err(|(_, sentence)| Failure::Failed(anyhow::anyhow!(sentence)))
}

/// Why a recording ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// The command, the time, or somebody's patience is over.
    AsAsked,
    /// The file has reached the size that it may have.
    Full,
}

async fn watch(
    arguments: &Arguments,
    tracing: &mut Tracing,
    view: &mut View,
    signals: &Signals,
    mut child: Option<&mut Child>,
    news: &News<'_>,
) -> Result<Stopped, Failure> {
    let mut samples = ticker(SAMPLE_INTERVAL);
    let end = arguments.duration.map(|duration| Instant::now() + duration);
    loop {
        tokio::select! {
            () = tracing.news() => tracing.enrich().await?,
            _ = samples.tick() => {
                tracing.sample(view).await?;
                let written = tracing.collector().flush().await?;
                if written.failure.is_some() && child.is_none() {
                    return Ok(Stopped::AsAsked);
                }
                news.of_written(&written, "the command runs on").iter().for_each(|sentence| say!("{sentence}"));
                if written.full && !arguments.recording.rotates() {
                    return Ok(Stopped::Full);
                }
            }
            () = signals.stopped() => return Ok(Stopped::AsAsked),
            () = ended(&mut child) => {
                signals.finish();
                return Ok(Stopped::AsAsked);
            }
            () = until(end) => return Ok(Stopped::AsAsked),
        }
    }
}

async fn ended(child: &mut Option<&mut Child>) {
    match child {
        // A child that cannot be waited for has ended.
        Some(child) => drop(child.wait().await),
        None => std::future::pending().await,
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The last sample, with the names of what is alive.
async fn end(tracing: &mut Tracing, view: &mut View) -> io::Result<Written> {
    tracing.collector().conclude().await?;
    tracing.sample(view).await?;
    tracing.name_live().await?;
    let written = tracing.collector().finish().await?;
    say_all(&tracing.take_remarks());
    Ok(written)
}

/// The command's own status; 128 and the signal that killed it, as shells have it.
fn status(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
