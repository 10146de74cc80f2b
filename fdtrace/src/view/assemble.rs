//! From a snapshot to a document.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    growth::History,
    lifetimes::{Ages, Judgement},
    past::Past,
    sites::{self, Selection, SiteGroups, SiteProcess},
};
use crate::{
    handles::{Counts, MappedBy, OldHandle, Snapshot},
    kinds::Kind,
    report::{
        Descriptors, Document, Events, Example, ExistingBy, Fastest, Handles, KernelFrame, Lifetimes, Lost,
        MappedAt, MappingExample, Process, Site, Trace, UserFrame, Verdict, name_id, place,
    },
    stacks,
    stream::{self, Cause, ImageKey, Origin, Sought},
};

/// What does not change while a trace runs.
#[derive(Clone, Debug)]
pub struct Session {
    /// When it began.
    pub start: SystemTime,
    /// The same moment by `CLOCK_MONOTONIC`, in ns.
    pub start_ns: u64,
    /// The backend.
    pub backend: String,
    /// The kernel's release.
    pub kernel: String,
    /// Survivors mode: handles younger than this are not spoken of, in ns; 0 when all are.
    pub survivors_ns: u64,
}

/// Keeps what has to be remembered from look to look. It needs no kernel: live and recorded streams look the same.
pub struct View {
    session: Session,
    selection: Selection,
    sites: HashMap<u64, History>,
    /// By site and image.
    processes: HashMap<(u64, ImageKey), History>,
    past: Past,
    before: Option<(u64, u64, u64)>,
    rates: (f64, f64),
    looks: u64,
}

impl View {
    /// A view of a trace that has just begun.
    #[must_use]
    pub fn new(session: Session, selection: Selection) -> Self {
        Self {
            session,
            selection,
            sites: HashMap::new(),
            processes: HashMap::new(),
            past: Past::default(),
            before: None,
            rates: (0.0, 0.0),
            looks: 0,
        }
    }

    /// What the view selects.
    #[must_use]
    pub const fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Remembers how many handles lived where at this moment, and how old they are.
    pub fn look(&mut self, snapshot: &Snapshot) {
        let (sites, processes) = ages(snapshot);
        let now = snapshot.now;
        self.sites.retain(|key, _| sites.contains_key(key));
        for (key, ages) in sites.into_iter().filter(|(_, ages)| ages.births.total() > 0) {
            self.sites.entry(key).or_default().push(now, ages);
        }
        self.let_go(&processes);
        for (key, ages) in processes.into_iter().filter(|(_, ages)| ages.births.total() > 0) {
            self.processes.entry(key).or_default().push(now, ages);
        }
        self.looks += 1;
        self.remember_rates(snapshot);
    }

    /// Of images that are gone the verdict is kept, and nothing else; what lives no more is forgotten.
    fn let_go(&mut self, now: &HashMap<(u64, ImageKey), Ages>) {
        let past = &mut self.past;
        self.processes.retain(|key, history| {
            let ages = now.get(key);
            if ages.is_none_or(|ages| ages.ended) {
                past.keep(*key, history.judge().verdict);
            }
            ages.is_some_and(|ages| ages.births.total() > 0)
        });
    }

    /// How the handles develop that an image made at a site, by the same rule as those of the site; of an image that is
    /// gone, as it was at the last look before its end. Unknown for an image that ended before there were looks
    /// enough, or so long ago that tens of thousands ended since.
    #[must_use]
    pub fn growth_of(&self, site: u64, image: ImageKey) -> Verdict {
        let key = (site, image);
        let history = self.processes.get(&key);
        history.map_or_else(|| self.past.get(key).unwrap_or(Verdict::Unknown), |it| it.judge().verdict)
    }

    /// Handles that a document of this moment would show and that have no name yet, by address and generation; of the
    /// first `most` sites.
    #[must_use]
    pub fn unnamed(&self, snapshot: &Snapshot, most: usize) -> Vec<(u64, u64)> {
        let found = sites::sites(snapshot, &self.selection);
        let shown = self.shown(&found).into_iter().take(most).flat_map(|(_, site)| &site.oldest);
        let unnamed = shown.filter(|(_, old)| old.descriptor == Sought::NotYet);
        unnamed.map(|(_, old)| (old.handle, old.generation)).collect()
    }

    /// What is shown of this moment.
    #[must_use]
    pub fn document(&self, schema: &'static str, snapshot: &Snapshot) -> Document {
        let found = sites::sites(snapshot, &self.selection);
        let shown = self.shown(&found);
        Document {
            schema,
            trace: self.trace(snapshot),
            handles: self.handles(snapshot),
            sites: shown.iter().map(|(id, site)| self.site(*id, site, snapshot)).collect(),
            fastest: self.fastest(&shown),
            own: None,
        }
    }

    fn shown<'a>(&self, found: &'a HashMap<u64, SiteGroups>) -> Vec<(u64, &'a SiteGroups)> {
        let selected = found.iter().filter(|(_, site)| site.is_selected(&self.selection));
        let mut shown: Vec<(u64, &SiteGroups)> = selected.map(|(id, site)| (*id, site)).collect();
        shown.sort_by_key(|(id, site)| (Reverse(site.aged), Reverse(site.counts.allocated), *id));
        shown
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    fn remember_rates(&mut self, snapshot: &Snapshot) {
        let (allocated, released) = (snapshot.counts.allocated, snapshot.counts.released());
        let (since, allocated_before, released_before) =
            self.before.replace((snapshot.now, allocated, released)).unwrap_or((self.session.start_ns, 0, 0));
        let seconds = (snapshot.now.saturating_sub(since) as f64 / 1e9).max(1e-6);
        self.rates = (
            allocated.saturating_sub(allocated_before) as f64 / seconds,
            released.saturating_sub(released_before) as f64 / seconds,
        );
    }

    fn site(&self, id: u64, site: &SiteGroups, snapshot: &Snapshot) -> Site {
        let history = self.sites.get(&id);
        let judgement = history.map(History::judge);
        let mut processes: Vec<(&ImageKey, &SiteProcess)> = site.processes.iter().collect();
        processes.sort_by_key(|(image, process)| (Reverse(process.live), **image));
        let age = |(_, old): &(u32, OldHandle)| snapshot.now.saturating_sub(old.generation);
        let (kernel_stack, user_stack) = (kernel_stack(&site.site), user_stack(&site.site));
        let origin = site.site.origin.name();
        Site {
            id: format!("{id:016x}"),
            name_id: name_id(origin, &user_stack, &kernel_stack),
            origin,
            origin_function: stacks::deciding_function(&site.site.kernel),
            live: site.live,
            aged: site.aged,
            change: history.map_or(0, History::change),
            allocated: site.counts.allocated,
            released: site.counts.released(),
            released_by: released_by(&site.counts),
            oldest_age_ns: site.oldest.first().map_or(0, age),
            verdict: judgement.map_or(Verdict::Unknown, |judgement| judgement.verdict),
            lifetimes: lifetimes(site, history, judgement),
            kinds: site.kinds.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            holders: site.holders.clone(),
            processes: processes.into_iter().map(|(_, process)| process_row(process)).collect(),
            examples: site.oldest.iter().filter_map(|old| example(old, snapshot.now)).collect(),
            mapped_by: site.mapped_by.iter().map(|mapping| mapped_at(mapping, snapshot)).collect(),
            kernel_stack,
            user_stack,
            user_stack_complete: site.site.user.complete,
        }
    }

    /// What grows fastest of what grows: a site of a process.
    fn fastest(&self, shown: &[(u64, &SiteGroups)]) -> Option<Fastest> {
        let growing = shown.iter().filter(|(id, _)| {
            self.sites.get(id).is_some_and(|history| history.judge().verdict == Verdict::Growing)
        });
        let rates = growing.flat_map(|(id, site)| {
            site.processes.iter().filter_map(|(image, process)| {
                let rate = self.processes.get(&(*id, *image))?.per_second();
                (rate > 0.0).then_some((rate, *id, *site, *image, process))
            })
        });
        // Of two that grow alike, always the same one.
        let order = rates
            .max_by(|one, other| one.0.total_cmp(&other.0).then((one.1, one.3).cmp(&(other.1, other.3))));
        let (rate, id, site, _, process) = order?;
        Some(Fastest {
            site: format!("{id:016x}"),
            place: place(&user_stack(&site.site), &kernel_stack(&site.site)),
            pid: process.pid,
            comm: process.identity.comm.clone(),
            live: process.live,
            per_second: rate,
            takes_descriptors: takes_descriptors(site),
            descriptors: None,
            seconds_to_limit: None,
        })
    }

    fn handles(&self, snapshot: &Snapshot) -> Handles {
        let live = snapshot.groups.iter().map(|group| group.counts.live()).sum();
        let vitals = &snapshot.vitals;
        let pre_existing = snapshot.existing.live();
        let mut existing_by: Vec<ExistingBy> = snapshot
            .existing_by
            .iter()
            .map(|(image, identity, live)| ExistingBy {
                pid: image.tgid,
                comm: identity.comm.clone(),
                live: *live,
            })
            .collect();
        existing_by
            .sort_by(|one, other| (other.live, one.pid, &one.comm).cmp(&(one.live, other.pid, &other.comm)));
        Handles {
            live,
            young: vitals.young,
            min_age_ns: self.session.survivors_ns,
            pre_existing,
            pre_existing_released: snapshot.existing.released(),
            pre_existing_by: existing_by,
            others: vitals
                .file_nr
                .saturating_sub(live + vitals.young + pre_existing)
                .saturating_sub(vitals.own_descriptors),
        }
    }

    fn trace(&self, snapshot: &Snapshot) -> Trace {
        let lost = lost(snapshot);
        let incomplete = incomplete(snapshot, &lost);
        let since = Duration::from_nanos(snapshot.now.saturating_sub(self.session.start_ns));
        Trace {
            start: humantime::format_rfc3339_seconds(self.session.start).to_string(),
            duration_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            looks: self.looks,
            backend: self.session.backend.clone(),
            kernel: self.session.kernel.clone(),
            complete: incomplete.is_empty(),
            incomplete,
            events: self.events(snapshot),
            lost,
        }
    }

    fn events(&self, snapshot: &Snapshot) -> Events {
        Events {
            allocated: snapshot.counts.allocated,
            released: snapshot.counts.released(),
            released_by: released_by(&snapshot.counts),
            never_opened: snapshot.counts.never_opened,
            untraced_releases: snapshot.vitals.untraced_releases,
            errors: snapshot.errors.iter().map(|(number, count)| (error_name(*number), *count)).collect(),
            allocated_per_second: self.rates.0,
            released_per_second: self.rates.1,
        }
    }
}

/// How old handles became and are, by site, and by site and image.
fn ages(snapshot: &Snapshot) -> (HashMap<u64, Ages>, HashMap<(u64, ImageKey), Ages>) {
    let none = || Ages::at(snapshot.now);
    let (mut sites, mut processes) = (HashMap::new(), HashMap::new());
    for group in &snapshot.lives.groups {
        let site = sites::id_of(group.site, &group.call);
        sites.entry(site).or_insert_with(none).add(group);
        let process = processes.entry((site, group.image)).or_insert_with(none);
        process.add(group);
        process.ended = group.ended;
    }
    for (site, deaths) in &snapshot.lives.closed {
        if let Some(ages) = sites.get_mut(site) {
            ages.add_closed(deaths);
        }
    }
    (sites, processes)
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn lifetimes(
    site: &SiteGroups,
    history: Option<&History>,
    judgement: Option<Judgement>,
) -> Option<Lifetimes> {
    Some(Lifetimes {
        released_share: site.counts.released() as f64 / site.counts.allocated.max(1) as f64,
        median_ns: history?.ages()?.median_ns(),
        overdue: judgement?.overdue,
    })
}

fn example((tgid, old): &(u32, OldHandle), now: u64) -> Option<Example> {
    let name = old.name.as_deref()?;
    Some(Example {
        name: name.to_owned(),
        kind: Kind::from_number(old.kind).name(),
        pid: old.descriptor.found().map_or(*tgid, |(pid, _)| pid),
        fd: old.descriptor.found().map(|(_, fd)| fd),
        hidden: old.descriptor == Sought::Nothing,
        age_ns: now.saturating_sub(old.generation),
    })
}

fn mapped_at(mapping: &MappedBy, snapshot: &Snapshot) -> MappedAt {
    let site = sites::site_of(snapshot, mapping.site, &mapping.call);
    MappedAt {
        handles: mapping.handles,
        site: format!("{:016x}", site.id),
        origin: site.origin.name(),
        user_stack: user_stack(&site),
        example: Some(MappingExample { pid: mapping.tgid, address: mapping.address, length: mapping.length }),
    }
}

fn lost(snapshot: &Snapshot) -> Lost {
    let vitals = &snapshot.vitals;
    Lost {
        events: vitals.lost_events,
        handles: vitals.lost_handles,
        stacks: vitals.lost_stacks,
        skipped: vitals.skipped_allocations + vitals.skipped_releases,
        healed: snapshot.loss.healed,
        phantoms: vitals.phantoms,
        malformed: vitals.malformed,
    }
}

/// What was lost and not put right: the live set may be short, or too long.
fn incomplete(snapshot: &Snapshot, lost: &Lost) -> Vec<String> {
    let mut reasons = Vec::new();
    if lost.handles > 0 {
        reasons.push("the kernel's table was full (--max-handles)".to_owned());
    }
    if snapshot.vitals.unhealed > 0 {
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
        allocated: Some(process.allocated),
    }
}

fn released_by(counts: &Counts) -> BTreeMap<&'static str, u64> {
    (0..)
        .zip(counts.released_by)
        .filter(|(_, count)| *count > 0)
        .filter_map(|(number, count)| Some((Cause::from_wire(number)?.name(), count)))
        .collect()
}

fn kernel_stack(site: &stream::Site) -> Vec<KernelFrame> {
    let frame =
        |frame: &stream::KernelFrame| KernelFrame { symbol: frame.symbol.clone(), offset: frame.offset };
    site.kernel.iter().map(frame).collect()
}

fn user_stack(site: &stream::Site) -> Vec<UserFrame> {
    let frame = |frame: &Arc<stream::UserFrame>| UserFrame {
        symbol: frame.symbol.clone(),
        module: frame.module.clone(),
        file: frame.file.clone(),
        line: frame.line,
        inlined: frame.inlined,
        build_id: frame.build_id.clone(),
        offset: frame.offset,
    };
    site.user.frames.iter().map(frame).collect()
}

/// A site of which nothing has happened yet.
#[must_use]
pub fn bare_site(site: &stream::Site) -> Site {
    let (kernel_stack, user_stack) = (kernel_stack(site), user_stack(site));
    let origin = site.origin.name();
    Site {
        id: format!("{:016x}", site.id),
        name_id: name_id(origin, &user_stack, &kernel_stack),
        origin,
        origin_function: stacks::deciding_function(&site.kernel),
        live: 0,
        aged: 0,
        change: 0,
        allocated: 0,
        released: 0,
        released_by: BTreeMap::new(),
        oldest_age_ns: 0,
        verdict: Verdict::Unknown,
        kinds: BTreeMap::new(),
        holders: BTreeMap::new(),
        mapped_by: Vec::new(),
        processes: Vec::new(),
        examples: Vec::new(),
        kernel_stack,
        user_stack,
        user_stack_complete: site.user.complete,
    }
}

/// Attaches and shared memory hold handles without descriptors.
fn takes_descriptors(site: &SiteGroups) -> bool {
    !matches!(site.site.origin, Origin::ShmAttach | Origin::Kernel | Origin::Overlay)
}

/// Seconds until a process has no descriptors left, at this rate.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
#[must_use]
pub fn seconds_left(descriptors: Descriptors, per_second: f64) -> Option<f64> {
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
        assert_eq!(seconds_left(Descriptors { used: 24, limit: 1024 }, 10.0), Some(100.0));
        assert_eq!(seconds_left(Descriptors { used: 24, limit: u64::MAX }, 10.0), None);
    }
}
