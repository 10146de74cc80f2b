//! From a snapshot to a document.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::SystemTime,
};

use fdtrace_common::counters::Counter;

use super::{
    growth::History,
    names::Names,
    own::Meter,
    sites::{Resolver, Selection, SiteGroups, SiteProcess},
};
use crate::{
    collect::{KindNote, Snapshot},
    handles::Counts,
    kernel::{FileNr, Looker, Symbols},
    process,
    report::{
        Descriptors, Document, Events, Example, Fastest, Handles, KernelFrame, Lost, Process, Site, Trace,
        UserFrame, Verdict,
    },
    stream::{self, Cause, Origin},
};

/// What does not change while a trace runs.
#[derive(Clone, Debug)]
pub struct Session {
    /// When it began.
    pub start: SystemTime,
    /// The same moment by `CLOCK_MONOTONIC`, in ns.
    pub start_ns: u64,
    /// The backend.
    pub backend: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The document's name and version.
    pub schema: &'static str,
    /// The most sites whose handles are named.
    pub named_sites: usize,
}

/// Keeps what has to be remembered from look to look.
pub struct View {
    session: Session,
    selection: Selection,
    symbols: Arc<Symbols>,
    names: Names,
    resolver: Resolver,
    sites: HashMap<u64, History>,
    /// By site and image.
    processes: HashMap<(u64, u64), History>,
    meter: Meter,
    before: Option<(u64, u64, u64)>,
    looks: u64,
}

impl View {
    /// A view of a trace that has just begun.
    #[must_use]
    pub fn new(session: Session, selection: Selection, symbols: Arc<Symbols>, looker: Looker) -> Self {
        Self {
            session,
            selection,
            resolver: Resolver::new(Arc::clone(&symbols)),
            symbols,
            names: Names::new(looker),
            sites: HashMap::new(),
            processes: HashMap::new(),
            meter: Meter::new(),
            before: None,
            looks: 0,
        }
    }

    /// What each handle is that nobody looked at before; the collector wants to know.
    ///
    /// # Errors
    /// When the kernel's iterator fails.
    pub fn new_kinds(&mut self) -> io::Result<Vec<KindNote>> {
        self.names.new_kinds(&self.symbols)
    }

    /// One look.
    ///
    /// # Errors
    /// When the kernel's iterators fail.
    pub fn look(&mut self, snapshot: &Snapshot) -> io::Result<Document> {
        let found = self.resolver.sites(&snapshot.groups);
        self.remember(snapshot.now, &found);
        let mut shown: Vec<(&u64, &SiteGroups)> =
            found.iter().filter(|(_, site)| site.is_selected(&self.selection)).collect();
        shown.sort_by_key(|(id, site)| (std::cmp::Reverse(site.aged), **id));
        let named: Vec<(u64, u64)> = shown
            .iter()
            .take(self.session.named_sites)
            .flat_map(|(_, site)| site.oldest.iter().map(|(_, old)| (old.handle, old.generation)))
            .collect();
        self.names.learn(&named, &self.symbols)?;
        let sites = shown.iter().map(|(id, site)| self.site(**id, site, snapshot.now)).collect();
        let fastest = self.fastest(&shown);
        let own = self.meter.read(&snapshot.costs, snapshot.counters.get(Counter::Own));
        Ok(Document {
            schema: self.session.schema,
            trace: self.trace(snapshot),
            handles: handles(snapshot),
            sites,
            fastest,
            own,
        })
    }

    fn remember(&mut self, now: u64, found: &HashMap<u64, SiteGroups>) {
        self.sites.retain(|id, _| found.contains_key(id));
        self.processes
            .retain(|(id, image), _| found.get(id).is_some_and(|site| site.processes.contains_key(image)));
        for (id, site) in found {
            self.sites.entry(*id).or_default().push(now, site.counts.live());
            for (image, process) in &site.processes {
                self.processes.entry((*id, *image)).or_default().push(now, process.live);
            }
        }
    }

    fn site(&self, id: u64, site: &SiteGroups, now: u64) -> Site {
        let history = self.sites.get(&id);
        let mut processes: Vec<Process> = site.processes.values().map(process_row).collect();
        processes.sort_by_key(|process| (std::cmp::Reverse(process.live), process.pid));
        Site {
            id: format!("{id:016x}"),
            origin: site.place.origin.name(),
            live: site.counts.live(),
            aged: site.aged,
            change: history.map_or(0, History::change),
            allocated: site.counts.allocated,
            released: site.counts.released(),
            released_by: released_by(&site.counts),
            oldest_age_ns: site.oldest.first().map_or(0, |(_, old)| now.saturating_sub(old.generation)),
            verdict: history.map_or(Verdict::Unknown, |history| history.verdict(site.counts.allocated)),
            kinds: site.kinds.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            processes,
            examples: self.examples(site, now),
            kernel_stack: kernel_stack(site),
            user_stack: user_stack(site),
            user_stack_complete: site.place.user.complete,
        }
    }

    fn examples(&self, site: &SiteGroups, now: u64) -> Vec<Example> {
        let example = |(tgid, old): &(u32, crate::collect::OldHandle)| {
            let known = self.names.get((old.handle, old.generation))?;
            Some(Example {
                name: known.name.clone(),
                kind: known.kind.name(),
                pid: known.descriptor.map_or(*tgid, |(pid, _)| pid),
                fd: known.descriptor.map(|(_, fd)| fd),
                age_ns: now.saturating_sub(old.generation),
            })
        };
        site.oldest.iter().filter_map(example).collect()
    }

    /// What grows fastest of what grows: a site of a process.
    fn fastest(&self, shown: &[(&u64, &SiteGroups)]) -> Option<Fastest> {
        let growing = shown.iter().filter(|(id, site)| {
            self.sites
                .get(id)
                .is_some_and(|history| history.verdict(site.counts.allocated) == Verdict::Growing)
        });
        let rates = growing.flat_map(|(id, site)| {
            site.processes.iter().filter_map(|(image, process)| {
                let rate = self.processes.get(&(**id, *image))?.per_second();
                (rate > 0.0).then_some((rate, **id, *site, process))
            })
        });
        let (rate, id, site, process) = rates.max_by(|one, other| one.0.total_cmp(&other.0))?;
        let descriptors = process::Descriptors::of(process.pid)
            .map(|found| Descriptors { used: found.used, limit: found.limit });
        Some(Fastest {
            site: format!("{id:016x}"),
            place: place(site),
            pid: process.pid,
            comm: process.identity.comm.clone(),
            live: process.live,
            per_second: rate,
            descriptors,
            seconds_to_limit: descriptors
                .filter(|_| takes_descriptors(site))
                .and_then(|found| left(found, rate)),
        })
    }

    fn trace(&mut self, snapshot: &Snapshot) -> Trace {
        self.looks += 1;
        let lost = lost(snapshot);
        let incomplete = incomplete(snapshot, &lost);
        Trace {
            start: humantime::format_rfc3339_seconds(self.session.start).to_string(),
            duration_ns: snapshot.now.saturating_sub(self.session.start_ns),
            looks: self.looks,
            backend: self.session.backend,
            kernel: self.session.kernel.clone(),
            complete: incomplete.is_empty(),
            incomplete,
            events: self.events(snapshot),
            lost,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    fn events(&mut self, snapshot: &Snapshot) -> Events {
        let count = |counter| snapshot.counters.get(counter);
        let (allocated, released) = (snapshot.counts.allocated, snapshot.counts.released());
        let (since, allocated_before, released_before) =
            self.before.replace((snapshot.now, allocated, released)).unwrap_or((self.session.start_ns, 0, 0));
        let seconds = (snapshot.now.saturating_sub(since) as f64 / 1e9).max(1e-6);
        Events {
            allocated,
            released,
            released_by: released_by(&snapshot.counts),
            never_opened: snapshot.counts.never_opened,
            untraced_releases: count(Counter::ReleasedUnknown),
            errors: snapshot.errors.iter().map(|(number, count)| (error_name(*number), *count)).collect(),
            allocated_per_second: allocated.saturating_sub(allocated_before) as f64 / seconds,
            released_per_second: released.saturating_sub(released_before) as f64 / seconds,
        }
    }
}

fn handles(snapshot: &Snapshot) -> Handles {
    let live = snapshot.groups.iter().map(|group| group.counts.live()).sum();
    let own = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    let all = FileNr::read().map_or(0, |file_nr| file_nr.allocated);
    Handles { live, pre_existing: all.saturating_sub(live).saturating_sub(own) }
}

fn lost(snapshot: &Snapshot) -> Lost {
    let count = |counter| snapshot.counters.get(counter);
    Lost {
        events: count(Counter::LostEvents),
        handles: count(Counter::LostHandles),
        stacks: count(Counter::LostStacks) + snapshot.unknown_stacks,
        skipped: snapshot.skipped.0 + snapshot.skipped.1,
        healed: snapshot.loss.healed,
        phantoms: count(Counter::Phantoms),
        malformed: snapshot.malformed,
    }
}

/// What was lost and not put right: the live set may be short, or too long.
fn incomplete(snapshot: &Snapshot, lost: &Lost) -> Vec<String> {
    let mut reasons = Vec::new();
    if lost.handles > 0 {
        reasons.push("the kernel's table was full (--max-handles)".to_owned());
    }
    if snapshot.unhealed > 0 {
        reasons.push("the kernel skipped runs that may have been allocations".to_owned());
    }
    if lost.malformed > 0 {
        reasons.push("records could not be read".to_owned());
    }
    reasons
}

fn process_row(process: &SiteProcess) -> Process {
    Process {
        pid: process.pid,
        comm: process.identity.comm.clone(),
        exe: process.identity.exe.clone(),
        cgroup: process.identity.cgroup.clone(),
        live: process.live,
    }
}

fn released_by(counts: &Counts) -> BTreeMap<&'static str, u64> {
    (0..)
        .zip(counts.released_by)
        .filter(|(_, count)| *count > 0)
        .filter_map(|(number, count)| Some((Cause::from_wire(number)?.name(), count)))
        .collect()
}

fn kernel_stack(site: &SiteGroups) -> Vec<KernelFrame> {
    let frame =
        |frame: &stream::KernelFrame| KernelFrame { symbol: frame.symbol.clone(), offset: frame.offset };
    site.place.kernel.iter().map(frame).collect()
}

fn user_stack(site: &SiteGroups) -> Vec<UserFrame> {
    let frame = |frame: &Arc<stream::UserFrame>| UserFrame {
        symbol: frame.symbol.clone(),
        module: frame.module.clone(),
        file: None,
        line: None,
        inlined: false,
        build_id: frame.build_id.clone(),
        offset: frame.offset,
    };
    site.place.user.frames.iter().map(frame).collect()
}

/// Functions that say nothing of who called.
fn is_wrapper(module: &str) -> bool {
    let file = module.rsplit('/').next().unwrap_or(module);
    file.starts_with("libc.so")
        || file.starts_with("libc-2")
        || file.starts_with("ld-")
        || file.starts_with("libpthread")
}

/// The first frame outside of libc, or the innermost one.
fn place(site: &SiteGroups) -> String {
    let frames = &site.place.user.frames;
    let outside =
        frames.iter().find(|frame| frame.module.as_deref().is_some_and(|module| !is_wrapper(module)));
    let Some(frame) = outside.or_else(|| frames.first()) else {
        return site
            .place
            .kernel
            .get(1)
            .map_or_else(|| "the kernel".to_owned(), |frame| frame.symbol.clone());
    };
    match (&frame.symbol, &frame.module) {
        (Some(symbol), _) => symbol.clone(),
        (None, Some(module)) => {
            format!("{}+{:#x}", module.rsplit('/').next().unwrap_or(module), frame.offset)
        }
        (None, None) => format!("{:#x}", frame.offset),
    }
}

/// Attaches and shared memory hold handles without descriptors.
const fn takes_descriptors(site: &SiteGroups) -> bool {
    !matches!(site.place.origin, Origin::ShmAttach | Origin::Kernel | Origin::Overlay)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn left(descriptors: Descriptors, per_second: f64) -> Option<f64> {
    if descriptors.limit == u64::MAX {
        return None;
    }
    Some(descriptors.limit.saturating_sub(descriptors.used) as f64 / per_second)
}

fn error_name(number: i32) -> String {
    match number {
        libc::ENFILE => "ENFILE".to_owned(),
        libc::ENOMEM => "ENOMEM".to_owned(),
        libc::EACCES => "EACCES".to_owned(),
        libc::EPERM => "EPERM".to_owned(),
        other => format!("errno {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_the_limit() {
        assert_eq!(left(Descriptors { used: 24, limit: 1024 }, 10.0), Some(100.0));
        assert_eq!(left(Descriptors { used: 24, limit: u64::MAX }, 10.0), None);
    }
}
