use std::{
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, sleep_until},
};

use super::{
    Failure, Outcome,
    options::{FilterOptions, TraceOptions, Watch},
    recording::RecordingOptions,
    stop::Stop,
    tracing::{Attached, Tracing, WITNESS, ticker},
    values,
};
use crate::{
    collect::Written,
    kernel::Acquisitions,
    report::words,
    view::{Selection, View},
};

/// Record every allocation and release of a handle into a file, for `fdtrace report`
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Stop after this time [default: with Ctrl-C, or when CMD ends]
    #[arg(long, value_name = "DUR", value_parser = values::interval)]
    duration: Option<Duration>,
    /// Do not record who maps handles (the tracepoint backend pays for that with every system call)
    #[arg(long)]
    no_mappings: bool,
    /// Do not record who duplicates descriptors (the tracepoint backend pays for that likewise)
    #[arg(long)]
    no_descriptors: bool,
    /// With CMD: trace all processes, not only CMD and its descendants
    #[arg(short, long, requires = "command")]
    all_processes: bool,
    /// Only count what its own process closes before this age
    #[arg(long, value_name = "DUR", default_value = "0s", value_parser = values::duration)]
    min_age: Duration,
    /// A command to run; fdtrace ends with its exit status
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
    #[command(flatten)]
    recording: RecordingOptions,
    #[command(flatten)]
    filters: FilterOptions,
    #[command(flatten)]
    trace: TraceOptions,
}

/// How often it looks: the moments that a report has documents of, and up to which the file can be read.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &Arguments) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(record(arguments))
}

async fn record(arguments: &Arguments) -> Outcome {
    let mut filters = arguments.filters.filters()?;
    if !arguments.command.is_empty() && !arguments.all_processes {
        if !filters.pids.is_empty() {
            return Err(Failure::Usage("--pid and a command to run exclude each other".to_owned()));
        }
        // The command is our child: whoever follows us follows it from its first moment, and we trace nothing of ours.
        (filters.pids, filters.follow) = (vec![std::process::id()], true);
    }
    let descriptors = if arguments.no_descriptors { Acquisitions::Off } else { Acquisitions::Watched };
    let settings = arguments.trace.settings(
        filters,
        Watch { mappings: !arguments.no_mappings, leaving: false, descriptors, min_age: arguments.min_age },
    )?;
    let mut attached = Attached::attach(&settings)?;
    // Whoever sees the file may end the recording.
    let mut stop = Stop::new()?;
    let header = attached.header(&settings, &arguments.command);
    let sink = arguments.recording.create(&arguments.output, header)?;
    let mut view = View::new(attached.session.clone(), Selection::default());
    let mut tracing = attached.begin(Some(Box::new(sink)), true)?;
    if io::stderr().is_terminal() && arguments.command.is_empty() {
        eprintln!("fdtrace: recording into {}; Ctrl-C ends it", arguments.output.display());
    }
    let mut child = spawn(&arguments.command)?;
    tracing.keep_only_what_is_needed()?;
    let stopped = watch(arguments, &mut tracing, &mut view, &mut stop, child.as_mut()).await?;
    let written = end(&mut tracing, &mut view).await?;
    eprintln!(
        "fdtrace: {} in {}{}",
        words::bytes(written.bytes),
        arguments.output.display(),
        if stopped == Stopped::Full { "; it has reached --max-size, and the recording ended" } else { "" }
    );
    match child {
        Some(mut child) => Ok(status(child.wait().await?)),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn spawn(command: &[String]) -> Result<Option<Child>, Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let child = Command::new(program).args(arguments).spawn();
    child.map(Some).map_err(|error| Failure::Failed(anyhow::anyhow!("{program}: {error}")))
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
    stop: &mut Stop,
    mut child: Option<&mut Child>,
) -> Result<Stopped, Failure> {
    let mut witness = ticker(WITNESS);
    let mut looks = ticker(LOOK);
    let end = arguments.duration.map(|duration| Instant::now() + duration);
    loop {
        tokio::select! {
            _ = witness.tick() => tracing.witness().await?,
            _ = looks.tick() => {
                tracing.look(view).await?;
                if tracing.collector().flush().await?.full && !arguments.recording.rotates() {
                    return Ok(Stopped::Full);
                }
            }
            () = stop.wait() => {
                stop.at_the_second_signal();
                // A command on the same terminal was interrupted as well; its end is what it was asked for.
                if child.is_none() {
                    return Ok(Stopped::AsAsked);
                }
            }
            () = ended(&mut child) => return Ok(Stopped::AsAsked),
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

/// The last look, with the names of what is alive.
async fn end(tracing: &mut Tracing, view: &mut View) -> io::Result<Written> {
    tracing.collector().conclude().await?;
    tracing.look(view).await?;
    tracing.name_survivors().await?;
    let written = tracing.collector().flush().await?;
    tracing.collector().finish().await?;
    tracing.say_remarks();
    Ok(written)
}

/// The command's own status; 128 and the signal that killed it, as shells have it.
fn status(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
