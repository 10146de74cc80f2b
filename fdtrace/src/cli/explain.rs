mod alert;
mod handle;
mod limits;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use clap::ValueEnum;

use alert::{ALERTED, Alerts};

use super::{
    Failure, Outcome, load_json,
    options::{FormatOptions, OutputOptions},
    pause::Pause,
    screen::columns,
    trace_join::Trace,
    values,
};
use crate::{
    collect::monotonic_ns,
    explain::{self, Around, Focus, Holder, Paths, SocketState},
    holders::{self, HolderSnapshot},
    kinds::Kind,
    process::{self, Standing, around},
    report::{
        explain::{
            self as report, Document, Screen,
            alert::Alert,
            document::{self, Frame, ProcessGroupLine, Slabs, Whose},
            growth,
        },
        fit,
        fmt::escape_control,
    },
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
    #[arg(long = "alert", value_name = "SHARE|DUR", requires = "interval", help_heading = "Over time", value_parser = alert::parse)]
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

/// Groups of files of one process.
const GROUPS: usize = 1000;

pub(super) fn run(arguments: &Arguments) -> Outcome {
    if let Some(word) = &arguments.handle {
        return handle::run(arguments, word);
    }
    for pid in &arguments.pids {
        wanted(*pid)?;
    }
    if let Some(interval) = arguments.interval {
        return watch(arguments, interval);
    }
    let old = arguments.diff.as_deref().map(|path| old(arguments, path)).transpose()?;
    let mut document = walk(arguments)?;
    document.growth = old.map(|old| growth::compare(&old, &document, None));
    print(arguments, &document)?;
    Ok(ExitCode::SUCCESS)
}

/// What an earlier document says, if it says it of the same handles.
fn old(arguments: &Arguments, path: &Path) -> Result<Document, Failure> {
    let old = load_json::read(path)?;
    let focus = words(&arguments.focus());
    let sorted = |focus: &[String]| BTreeSet::from_iter(focus.iter().cloned());
    if sorted(&old.focus) == sorted(&focus) {
        return Ok(old);
    }
    let words = |focus: &[String]| {
        if focus.is_empty() { "of everything".to_owned() } else { format!("with {}", focus.join(" ")) }
    };
    let (path, then, now) = (path.to_string_lossy(), words(&old.focus), words(&focus));
    let sentence = format!("{path} was taken {then}, and this sample is {now}: they cannot be compared");
    Err(Failure::Failed(anyhow::anyhow!(escape_control(&sentence))))
}

fn watch(arguments: &Arguments, interval: Duration) -> Outcome {
    let mut alerts = Alerts::new(&arguments.alerts, arguments.alert_command.as_deref())?;
    let pause = Pause::new()?;
    let mut first = walk(arguments)?;
    alerts.find(&mut first);
    print_first(arguments, &first)?;
    if alerts.tell(&first)? {
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
        let mut now = walk(arguments)?;
        now.growth = Some(growth::compare(before.as_ref().unwrap_or(&first), &now, Some(&first)));
        alerts.find(&mut now);
        print(arguments, &now)?;
        if alerts.tell(&now)? {
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

/// Fails where there is a reason to.
fn refuse(reason: Option<String>) -> Result<(), Failure> {
    reason.map_or(Ok(()), |reason| Err(Failure::Failed(anyhow::anyhow!(escape_control(&reason)))))
}

/// Whether this id can hold anything.
fn wanted(pid: u32) -> Result<(), Failure> {
    let refusal = Standing::of(pid).refusal(pid);
    refusal.map_or(Ok(()), |reason| Err(Failure::Usage(escape_control(&reason))))
}

/// Why nothing can be said of a process, after a walk in which it is not.
fn out_of_sight(snapshot: &HolderSnapshot, pid: u32) -> Option<String> {
    let unreadable = snapshot.unreadable.iter().find(|process| process.pid == pid);
    let Some(unreadable) = unreadable else { return Standing::of(pid).refusal(pid) };
    let has =
        unreadable.descriptors.map_or_else(String::new, |count| format!(": it has {count} descriptors"));
    Some(format!("{} ({pid}) cannot be looked into from here{has}", unreadable.comm))
}

/// Takes a walk, and makes a document of it.
fn walk(arguments: &Arguments) -> Result<Document, Failure> {
    let snapshot = holders::take(arguments.timeout)?;
    let moment = monotonic_ns();
    if arguments.interval.is_none() {
        arguments.pids.iter().try_for_each(|pid| refuse(out_of_sight(&snapshot, *pid)))?;
    }
    // Read after the walk, so that what was allocated just before it is in it.
    let trace = arguments.trace.as_deref().map(|path| Trace::read(path, moment)).transpose()?;
    let focus = arguments.resolved_focus()?;
    let found = explain::explain(&snapshot, &around(), &focus, &mut ProcLinks);
    let mut document = Document::new(&found, frame(&focus, &snapshot), |pid| {
        let identity = process::identity(pid);
        Whose { exe: identity.exe, cgroup: identity.cgroup, user: process::owner(pid) }
    });
    if focus.is_everything() {
        document.limits = limits::measure(&snapshot, &document);
    }
    if let Some(by) = arguments.by {
        document.groups = process_groups(by, &snapshot, &focus);
    }
    if let Some(trace) = trace {
        trace.tell(&snapshot, &found, &mut document);
    }
    Ok(document)
}

impl Arguments {
    /// The focus on what runs now under the name that is asked for.
    fn resolved_focus(&self) -> Result<Focus, Failure> {
        let mut focus = self.focus();
        if let Some(name) = &self.comm {
            focus.pids = process::all().filter(|pid| process::is_named(*pid, name)).collect();
            if focus.pids.is_empty() && self.interval.is_none() {
                refuse(Some(format!("no process is called {}", name.to_string_lossy())))?;
            }
        }
        Ok(focus)
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

fn around() -> Around {
    Around {
        loop_devices: around::loop_devices(),
        swap_files: around::swap_files(),
        autofs_mounts: around::autofs_mounts(),
        kept_interpreters: around::kept_interpreters(),
        aio_room: around::aio_room(),
        nfs_server: around::has_nfs_server(),
        graphics: around::has_graphics(),
        inside_pid_namespace: around::is_inside_pid_namespace(),
    }
}

fn frame(focus: &Focus, snapshot: &HolderSnapshot) -> Frame {
    let [filp, vm_area_struct] = around::slabs(["filp", "vm_area_struct"]);
    Frame {
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        uptime_ns: around::uptime_ns(),
        taken_by: std::process::id(),
        kernel: around::kernel_release(),
        boot_id: around::boot_id(),
        focus: words(focus),
        duration_ns: u64::try_from(snapshot.took.as_nanos()).unwrap_or(u64::MAX),
        nr_open: around::nr_open(),
        max_map_count: around::max_map_count(),
        shmmni: around::shmmni(),
        slabs: Slabs { filp, vm_area_struct },
    }
}

fn process_groups(by: By, snapshot: &HolderSnapshot, focus: &Focus) -> Vec<ProcessGroupLine> {
    // The child that walked for the walk is gone, and was where we are.
    let own = std::process::id();
    let child = snapshot.tasks.iter().find(|task| task.parent == own).map(|task| task.tgid);
    let lasting = |pid| if child == Some(pid) { own } else { pid };
    let cgroup = |pid: u32| process::identity(lasting(pid)).cgroup;
    let (word, found) = match by {
        By::Process => {
            ("process", explain::process_groups(snapshot, focus, |of, _| format!("{} ({})", of.comm, of.pid)))
        }
        By::Cgroup => ("cgroup", explain::process_groups(snapshot, focus, |of, _| cgroup(of.pid))),
        By::Container => (
            "container",
            explain::process_groups(snapshot, focus, |of, namespace| {
                let cgroups = process::cgroups(lasting(of.pid));
                let id = cgroups.iter().find_map(|cgroup| container(cgroup));
                id.map_or_else(|| format!("mnt:[{namespace}]"), str::to_owned)
            }),
        ),
    };
    document::process_groups(word, &found)
}

/// The id of the container that a cgroup is of: the last 64 hexadecimal digits that stand together in its path.
fn container(cgroup: &str) -> Option<&str> {
    const LENGTH: usize = 64;
    let mut parts = cgroup.rsplit(|character: char| !character.is_ascii_hexdigit());
    parts.find(|part| part.len() == LENGTH)
}

/// The options that say the same.
fn words(focus: &Focus) -> Vec<String> {
    let mut words: Vec<String> = match &focus.comm {
        Some(comm) => vec![format!("--comm {comm}")],
        None => focus.pids.iter().map(|pid| format!("--pid {pid}")).collect(),
    };
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
    fn of_descriptor(&mut self, thread: u32, fd: u32) -> Option<PathBuf> {
        process::descriptor_path(thread, fd)
    }

    fn of_mapping(&mut self, thread: u32, start: u64, end: u64) -> Option<PathBuf> {
        process::mapping_path(thread, start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::container;

    #[test]
    fn containers_by_their_cgroups() {
        let id = "0123456789abcdef".repeat(4);
        let found = |text: String| container(&text).map(str::to_owned);
        assert_eq!(found(format!("/system.slice/docker-{id}.scope")), Some(id.clone()));
        assert_eq!(found(format!("/kubepods/pod1/{}/{id}/init.scope", "a".repeat(64))), Some(id.clone()));
        assert_eq!(found(format!("/system.slice/{id}0.scope")), None, "longer is something else");
        assert_eq!(found("/user.slice".to_owned()), None);
    }
}
