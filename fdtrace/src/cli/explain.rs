use std::{
    ffi::OsString,
    io::{self, BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use super::{
    Outcome,
    options::{FormatOptions, OutputOptions},
    say::say,
    screen::columns,
    values,
};
use crate::{
    analysis,
    explain::{Focus, SocketState},
    model::{
        Holder, Kind,
        explain::{Document, handle::Document as HandlesDocument},
    },
    process,
    report::{
        explain as report,
        explain::{Screen, alert::Alert, growth, handle},
    },
    session::{
        explain::{ALERTED, Alerts, Belonging, Question, handles_called},
        pause::Pause,
    },
    text::fit,
};

/// Show where all open files are, and why file-nr and lsof disagree
///
/// Needs no tracing and no set-up. Every handle counts once, whoever holds it; the hidden ones, which lsof cannot see, are
/// named with what hides them.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    format: FormatOptions,
    /// Show only what this process holds; can be repeated
    #[arg(short, long = "pid", value_name = "PID", value_parser = values::pid)]
    pids: Vec<u32>,
    /// Show only what processes of this name hold (as in /proc/PID/comm, 15 bytes)
    #[arg(short, long, value_name = "NAME", conflicts_with = "pids")]
    comm: Option<OsString>,
    /// Show only handles of this kind; can be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = values::kind)]
    kinds: Vec<Kind>,
    /// Show only handles that are held in this way; can be repeated
    #[arg(long = "holder", value_name = "HOLDER", value_parser = values::holder)]
    holders: Vec<Holder>,
    /// Show only handles to which no descriptor points: what lsof cannot see
    #[arg(long)]
    hidden: bool,
    /// Show only deleted files, and the disk space that they hold
    #[arg(long)]
    deleted: bool,
    /// Show only sockets in this state, as ss names it
    #[arg(long, value_name = "STATE", value_parser = values::socket_state)]
    sockets: Option<SocketState>,
    /// Show only handles that share their file with another handle
    #[arg(long)]
    same_inode: bool,
    /// Show only descriptors that were inherited across exec
    #[arg(long)]
    inherited: bool,
    /// Show what keeps one handle alive, and what its holders do: an address (0x...), PID:FD, an inode number, or a path
    #[arg(long, value_name = "WHAT", conflicts_with_all = [
        "pids", "comm", "kinds", "holders", "hidden", "deleted", "sockets", "same_inode", "inherited", "interval", "diff", "by",
    ])]
    handle: Option<String>,
    /// Take a sample at each interval, and show what grew since the first
    #[arg(long, alias = "watch", value_name = "DUR", value_parser = values::interval, help_heading = "Over time")]
    interval: Option<Duration>,
    /// Stop after N samples
    #[arg(long, value_name = "N", requires = "interval", help_heading = "Over time", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit with status 3 when this share of a limit is used (80%), or when it will be reached within this time (10m); can be repeated
    #[arg(long = "alert", value_name = "SHARE|DUR", requires = "interval", help_heading = "Over time", value_parser = values::alert)]
    alerts: Vec<Alert>,
    /// Run this program for each new alert and go on; it gets the alert on standard input and in FDTRACE_ALERT
    #[arg(long, value_name = "PROGRAM", requires = "alerts", help_heading = "Over time")]
    alert_command: Option<PathBuf>,
    /// Show what is new since this document of explain --json
    #[arg(long, value_name = "OLD", conflicts_with = "interval", help_heading = "Over time")]
    diff: Option<PathBuf>,
    /// Name the call sites of handles by this trace file, of record or live --trace; it may still be written
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Group processes; what the processes of a group share counts once
    #[arg(long, value_enum, value_name = "GROUP")]
    by: Option<By>,
    /// Stop the walk over all holders after this time, and report what was found until then
    #[arg(long, alias = "deadline", value_name = "DUR", default_value = "5s", value_parser = values::interval)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputOptions,
}

/// Groups of files of one process.
const GROUPS: usize = 1000;

/// What makes a group of processes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Each one is its own
    Process,
    /// The path of their cgroup
    Cgroup,
    /// The id in their cgroup's path; where there is none, their mount namespace
    Container,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let question = arguments.question();
    if let Some(word) = &arguments.handle {
        print_handles(arguments, &handles_called(word, &question)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    question.refuse_who_is_gone()?;
    if let Some(interval) = arguments.interval {
        return watch(arguments, &question, interval);
    }
    let old = arguments.diff.as_deref().map(|path| question.old_answer(path)).transpose()?;
    let mut document = question.answer()?;
    document.growth = old.map(|old| analysis::compare(&old, &document, None));
    print(arguments, &document)?;
    Ok(ExitCode::SUCCESS)
}

fn watch(arguments: &Arguments, question: &Question<'_>, interval: Duration) -> Outcome {
    let mut alerts = Alerts::new(&arguments.alerts, arguments.alert_command.as_deref())?;
    let pause = Pause::new()?;
    let mut first = question.answer()?;
    alerts.find(&mut first);
    print_first(arguments, &first)?;
    if alerts.tell(&first, &|sentence| say!("{sentence}"))? {
        return Ok(ExitCode::from(ALERTED));
    }
    let (mut before, mut samples) = (None, 1);
    let mut next = Instant::now();
    while arguments.count.is_none_or(|count| samples < count) {
        // One that took too long does not hasten the others.
        next = (next + interval).max(Instant::now());
        if !pause.wait(next.saturating_duration_since(Instant::now())) {
            break;
        }
        let mut now = question.answer()?;
        now.growth = Some(analysis::compare(before.as_ref().unwrap_or(&first), &now, Some(&first)));
        alerts.find(&mut now);
        print(arguments, &now)?;
        if alerts.tell(&now, &|sentence| say!("{sentence}"))? {
            return Ok(ExitCode::from(ALERTED));
        }
        before = Some(now);
        samples += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_first(arguments: &Arguments, document: &Document) -> io::Result<()> {
    if arguments.format.json() {
        return print(arguments, document);
    }
    let mut out = io::stdout().lock();
    growth::write_first(&mut out, document)?;
    out.flush()
}

fn print(arguments: &Arguments, document: &Document) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.format.json() {
        return crate::report::write_json(&mut out, document);
    }
    let screen = Screen { unicode: speaks_unicode(), width: columns() };
    let mut tables = Vec::new();
    if let Some(growth) = &document.growth {
        if arguments.interval.is_some() {
            writeln!(tables)?;
        }
        growth::write(&mut tables, document, growth)?;
    }
    if arguments.by.is_some() {
        report::write_process_groups(&mut tables, document)?;
    }
    out.write_all(fit(&String::from_utf8_lossy(&tables), screen.width).as_bytes())?;
    if document.growth.is_none() && arguments.by.is_none() {
        report::write(&mut out, document, arguments.output.style(false), screen)?;
    }
    if let Some(trace) = &document.trace {
        report::write_sites(&mut out, document, trace)?;
    }
    out.flush()
}

fn print_handles(arguments: &Arguments, document: &HandlesDocument) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.format.json() {
        return crate::report::write_json(&mut out, document);
    }
    let screen = Screen { unicode: speaks_unicode(), width: columns() };
    handle::write(&mut out, document, arguments.output.style(false), screen)
}

impl Arguments {
    fn question(&self) -> Question<'_> {
        Question {
            focus: self.focus(),
            comm: self.comm.as_deref(),
            timeout: self.timeout,
            trace: self.trace.as_deref(),
            by: self.by.map(|by| match by {
                By::Process => Belonging::Process,
                By::Cgroup => Belonging::Cgroup,
                By::Container => Belonging::Container,
            }),
            again: self.interval.is_some(),
        }
    }

    fn focus(&self) -> Focus {
        let focus = Focus {
            pids: self.pids.clone(),
            comm: self.comm.as_deref().map(process::kept_name),
            kinds: self.kinds.clone(),
            holders: self.holders.clone(),
            hidden: self.hidden,
            deleted: self.deleted,
            sockets: self.sockets,
            same_inode: self.same_inode,
            inherited: self.inherited,
            groups: GROUPS,
            places: self.trace.is_some(),
            peers: false,
        };
        // They take time, and the whole has no room for them.
        Focus { peers: self.format.json() || !focus.is_everything(), ..focus }
    }
}

/// Whether the terminal draws more than ASCII, as far as the locale says.
fn speaks_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
