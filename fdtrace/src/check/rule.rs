//! The rule: from what was kept to leaks. `docs/verdict.md` says it in words.
//!
//! Everything is counted in calls, per call site and image, and the worst image decides: sums over images would flag every
//! shell that starts the same program twice.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::{
    Class, Ended, KeptBy,
    judge::{Group, Image, Judge, LeftOpen, highest},
};
use crate::{
    report::{Example, Verdict as Growth},
    stream::{Call, ImageKey, Moment, Sought},
};

/// Handles of one file that one site may have mapped at once, with no descriptor: a library has a handful of parts, and each
/// is one handle.
pub(super) const MANY_MAPPED: u64 = 8;

/// Images that are named.
const MOST_IMAGES: usize = 8;
/// Handles that are named.
const MOST_EXAMPLES: usize = 5;

/// What a site may do.
pub struct Rule<'a> {
    /// The most calls that a site may keep in one image.
    pub max_per_site: u64,
    /// How the live handles of a site develop in an image.
    pub growth: &'a dyn Fn(u64, ImageKey) -> Growth,
    /// Nothing but growth counts: the processes are services.
    pub services: bool,
}

/// A call site, or a call of which no site was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    Site(u64),
    /// The name of the user stack.
    Stack(u64),
}

/// What is found of a site.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) place: Place,
    pub(super) call: Call,
    pub(super) class: Class,
    pub(super) leaked: u64,
    pub(super) handles: u64,
    pub(super) images: Vec<KeptBy>,
    pub(super) images_in_all: u64,
    pub(super) examples: Vec<Example>,
    pub(super) kinds: BTreeMap<&'static str, u64>,
    /// The image that decides.
    pub(super) worst: ImageKey,
}

/// What became of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Open at the end of the image that made it, or of one that has it in its place; or alive in a descriptor.
    Kept,
    /// Open at the end of another image.
    Inherited,
    /// Closed by an exec.
    Execed,
    /// Standard input, output or error; or closed.
    Nothing,
}

/// What one image did with one site.
#[derive(Default)]
struct Deeds<'a> {
    groups: Vec<&'a Group>,
    left: Vec<(Fate, u32, usize, &'a LeftOpen)>,
}

impl Deeds<'_> {
    /// Calls with a handle of this fate.
    fn calls(&self, fate: Fate) -> u64 {
        let calls: HashSet<(usize, u32)> =
            self.of(fate).map(|(_, call, group, _)| (*group, *call)).collect();
        calls.len() as u64
    }

    fn of(&self, fate: Fate) -> impl Iterator<Item = &(Fate, u32, usize, &LeftOpen)> {
        self.left.iter().filter(move |(found, ..)| *found == fate)
    }

    fn mapped(&self) -> u64 {
        let mut by_inode: HashMap<u64, u64> = HashMap::new();
        for (inode, count) in self.groups.iter().flat_map(|group| &group.mapped) {
            *by_inode.entry(*inode).or_default() += count;
        }
        by_inode.into_values().max().unwrap_or(0)
    }
}

/// A class, and the number that it rests on.
#[derive(Clone, Copy)]
struct Sentence {
    class: Class,
    number: u64,
}

impl Rule<'_> {
    /// What each site did, worst first.
    pub(super) fn apply(&self, judge: &Judge) -> Vec<Judged> {
        let alive: Vec<(usize, LeftOpen)> = judge.still_held().collect();
        let mut alive_by_group: HashMap<usize, Vec<&LeftOpen>> = HashMap::new();
        alive.iter().for_each(|(group, left)| alive_by_group.entry(*group).or_default().push(left));
        let mut places: BTreeMap<Place, BTreeMap<ImageKey, Deeds<'_>>> = BTreeMap::new();
        for (index, group) in judge.groups() {
            let deeds = places.entry(place(group)).or_default().entry(group.image).or_default();
            let alive = alive_by_group.get(&index).into_iter().flatten().copied();
            for left in group.left.iter().chain(alive) {
                deeds.left.push((fate(judge, group.image, left), left.call, index, left));
            }
            deeds.groups.push(group);
        }
        let mut judged: Vec<Judged> =
            places.iter().filter_map(|(place, images)| self.site(judge, *place, images)).collect();
        judged.sort_by_key(|site| (site.class, Reverse(site.leaked), site.place));
        judged
    }

    fn site(&self, judge: &Judge, place: Place, images: &BTreeMap<ImageKey, Deeds<'_>>) -> Option<Judged> {
        let sentences = images.iter().map(|(key, deeds)| (*key, self.sentence(judge, place, *key, deeds)));
        let mut sentences: Vec<(ImageKey, Sentence)> =
            sentences.filter_map(|(key, sentence)| Some((key, sentence?))).collect();
        sentences.sort_by_key(|(key, sentence)| (sentence.class, Reverse(sentence.number), *key));
        let (worst, Sentence { class, number }) = *sentences.first()?;
        let fate = fate_of(class);
        let alike: Vec<ImageKey> =
            sentences.iter().filter(|(_, sentence)| sentence.class == class).map(|(key, _)| *key).collect();
        let deeds = &images[&worst];
        Some(Judged {
            place,
            call: deeds.groups[0].call,
            class,
            leaked: number,
            handles: alike.iter().map(|key| images[key].of(fate).count() as u64).sum(),
            images: alike.iter().take(MOST_IMAGES).map(|key| kept_by(judge, *key, &images[key], fate)).collect(),
            images_in_all: alike.len() as u64,
            examples: examples(judge, deeds, fate, worst),
            kinds: kinds(deeds, fate),
            worst,
        })
    }

    /// What one image did with one site; `None` when nothing is to be said of it.
    fn sentence(&self, judge: &Judge, place: Place, key: ImageKey, deeds: &Deeds<'_>) -> Option<Sentence> {
        let say = |class, number| Some(Sentence { class, number });
        let growing = || matches!(place, Place::Site(id) if (self.growth)(id, key) == Growth::Growing);
        let live: u64 = deeds.groups.iter().map(|group| group.series.live()).sum();
        if self.services {
            return if growing() { say(Class::Leak, live) } else { None };
        }
        let kept = deeds.calls(Fate::Kept);
        let image = judge.image(key);
        if image.is_some_and(|image| matches!(image.ended, Some((_, Ended::Signal(_))))) {
            // It had no chance to close anything.
            return match kept {
                0 => None,
                _ if growing() => say(Class::Leak, kept),
                _ => say(Class::Allowed, kept),
            };
        }
        if kept > self.max_per_site {
            let class = if is_steady(judge, key, deeds, live) { Class::Steady } else { Class::Leak };
            return say(class, kept);
        }
        let mapped = deeds.mapped();
        if mapped > MANY_MAPPED {
            return say(Class::Leak, mapped);
        }
        let (execed, inherited) = (deeds.calls(Fate::Execed), deeds.calls(Fate::Inherited));
        match () {
            () if execed > self.max_per_site.max(1) => say(Class::Exec, execed),
            () if inherited > 0 => say(Class::Inherited, inherited),
            () if kept > 0 => say(Class::Allowed, kept),
            () if mapped > 0 => say(Class::Mapped, mapped),
            () => None,
        }
    }
}

/// Where a group was allocated, as far as is known.
pub(super) fn place(group: &Group) -> Place {
    group.site.map_or(Place::Stack(group.call.user_stack), Place::Site)
}

fn fate_of(class: Class) -> Fate {
    match class {
        Class::Leak | Class::Steady | Class::Allowed | Class::Suppressed => Fate::Kept,
        Class::Inherited => Fate::Inherited,
        Class::Exec => Fate::Execed,
        Class::Mapped => Fate::Nothing,
    }
}

/// A pool, or a cache: it released calls as well, and at its end it has no more than it had in the first half of its life.
fn is_steady(judge: &Judge, key: ImageKey, deeds: &Deeds<'_>, live: u64) -> bool {
    let released: u64 = deeds.groups.iter().map(|group| group.released).sum();
    if released == 0 {
        return false;
    }
    let first = deeds.groups.iter().filter_map(|group| group.series.begin()).min().unwrap_or(0);
    let begin = key.since.max(first.min(judge.now()));
    let end = judge.image(key).and_then(|image| image.ended).map_or(judge.now(), |(time, _)| time);
    let half = begin + end.saturating_sub(begin) / 2;
    live <= highest(deeds.groups.iter().map(|group| &group.series), half)
}

fn fate(judge: &Judge, maker: ImageKey, left: &LeftOpen) -> Fate {
    let at = &left.held.at;
    if at.iter().any(|open| open.fd <= 2) {
        return Fate::Nothing;
    }
    if at.iter().any(|open| open.moment == Moment::Exit && takes_the_place(judge, open.image, maker)) {
        return Fate::Kept;
    }
    if left.alive && matches!(left.held.descriptor, Sought::Found(_, fd) if fd > 2) {
        return Fate::Kept;
    }
    if at.iter().any(|open| open.moment == Moment::Exit) {
        return Fate::Inherited;
    }
    if at.iter().any(|open| open.moment == Moment::Exec && open.image == maker) {
        return Fate::Execed;
    }
    Fate::Nothing
}

/// The image itself, or one that was forked from it and has seen it replaced by another program.
fn takes_the_place(judge: &Judge, image: ImageKey, maker: ImageKey) -> bool {
    image == maker
        || judge.image(maker).is_some_and(|maker| matches!(maker.ended, Some((_, Ended::Exec))))
            && judge.is_forked_from(image, maker)
}

fn kept_by(judge: &Judge, key: ImageKey, deeds: &Deeds<'_>, fate: Fate) -> KeptBy {
    let image = judge.image(key);
    KeptBy {
        pid: key.tgid,
        comm: image.map(Image::name).unwrap_or_default(),
        exe: image.map(Image::program).unwrap_or_default(),
        calls: deeds.calls(fate),
        handles: deeds.of(fate).count() as u64,
        allocated: deeds.groups.iter().map(|group| group.allocated).sum(),
        released: deeds.groups.iter().map(|group| group.released).sum(),
        ended: image.and_then(|image| image.ended).map_or(Ended::Running, |(_, ended)| ended),
    }
}

/// Those that were described, oldest first.
fn examples(judge: &Judge, deeds: &Deeds<'_>, fate: Fate, key: ImageKey) -> Vec<Example> {
    let end = judge.image(key).and_then(|image| image.ended).map_or(judge.now(), |(time, _)| time);
    let mut named: Vec<&LeftOpen> =
        deeds.of(fate).map(|(.., left)| *left).filter(|left| left.held.name.is_some()).collect();
    named.sort_by_key(|left| left.generation);
    named.into_iter().take(MOST_EXAMPLES).map(|left| example(left, key, end)).collect()
}

/// One handle as reports show it.
pub(super) fn example(left: &LeftOpen, maker: ImageKey, end: u64) -> Example {
    let seen = left.held.at.last().map(|open| (open.image.tgid, open.fd)).or(left.held.descriptor.found());
    Example {
        name: left.held.name.as_deref().unwrap_or_default().to_owned(),
        kind: left.held.kind.name(),
        pid: seen.map_or(maker.tgid, |(pid, _)| pid),
        fd: seen.map(|(_, fd)| fd),
        hidden: false,
        age_ns: end.saturating_sub(left.generation),
    }
}

fn kinds(deeds: &Deeds<'_>, fate: Fate) -> BTreeMap<&'static str, u64> {
    let mut kinds = BTreeMap::new();
    for (.., left) in deeds.of(fate).filter(|(.., left)| left.held.name.is_some()) {
        *kinds.entry(left.held.kind.name()).or_default() += 1;
    }
    kinds
}
