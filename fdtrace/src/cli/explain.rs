use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use super::{Failure, Outcome, options::OutputOptions, values};
use crate::{
    census::{self, Census},
    explain::{self, Around, Focus, Holder, Paths, SocketState},
    kinds::Kind,
    process::{self, around},
    report::explain::{
        self as report, Document,
        document::{Frame, Slabs},
    },
};

/// Show where all open files are: why file-nr and lsof disagree
///
/// Needs no tracing and no set-up. Every handle counts once, whoever holds it; the hidden ones, which lsof cannot see, are
/// named with what hides them.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Only what this process holds; can be repeated
    #[arg(short, long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// Only handles of this kind; can be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = values::kind)]
    kinds: Vec<Kind>,
    /// Only handles that are held so; can be repeated
    #[arg(long = "holder", value_name = "HOLDER", value_parser = values::holder)]
    holders: Vec<Holder>,
    /// Only handles to which no descriptor points: what lsof cannot see
    #[arg(long)]
    hidden: bool,
    /// Only files that have no name any more, and the room that they take
    #[arg(long)]
    deleted: bool,
    /// Only sockets in this state, as ss names it
    #[arg(long, value_name = "STATE", value_parser = values::socket_state)]
    sockets: Option<SocketState>,
    /// Only handles that share their file with another handle
    #[arg(long)]
    same_inode: bool,
    /// Only descriptors that came over exec, and that the program did not open
    #[arg(long)]
    inherited: bool,
    /// Give up what takes longer
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = values::interval)]
    deadline: Duration,
    #[command(flatten)]
    output: OutputOptions,
}

/// Groups of files of one process in a document.
const GROUPS_IN_JSON: usize = 1000;
/// The same on a screen.
const GROUPS_ON_SCREEN: usize = 100;

pub(super) fn run(arguments: &Arguments) -> Outcome {
    for pid in &arguments.pids {
        if !process::exists(*pid) {
            return Err(Failure::Failed(anyhow::anyhow!("there is no process {pid}")));
        }
    }
    let census = census::take(arguments.deadline)?;
    let document = document(arguments, &census);
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &document).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        report::write(&mut out, &document, arguments.output.style(false), speaks_unicode())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn document(arguments: &Arguments, census: &Census) -> Document {
    let around = Around {
        loop_devices: around::loop_devices(),
        swap_files: around::swap_files(),
        nfs_server: around::has_nfs_server(),
        graphics: around::has_graphics(),
        inside_pid_namespace: around::is_inside_pid_namespace(),
    };
    let focus = Focus {
        pids: arguments.pids.clone(),
        kinds: arguments.kinds.clone(),
        holders: arguments.holders.clone(),
        hidden: arguments.hidden,
        deleted: arguments.deleted,
        sockets: arguments.sockets,
        same_inode: arguments.same_inode,
        inherited: arguments.inherited,
        groups: if arguments.json { GROUPS_IN_JSON } else { GROUPS_ON_SCREEN },
        places: false,
    };
    let found = explain::explain(census, &around, &focus, &mut ProcLinks);
    let [filp, vm_area_struct] = around::slabs(["filp", "vm_area_struct"]);
    let frame = Frame {
        focus: words(&focus),
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        duration_ns: u64::try_from(census.took.as_nanos()).unwrap_or(u64::MAX),
        nr_open: around::nr_open(),
        slabs: Slabs { filp, vm_area_struct },
    };
    Document::new(&found, frame, |pid| {
        let identity = process::identity(pid);
        (identity.exe, identity.cgroup)
    })
}

/// The options that say the same.
fn words(focus: &Focus) -> Vec<String> {
    let mut words: Vec<String> = focus.pids.iter().map(|pid| format!("--pid {pid}")).collect();
    words.extend(focus.kinds.iter().map(|kind| format!("--kind {}", kind.name())));
    words.extend(focus.holders.iter().map(|holder| format!("--holder {}", holder.name())));
    words.extend(focus.sockets.map(|state| format!("--sockets {}", state.name().to_lowercase())));
    let flags = [
        (focus.hidden, "--hidden"),
        (focus.deleted, "--deleted"),
        (focus.same_inode, "--same-inode"),
        (focus.inherited, "--inherited"),
    ];
    words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
    words
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

/// Paths as `/proc` has them.
struct ProcLinks;

impl Paths for ProcLinks {
    fn of_descriptor(&mut self, pid: u32, fd: u32) -> Option<PathBuf> {
        process::descriptor_path(pid, fd)
    }

    fn of_mapping(&mut self, pid: u32, start: u64, end: u64) -> Option<PathBuf> {
        process::mapping_path(pid, start, end)
    }
}
