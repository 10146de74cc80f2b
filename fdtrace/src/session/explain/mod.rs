//! Where all handles are, asked of the running kernel: the walk, what is around it, and the answer as a document.

mod alerts;
mod handle;
mod limits;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub(crate) use alerts::{ALERTED, Alerts};
pub(crate) use handle::handles_called;

use super::{Failure, load_json, trace_join::Trace};
use crate::{
    collect::monotonic_ns,
    explain::{
        self, Around, Focus, Paths,
        document::{self, Frame, Whose},
    },
    holders::{self, HolderSnapshot},
    model::explain::{Document, ProcessGroupLine, Slabs},
    process::{self, Standing, around},
    text::fmt::escape_control,
};

/// What is asked.
pub(crate) struct Question<'a> {
    pub(crate) focus: Focus,
    /// Processes of this name, whichever run when it is asked.
    pub(crate) comm: Option<&'a OsStr>,
    /// The walk stops after this time.
    pub(crate) timeout: Duration,
    /// A trace that says who allocated what.
    pub(crate) trace: Option<&'a Path>,
    /// How processes are grouped.
    pub(crate) by: Option<Belonging>,
    /// It is asked again and again: processes may go meanwhile.
    pub(crate) again: bool,
}

/// What processes belong to.
#[derive(Clone, Copy)]
pub(crate) enum Belonging {
    Process,
    Cgroup,
    Container,
}

impl Question<'_> {
    /// Refuses processes that are not there, before a walk.
    pub(crate) fn refuse_who_is_gone(&self) -> Result<(), Failure> {
        self.focus.pids.iter().try_for_each(|pid| wanted(*pid))
    }

    /// The focus on what runs now under the name that is asked for.
    fn resolved_focus(&self) -> Result<Focus, Failure> {
        let mut focus = self.focus.clone();
        if let Some(name) = self.comm {
            focus.pids = process::all().filter(|pid| process::is_named(*pid, name)).collect();
            if focus.pids.is_empty() && !self.again {
                refuse(Some(format!("no process is called {}", name.to_string_lossy())))?;
            }
        }
        Ok(focus)
    }

    /// What an earlier document says, if it says it of the same handles.
    pub(crate) fn old_answer(&self, path: &Path) -> Result<Document, Failure> {
        let old = load_json::read(path)?;
        let focus = words(&self.focus);
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

    /// Takes a walk, and makes a document of it.
    pub(crate) fn answer(&self) -> Result<Document, Failure> {
        let snapshot = holders::take(self.timeout)?;
        let moment = monotonic_ns();
        if !self.again {
            self.focus.pids.iter().try_for_each(|pid| refuse(out_of_sight(&snapshot, *pid)))?;
        }
        // Read after the walk, so that what was allocated just before it is in it.
        let trace = self.trace.map(|path| Trace::read(path, moment)).transpose()?;
        let focus = &self.resolved_focus()?;
        let found = explain::explain(&snapshot, &around(), focus, &mut ProcLinks);
        let mut document = Document::new(&found, frame(focus, &snapshot), |pid| {
            let identity = process::identity(pid);
            Whose { exe: identity.exe, cgroup: identity.cgroup, user: process::owner(pid) }
        });
        if focus.is_everything() {
            document.limits = limits::measure(&snapshot, &document);
        }
        if let Some(by) = self.by {
            document.groups = process_groups(by, &snapshot, focus);
        }
        if let Some(trace) = trace {
            trace.tell(&snapshot, &found, &mut document);
        }
        Ok(document)
    }
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

fn process_groups(by: Belonging, snapshot: &HolderSnapshot, focus: &Focus) -> Vec<ProcessGroupLine> {
    // The child that walked for the walk is gone, and was where we are.
    let own = std::process::id();
    let child = snapshot.tasks.iter().find(|task| task.parent == own).map(|task| task.tgid);
    let lasting = |pid| if child == Some(pid) { own } else { pid };
    let cgroup = |pid: u32| process::identity(lasting(pid)).cgroup;
    let (word, found) = match by {
        Belonging::Process => {
            ("process", explain::process_groups(snapshot, focus, |of, _| format!("{} ({})", of.comm, of.pid)))
        }
        Belonging::Cgroup => ("cgroup", explain::process_groups(snapshot, focus, |of, _| cgroup(of.pid))),
        Belonging::Container => (
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
