//! Options that several verbs have.

use std::{
    ffi::OsString,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{say::line, values};
use crate::{
    files,
    kernel::{Acquisitions, Backend, Emit, FileNr, Filters, Settings, Stacks, Unwind},
    model::{Kind, Origin},
    process,
    report::Style,
    session::{Failure, privilege},
    text::fmt::escape_control,
    view::Selection,
};

/// What is traced.
#[derive(Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct FilterOptions {
    /// Trace only this process; can be repeated
    #[arg(short, long = "pid", value_name = "PID", value_parser = values::pid)]
    pids: Vec<u32>,
    /// Trace the descendants of --pid as well
    #[arg(long, requires = "pids")]
    follow: bool,
    /// Trace only tasks of this name (as in /proc/PID/comm, 15 bytes)
    #[arg(short, long, value_name = "NAME")]
    comm: Option<OsString>,
    /// Trace only tasks in this cgroup (v2) or below it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Trace only tasks of this user id
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
}

/// What is shown of what was traced.
#[derive(Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct KindOptions {
    /// Show only sites with handles of this kind (regular, directory, socket, fifo, anon, memfd, shm, ...); can be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = values::kind)]
    kinds: Vec<Kind>,
    /// Show only sites of this origin (open, open_dir, socket, pipe, anon_inode, shm_attach, shmem, ...); can be repeated
    #[arg(long = "origin", value_name = "ORIGIN", value_parser = values::origin)]
    origins: Vec<Origin>,
}

impl FilterOptions {
    /// What the kernel side filters.
    pub(super) fn filters(&self) -> Result<Filters, Failure> {
        if let Some(gone) = self.pids.iter().find(|pid| !process::exists(**pid)) {
            return Err(Failure::Usage(format!("there is no process {gone}")));
        }
        let pids = if self.follow { process::with_descendants(&self.pids) } else { self.pids.clone() };
        Ok(Filters {
            pids,
            follow: self.follow,
            comm: self.comm.clone(),
            cgroup: self.cgroup.clone(),
            uid: self.uid,
        })
    }
}

impl KindOptions {
    /// What the view selects.
    pub(super) fn selection(&self) -> Selection {
        Selection { kinds: self.kinds.clone(), origins: self.origins.clone(), ..Selection::default() }
    }
}

/// What is shown of a trace file.
#[derive(Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct SelectionOptions {
    /// Show only handles that this process allocated; can be repeated
    #[arg(short, long = "pid", value_name = "PID", value_parser = values::pid)]
    pids: Vec<u32>,
    /// Show only handles of processes of this name
    #[arg(short, long, value_name = "NAME")]
    comm: Option<OsString>,
    /// Show only handles of processes in this cgroup or below it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// Show only handles at least this old
    #[arg(long, value_name = "DUR", value_parser = values::duration)]
    min_age: Option<Duration>,
    #[command(flatten)]
    kinds: KindOptions,
}

impl SelectionOptions {
    /// What the view selects.
    pub(super) fn selection(&self) -> Selection {
        Selection {
            pids: self.pids.clone(),
            comm: self.comm.as_deref().map(process::kept_name),
            cgroup: self.cgroup.clone(),
            min_age_ns: self.min_age.map_or(0, nanoseconds),
            ..self.kinds.selection()
        }
    }
}

/// A duration in nanoseconds.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `None` is `auto`. Under a name of its own, or clap takes the option for one that may be left out.
type Choice = Option<Backend>;

/// How it is traced.
#[derive(Args)]
#[command(next_help_heading = "Tracing")]
pub(super) struct TraceOptions {
    /// auto, kprobe, fentry or tracepoint
    #[arg(long, default_value = "auto", value_parser = values::backend)]
    backend: Choice,
    /// Stacks to take
    #[arg(long, value_enum, default_value_t = StackOption::Both)]
    stacks: StackOption,
    /// How a process's stack is followed
    #[arg(long, value_enum, default_value_t = UnwindOption::Auto)]
    unwind: UnwindOption,
    /// Follow asynchronous work of Node.js (libuv) back to the script that submitted it: by uprobes in all
    /// its processes; needs --unwind dwarf
    #[arg(long = "async")]
    submitters: bool,
    /// Size of the ring buffer: a power of two from 4K to 1G
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = values::ring_size)]
    ring_size: u32,
    /// The most live handles that are traced [default: 262144 and 1.25 times file-nr]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_handles: Option<u32>,
    /// Load another BPF object, and print what its programs log (built by `cargo xtask ebpf --log`)
    #[arg(long, value_name = "OBJECT", hide_short_help = true)]
    bpf_log: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum StackOption {
    /// None
    Off,
    /// The process's
    User,
    /// The process's and the kernel's
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum UnwindOption {
    /// By unwind tables, where this architecture has them (x86_64)
    Auto,
    /// By frame pointers: cheaper at first sight, and wrong for most programs
    Fp,
    /// By unwind tables (.eh_frame, .debug_frame), exact for nearly all programs
    Dwarf,
    /// Not at all: the kernel's half is enough
    Off,
}

/// What is watched besides allocations and releases.
#[derive(Clone, Copy, Default)]
pub(super) struct Watch {
    /// Who maps handles.
    pub(super) mappings: bool,
    /// What is open when a program ends.
    pub(super) fd_exit_scan: bool,
    /// Who installs descriptors for handles that were there before.
    pub(super) descriptors: Acquisitions,
    /// Who closes handles.
    pub(super) closers: bool,
    /// Min-age filter: handles that their own process closes before this age are only counted; zero for none.
    pub(super) min_age: Duration,
}

/// Enough for nearly every machine; 110 bytes of kernel memory each.
const DEFAULT_HANDLES: u64 = 262_144;

/// Set to have stacks that were found without a walk compared with walks: for the end-to-end tests.
const COMPARE_STACKS: &str = "FDTRACE_COMPARE_STACKS";

impl TraceOptions {
    /// What the tracer is started with.
    ///
    /// # Errors
    /// What is asked for does not exist on this architecture.
    pub(super) fn settings(&self, filters: Filters, watch: Watch) -> Result<Settings, Failure> {
        let object = self.bpf_log.as_deref().map(object).transpose()?;
        if object.is_some() {
            log_to_stderr();
        }
        let unwind = self.unwind()?;
        Ok(Settings {
            backend: self.backend,
            filters,
            stacks: match self.stacks {
                StackOption::Off => Stacks::Off,
                StackOption::User => Stacks::User,
                StackOption::Both => Stacks::Both,
            },
            unwind,
            ring_bytes: self.ring_size,
            max_handles: self.max_handles.unwrap_or_else(default_handles),
            failures: true,
            mappings: watch.mappings,
            fd_exit_scan: watch.fd_exit_scan,
            descriptors: watch.descriptors,
            closers: watch.closers,
            submitters: self.submitters(unwind)?,
            compare_stacks: std::env::var_os(COMPARE_STACKS).is_some(),
            emit: Emit::from_age(nanoseconds(watch.min_age)),
            object,
        })
    }

    /// Frames of a script that asks are found by tables only.
    fn submitters(&self, unwind: Unwind) -> Result<bool, Failure> {
        let has_stacks = unwind == Unwind::Tables && !matches!(self.stacks, StackOption::Off);
        if self.submitters && !has_stacks {
            return Err(Failure::Usage("--async needs the process's stacks, by --unwind dwarf".to_owned()));
        }
        Ok(self.submitters)
    }

    fn unwind(&self) -> Result<Unwind, Failure> {
        Ok(match self.unwind {
            UnwindOption::Auto => Unwind::BEST,
            UnwindOption::Fp => Unwind::FramePointers,
            UnwindOption::Dwarf if Unwind::BEST == Unwind::Tables => Unwind::Tables,
            UnwindOption::Dwarf => {
                let text = format!("--unwind dwarf is for x86_64, and this is {}", std::env::consts::ARCH);
                return Err(Failure::Usage(text));
            }
            UnwindOption::Off => Unwind::Off,
        })
    }
}

/// The most of a BPF object that is read.
const MAX_OBJECT: u64 = 64 << 20;

/// Reads another BPF object: for those who may load one themselves.
fn object(path: &Path) -> Result<Vec<u8>, Failure> {
    if privilege::is_lent() {
        let sentence =
            "--bpf-log is not for a program whose file lends it capabilities: everybody could load anything";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    let name = escape_control(&path.to_string_lossy());
    files::read(path, MAX_OBJECT)
        .map_err(|error| Failure::Failed(anyhow::anyhow!("cannot read {name}: {error}")))
}

/// What the BPF programs and aya log goes to standard error.
fn log_to_stderr() {
    struct Stderr;
    impl log::Log for Stderr {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            line(format_args!("{} {}: {}", record.level(), record.target(), record.args()));
        }
        fn flush(&self) {}
    }
    // Somebody who has set a logger before gets the messages.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// Room for all that there is, and as much as on an idle machine for what is to come.
pub(super) fn default_handles() -> u32 {
    let there = FileNr::read().map_or(0, |file_nr| file_nr.allocated);
    u32::try_from(there + there / 4 + DEFAULT_HANDLES).unwrap_or(u32::MAX)
}

/// Whether something dear is watched.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// Watched
    On,
    /// Not watched
    Off,
}

/// What a verb prints on standard output.
#[derive(Args)]
pub(super) struct FormatOptions {
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs: a document on each line
    Json,
}

impl FormatOptions {
    /// Whether JSON is wanted.
    pub(super) fn json(&self) -> bool {
        self.json || self.format == Format::Json
    }
}

/// How much is printed, and how it looks.
#[derive(Args)]
pub(super) struct OutputOptions {
    /// The most rows to show [default: 10; in JSON and other formats all]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Whole stacks, with modules and kernel frames
    #[arg(short, long)]
    verbose: bool,
    /// When to use colours
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

/// Rows of a text that are shown unless asked otherwise.
const TOP: usize = 10;

impl OutputOptions {
    /// The most rows of a text.
    pub(super) fn rows(&self) -> usize {
        self.top.unwrap_or(TOP)
    }

    /// The most rows where nobody reads them one by one.
    pub(super) fn all_rows(&self) -> usize {
        self.top.unwrap_or(usize::MAX)
    }

    /// How a text about something that has ended looks on standard error.
    pub(super) fn error_style(&self) -> Style {
        let color = self.color.wanted(std::io::stderr().is_terminal());
        Style { color, top: self.rows(), verbose: self.verbose, finished: true }
    }

    /// How a text looks on standard output; `finished` when it is about a trace that has ended.
    pub(super) fn style(&self, finished: bool) -> Style {
        Style { color: self.color.for_stdout(), top: self.rows(), verbose: self.verbose, finished }
    }
}

/// When to use colours.
#[derive(Clone, Copy, ValueEnum)]
enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Whether standard output gets colours; NO_COLOR is respected.
    fn for_stdout(self) -> bool {
        self.wanted(std::io::stdout().is_terminal())
    }

    fn wanted(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}
