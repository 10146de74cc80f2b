//! From a snapshot to a document.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::{Duration, SystemTime},
};

use super::{
    growth::History,
    images::Images,
    lifetimes::{Ages, Evaluation},
    loaded::is_loaded,
    sites::{self, Selection, SiteGroups, SiteProcess},
};
use crate::{
    handles::{Counts, Lives, MappedBy, OldHandle, Repeated, Snapshot},
    model::{
        Descriptors, Document, Events, Example, ExistingBy, Fastest, Handles, Kind, Lifetimes, Lost,
        MappedAt, MappingExample, Origin, Process, Repeat, Site, Trace, Trend, UserFrame, most_repeated,
    },
    stacks::{self, name_id, place},
    stream::{self, Cause, FdLookup, ImageKey},
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
    /// Min-age filter: handles younger than this are not spoken of, in ns; 0 when all are.
    pub min_age_ns: u64,
}

/// Keeps what has to be remembered from look to look. It needs no kernel: live and recorded streams look the same.
pub struct View {
    session: Session,
    selection: Selection,
    sites: HashMap<u64, History>,
    /// By site and image.
    processes: HashMap<(u64, ImageKey), History>,
    images: Images,
    before: Option<(u64, u64, u64)>,
    rates: (f64, f64),
    samples: u64,
}

/// The verdict on a site, and what it rests on.
struct Evaluated {
    verdict: Trend,
    overdue: u64,
    median_ns: Option<u64>,
}

impl Evaluated {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn lifetimes(&self, site: &SiteGroups) -> Lifetimes {
        Lifetimes {
            released_share: site.counts.released() as f64 / site.counts.allocated.max(1) as f64,
            median_ns: self.median_ns,
            overdue: self.overdue,
        }
    }
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
            images: Images::default(),
            before: None,
            rates: (0.0, 0.0),
            samples: 0,
        }
    }

    /// What the view selects.
    #[must_use]
    pub const fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Bytes of memory that its histories have.
    pub(crate) fn weight(&self) -> u64 {
        ((self.sites.len() + self.processes.len()) * (size_of::<(u64, ImageKey)>() + History::WEIGHT)) as u64
    }

    /// Remembers how many handles lived where at this moment; from a snapshot that is not brief, also how old they are
    /// in each image.
    pub fn sample(&mut self, snapshot: &Snapshot) {
        let mut sites: HashMap<u64, u64> = HashMap::new();
        let mut processes: HashMap<(u64, ImageKey), u64> = HashMap::new();
        for group in &snapshot.groups {
            let (site, live) = (sites::site_id(group), group.counts.live());
            *sites.entry(site).or_default() += live;
            *processes.entry((site, group.image)).or_default() += live;
        }
        remember(&mut self.sites, sites, snapshot.now);
        remember(&mut self.processes, processes, snapshot.now);
        if let Some(lives) = &snapshot.lives {
            self.images.sample(ages_by_image(lives, snapshot.now));
        }
        self.samples += 1;
        self.remember_rates(snapshot);
    }

    /// How the handles develop that an image made at a site, by the same rule as those of the site; of an image that is
    /// gone, as it was at the last sample before its end. Unknown when fewer than three samples met the image with live
    /// handles, and when it ended so long ago that 65,536 others were kept since. Only snapshots that are not brief
    /// tell of images.
    #[must_use]
    pub fn growth_of(&self, site: u64, image: ImageKey) -> Trend {
        self.images.verdict((site, image))
    }

    /// Handles that a document of this moment would show and that have no name yet, by address and generation; of the
    /// first `most` sites.
    #[must_use]
    pub fn unnamed(&self, snapshot: &Snapshot, most: usize) -> Vec<(u64, u64)> {
        let found = sites::sites(snapshot, &self.selection);
        let shown: Vec<&SiteGroups> = self
            .shown(&found, &self.evaluated(snapshot))
            .into_iter()
            .take(most)
            .map(|(_, site)| site)
            .collect();
        let oldest = shown.iter().flat_map(|site| &site.oldest).map(|(_, old)| old);
        let unnamed = oldest.filter(|old| old.descriptor == FdLookup::NotYet);
        let repeated = shown.iter().flat_map(|site| &site.repeats);
        let nameless = repeated.filter(|repeat| repeat.name.is_none() && repeat.generation > 0);
        unnamed
            .map(|old| (old.handle, old.generation))
            .chain(nameless.map(|repeat| (repeat.handle, repeat.generation)))
            .collect()
    }

    /// What is shown of this moment.
    #[must_use]
    pub fn document(&self, schema: &str, snapshot: &Snapshot) -> Document {
        let found = sites::sites(snapshot, &self.selection);
        let evaluated = self.evaluated(snapshot);
        let shown = self.shown(&found, &evaluated);
        Document {
            schema: schema.to_owned(),
            trace: self.trace(snapshot),
            handles: self.handles(snapshot),
            sites: shown.iter().map(|(id, site)| self.site(*id, site, evaluated.get(id), snapshot)).collect(),
            fastest: self.fastest(&shown, &evaluated),
            processes: Vec::new(),
            own: None,
        }
    }

    /// What grows comes first, then what has most handles; what programs load comes last.
    fn shown<'a>(
        &self,
        found: &'a HashMap<u64, SiteGroups>,
        evaluated: &HashMap<u64, Evaluated>,
    ) -> Vec<(u64, &'a SiteGroups)> {
        let selected = found.iter().filter(|(_, site)| site.is_selected(&self.selection));
        let mut shown: Vec<(u64, &SiteGroups)> = selected.map(|(id, site)| (*id, site)).collect();
        let grows = |id: &u64| evaluated.get(id).is_some_and(|found| found.verdict == Trend::Growing);
        let rank = |site: &SiteGroups| Reverse((site.aged, site.refused(), site.counts.allocated));
        shown.sort_by_cached_key(|(id, site)| (!grows(id), is_loaded(site), rank(site), *id));
        shown
    }

    /// The verdict on each site with live handles. The ages at this moment are enough for it; but what was looked at
    /// only once or twice may be about to change.
    fn evaluated(&self, snapshot: &Snapshot) -> HashMap<u64, Evaluated> {
        let Some(lives) = &snapshot.lives else { return HashMap::new() };
        let evaluated = ages_by_site(lives, snapshot.now).into_iter().filter_map(|(id, ages)| {
            let history = self.sites.get(&id)?;
            let Evaluation { verdict, overdue } = ages.evaluate();
            let is_early = !history.is_evaluated() && verdict != Trend::Single;
            let verdict = if is_early { Trend::Unknown } else { verdict };
            Some((id, Evaluated { verdict, overdue, median_ns: ages.median_ns() }))
        });
        evaluated.collect()
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

    fn site(&self, id: u64, site: &SiteGroups, evaluated: Option<&Evaluated>, snapshot: &Snapshot) -> Site {
        let history = self.sites.get(&id);
        let mut processes: Vec<(&ImageKey, &SiteProcess)> = site.processes.iter().collect();
        processes.sort_by_key(|(image, process)| (Reverse(process.live), **image));
        let age = |(_, old): &(u32, OldHandle)| snapshot.now.saturating_sub(old.generation);
        let (kernel_stack, user_stack) = (site.site.kernel.clone(), user_stack(&site.site));
        let origin = site.site.origin;
        Site {
            id: format!("{id:016x}"),
            name_id: name_id(origin, &user_stack, &kernel_stack),
            origin,
            origin_function: stacks::deciding_function(&site.site.kernel).map(str::to_owned),
            acquired: site.site.origin.is_acquisition(),
            loaded: is_loaded(site),
            descriptors: site.descriptors(site.live),
            repeats: most_repeated(site.repeats.iter().map(repeat).collect()),
            refused: site.refused(),
            live: site.live,
            aged: site.aged,
            change: history.map_or(0, History::change),
            allocated: site.counts.allocated,
            released: site.counts.released(),
            released_by: released_by(&site.counts),
            oldest_age_ns: site.oldest.first().map_or(0, age),
            verdict: evaluated.map_or(Trend::Unknown, |evaluated| evaluated.verdict),
            lifetimes: evaluated.map(|evaluated| evaluated.lifetimes(site)),
            kinds: site.kinds.clone(),
            holders: site.holders.clone(),
            processes: processes.into_iter().map(|(_, process)| process_row(site, process)).collect(),
            examples: site.oldest.iter().filter_map(|old| example(old, snapshot.now)).collect(),
            mapped_by: site.mapped_by.iter().map(|mapping| mapped_at(mapping, snapshot)).collect(),
            kernel_stack,
            user_stack,
            user_stack_complete: site.site.user.complete,
        }
    }

    /// What grows fastest of what grows: a site of a process.
    fn fastest(&self, shown: &[(u64, &SiteGroups)], evaluated: &HashMap<u64, Evaluated>) -> Option<Fastest> {
        let growing = shown
            .iter()
            .filter(|(id, _)| evaluated.get(id).is_some_and(|evaluated| evaluated.verdict == Trend::Growing));
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
            place: place(&user_stack(&site.site), &site.site.kernel),
            pid: process.pid,
            comm: process.identity.comm.clone(),
            live: process.live,
            per_second: rate,
            acquired: site.site.origin.is_acquisition(),
            takes_descriptors: takes_descriptors(site),
            descriptors: None,
            seconds_to_limit: None,
        })
    }

    fn handles(&self, snapshot: &Snapshot) -> Handles {
        let made = snapshot.groups.iter().filter(|group| !group.call.acquired);
        let live = made.map(|group| group.counts.live()).sum();
        let stats = &snapshot.stats;
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
            young: stats.young,
            min_age_ns: self.session.min_age_ns,
            pre_existing,
            pre_existing_released: snapshot.existing.released(),
            pre_existing_by: existing_by,
            others: stats
                .file_nr
                .saturating_sub(live)
                .saturating_sub(stats.young)
                .saturating_sub(pre_existing)
                .saturating_sub(stats.own_descriptors),
        }
    }

    fn trace(&self, snapshot: &Snapshot) -> Trace {
        let lost = lost(snapshot);
        let incomplete = incomplete(snapshot, &lost);
        let since = Duration::from_nanos(snapshot.now.saturating_sub(self.session.start_ns));
        Trace {
            start: humantime::format_rfc3339_seconds(self.session.start).to_string(),
            duration_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            samples: self.samples,
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
            untraced_releases: snapshot.stats.untraced_releases,
            errors: snapshot.errors.iter().map(|(number, count)| (error_name(*number), *count)).collect(),
            allocated_per_second: self.rates.0,
            released_per_second: self.rates.1,
        }
    }
}

/// One more look at each number; what lives no more is forgotten.
fn remember<K: Eq + Hash>(histories: &mut HashMap<K, History>, live: HashMap<K, u64>, now: u64) {
    histories.retain(|key, _| live.contains_key(key));
    for (key, live) in live {
        histories.entry(key).or_default().push(now, live);
    }
}

/// How old handles became and are, by site.
fn ages_by_site(lives: &Lives, now: u64) -> HashMap<u64, Ages> {
    let mut sites: HashMap<u64, Ages> = HashMap::new();
    for group in &lives.groups {
        let site = sites::id_of(group.site, &group.call);
        sites.entry(site).or_insert_with(|| Ages::at(now)).add(group);
    }
    for (site, deaths) in &lives.closed {
        if let Some(ages) = sites.get_mut(site) {
            ages.add_closed(deaths);
        }
    }
    sites
}

/// The same by site and image.
fn ages_by_image(lives: &Lives, now: u64) -> HashMap<(u64, ImageKey), Ages> {
    let mut images: HashMap<(u64, ImageKey), Ages> = HashMap::new();
    for group in &lives.groups {
        let key = (sites::id_of(group.site, &group.call), group.image);
        images.entry(key).or_insert_with(|| Ages::at(now)).add(group);
    }
    images
}

fn example((tgid, old): &(u32, OldHandle), now: u64) -> Option<Example> {
    let name = old.name.as_deref()?;
    Some(Example {
        name: name.to_owned(),
        kind: Kind::from_number(old.kind),
        pid: old.descriptor.found().map_or(*tgid, |(pid, _)| pid),
        fd: old.descriptor.found().map(|(_, fd)| fd),
        hidden: old.descriptor == FdLookup::Nothing,
        age_ns: now.saturating_sub(old.generation),
    })
}

fn repeat(repeated: &Repeated) -> Repeat {
    Repeat {
        name: repeated.name.as_deref().unwrap_or_default().to_owned(),
        kind: Kind::from_number(repeated.kind),
        descriptors: repeated.descriptors,
    }
}

fn mapped_at(mapping: &MappedBy, snapshot: &Snapshot) -> MappedAt {
    let site = sites::site_of(snapshot, mapping.site, &mapping.call);
    MappedAt {
        handles: mapping.handles,
        site: format!("{:016x}", site.id),
        origin: site.origin,
        user_stack: user_stack(&site),
        example: Some(MappingExample { pid: mapping.tgid, address: mapping.address, length: mapping.length }),
    }
}

fn lost(snapshot: &Snapshot) -> Lost {
    let stats = &snapshot.stats;
    Lost {
        events: stats.lost_events,
        handles: stats.lost_handles,
        stacks: stats.lost_stacks,
        skipped: stats.missed_allocations.saturating_add(stats.missed_releases),
        healed: snapshot.loss.healed,
        phantoms: stats.phantoms,
        malformed: stats.malformed,
    }
}

/// What was lost and not resynced: the live set may be short, or too long.
fn incomplete(snapshot: &Snapshot, lost: &Lost) -> Vec<String> {
    let mut reasons = Vec::new();
    if lost.handles > 0 {
        reasons.push("the kernel's table was full (--max-handles)".to_owned());
    }
    if snapshot.stats.unsynced > 0 {
        reasons.push("the kernel missed probes that may have been allocations".to_owned());
    }
    if snapshot.stats.lost_descriptors > 0 {
        reasons.push("duplicated descriptors found no room in the kernel's table".to_owned());
    }
    if snapshot.stats.unchecked > 0 {
        reasons.push(
            "the kernel skipped releases, and not all of their handles have been looked for".to_owned(),
        );
    }
    if lost.malformed > 0 {
        reasons.push("records could not be read".to_owned());
    }
    reasons
}

fn process_row(site: &SiteGroups, process: &SiteProcess) -> Process {
    Process {
        pid: process.pid,
        comm: process.identity.comm.clone(),
        exe: process.identity.exe.clone(),
        cgroup: process.identity.cgroup.clone(),
        live: process.live,
        descriptors: site.descriptors(process.live),
        allocated: Some(process.allocated),
    }
}

fn released_by(counts: &Counts) -> crate::model::Counts {
    (0..)
        .zip(counts.released_by)
        .filter(|(_, count)| *count > 0)
        .filter_map(|(number, count)| Some((Cause::from_wire(number)?.name().into(), count)))
        .collect()
}

fn user_stack(site: &stream::Site) -> Vec<UserFrame> {
    site.user.frames.iter().map(|frame| (**frame).clone()).collect()
}

/// A site of which nothing has happened yet.
#[must_use]
pub fn bare_site(site: &stream::Site) -> Site {
    let (kernel_stack, user_stack) = (site.kernel.clone(), user_stack(site));
    let origin = site.origin;
    Site {
        id: format!("{:016x}", site.id),
        name_id: name_id(origin, &user_stack, &kernel_stack),
        origin,
        origin_function: stacks::deciding_function(&site.kernel).map(str::to_owned),
        acquired: site.origin.is_acquisition(),
        loaded: false,
        descriptors: 0,
        repeats: Vec::new(),
        refused: 0,
        live: 0,
        aged: 0,
        change: 0,
        allocated: 0,
        released: 0,
        released_by: BTreeMap::new(),
        oldest_age_ns: 0,
        verdict: Trend::Unknown,
        lifetimes: None,
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
