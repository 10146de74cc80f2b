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
    interpreters::Interpreters,
    judge::{Group, Image, Judge, LeftOpen, Parted, highest, percentile, percentile_of_shares, was_waiting},
    places::{Place, Places},
    teardown::Ends,
    weaker,
};
use crate::{
    report::{Example, Repeat, Verdict as Growth, most_repeated},
    stream::{Call, Cut, ImageKey, Moment, Sought},
};

/// Handles of one file that one site may have mapped at once, with no descriptor: a library has a handful of parts, and each
/// is one handle.
pub(super) const MANY_MAPPED: u64 = 8;

/// The most calls that a site may usually keep: a log file or two are kept on purpose, each by a site of its own.
pub(super) const MOST: u64 = 1;
/// The same where an interpreter's chain is the site, whatever the line of the script; or where the chain was cut off before
/// it came to the program.
pub(super) const MOST_OF_SCRIPT: u64 = 8;

/// Images that are named.
const MOST_IMAGES: usize = 8;
/// Handles that are named.
const MOST_EXAMPLES: usize = 5;

/// What a site may do.
pub struct Rule<'a> {
    /// The most calls that a site may keep in one image; `None` for what is usual, which is more where the site stands for all
    /// lines of a script.
    pub max_per_site: Option<u64>,
    /// How the live handles of a site develop in an image.
    pub growth: &'a dyn Fn(u64, ImageKey) -> Growth,
    /// A socket is reported that has been in CLOSE_WAIT for so long at the end.
    pub close_wait_ms: u32,
    /// Nothing but growth counts: the processes are services.
    pub services: bool,
    /// Whether a file, by its path, is an archive of code that a runtime loads.
    pub holds_code: &'a dyn Fn(&str) -> bool,
}

/// What is found of a site.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) place: Place,
    pub(super) call: Call,
    pub(super) class: Class,
    pub(super) leaked: u64,
    pub(super) handles: u64,
    /// Of those, the ones that the program's end has closed.
    pub(super) closed_by_end: u64,
    pub(super) images: Vec<KeptBy>,
    pub(super) images_in_all: u64,
    pub(super) examples: Vec<Example>,
    pub(super) kinds: BTreeMap<&'static str, u64>,
    /// Mappings alone hold them.
    pub(super) mapped: bool,
    /// The handles that they repeat, of descriptors that were acquired.
    pub(super) repeats: Vec<Repeat>,
    /// What its files are, where that is why it is no leak.
    pub(super) because: Option<String>,
    /// The image that decides.
    pub(super) worst: ImageKey,
}

/// What became of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// Open at the end of the image that made it, or of one that has it in its place; or alive in a descriptor.
    Kept,
    /// Kept, or closed by what runs when a program ends.
    Ended,
    /// Open at the end of another image.
    Inherited,
    /// Open at the end only because a thread was cut off that was about to close it.
    InFlight,
    /// Closed by an exec.
    Execed,
    /// Standard input, output or error; or closed.
    Nothing,
}

/// What one image did with one site.
#[derive(Default)]
pub(super) struct Deeds<'a> {
    pub(super) groups: Vec<&'a Group>,
    /// Handles that were open at an end.
    left: Vec<(Fate, &'a LeftOpen)>,
    /// What the program's end has closed.
    closed_by_end: Parted,
    /// Calls of this site that lived until then; of a script's, of all its sites, for a line may have several.
    ended: u64,
}

impl<'a> Deeds<'a> {
    /// Takes what became of the handles of a group.
    pub(super) fn add(&mut self, judge: &Judge, group: &'a Group, left: impl Iterator<Item = &'a LeftOpen>) {
        self.left.extend(left.map(|left| (fate(judge, group.image, left), left)));
        self.groups.push(group);
    }

    /// Calls with a handle of this fate.
    fn calls(&self, fate: Fate) -> u64 {
        if fate == Fate::Ended {
            return self.calls(Fate::Kept) + self.closed_by_end.calls;
        }
        let calls: HashSet<u64> = self.of(fate).map(|left| left.call).collect();
        calls.len() as u64
    }

    pub(super) fn of(&self, fate: Fate) -> impl Iterator<Item = &'a LeftOpen> {
        self.left.iter().filter(move |(found, _)| *found == fate).map(|(_, left)| *left)
    }

    /// The most that were alive while the first so many hundredths were made.
    fn highest(&self, percent: u64) -> u64 {
        highest(self.groups.iter().map(|group| &group.series), percent)
    }

    /// How many calls the site has made since a handle was.
    fn calls_since(&self, left: &LeftOpen) -> u64 {
        self.groups.iter().map(|group| group.series.made_after(left.generation)).sum()
    }

    /// The age, in calls of the site, that nine of ten closed calls did not reach.
    fn usual_age(&self) -> u64 {
        let all: u64 = self.groups.iter().map(|group| group.calls).sum();
        let share = |group: &Group| all.checked_div(group.calls).unwrap_or(1);
        percentile_of_shares(self.groups.iter().map(|group| (&group.ages, share(group))), 90)
    }

    fn handles(&self, fate: Fate) -> u64 {
        match fate {
            Fate::Nothing => self.groups.iter().flat_map(|group| group.mapped.values()).sum(),
            Fate::Ended => self.handles(Fate::Kept) + self.closed_by_end.handles,
            _ => self.of(fate).count() as u64,
        }
    }

    /// What a thread had in hand when it was cut off is not kept, for it would have closed it.
    fn tell_what_was_in_flight(&mut self, judge: &Judge, key: ImageKey, ends_lost: bool) {
        let usual = Usual::of(&self.groups);
        let end = judge.end_of(key);
        for (fate, left) in &mut self.left {
            let (tid, _) = left.of_thread;
            let cut = judge.threads().cut_of(tid, left.generation);
            let cut = cut.or(ends_lost.then_some(Cut { time: end, tid, began: 0, syscall: None }));
            let thread_age = judge.threads().age(left.of_thread);
            if *fate == Fate::Kept
                && cut.is_some_and(|cut| usual.allows(&cut, thread_age, end.saturating_sub(left.generation)))
            {
                *fate = Fate::InFlight;
            }
        }
    }

    /// Handles of one file that are mapped at once and have no descriptor: the most of any file.
    fn mapped(&self) -> u64 {
        let mut by_inode: HashMap<u64, u64> = HashMap::new();
        for (inode, count) in self.groups.iter().flat_map(|group| &group.mapped) {
            *by_inode.entry(*inode).or_default() += count;
        }
        by_inode.into_values().max().unwrap_or(0)
    }
}

/// How old the closed calls of a site became.
struct Usual {
    /// In calls of their own thread: nine of ten were younger; 0 when none were closed.
    calls: u64,
    /// In ns: nine of ten, and all.
    most: u64,
    all: u64,
}

impl Usual {
    fn of(groups: &[&Group]) -> Self {
        let lives = |percent| percentile(groups.iter().map(|group| &group.lives), percent);
        let calls = percentile(groups.iter().map(|group| &group.thread_ages), 90);
        Self { calls, most: lives(90), all: lives(100) }
    }

    /// Whether a handle was on its way from open to close when its thread was cut off: the thread has made no more calls
    /// since than it usually does in between, and not more time has gone by. A thread that could run, and did not get the
    /// processor, may have been kept from it for as long as any was before, or a second; one that was waiting may not.
    fn allows(&self, cut: &Cut, thread_age: u64, age: u64) -> bool {
        let most = match () {
            () if was_waiting(cut) => self.most,
            () if self.all > DELAY / OLDER => self.all,
            () => DELAY / OLDER,
        };
        thread_age < self.calls && age <= most.saturating_mul(OLDER)
    }
}

/// A class, and the number that it rests on.
#[derive(Clone, Copy)]
struct Sentence {
    class: Class,
    number: u64,
    /// What became of the handles that it is about.
    fate: Fate,
}

impl Rule<'_> {
    /// What each site did, worst first. Where records of ends were lost, a thread may have been cut off without a word.
    pub(super) fn apply(&self, judge: &Judge, same: &Places, ends_lost: bool) -> Vec<Judged> {
        let alive: Vec<(usize, LeftOpen)> = judge.still_held().collect();
        let mut alive_by_group: HashMap<usize, Vec<&LeftOpen>> = HashMap::new();
        alive.iter().for_each(|(group, left)| alive_by_group.entry(*group).or_default().push(left));
        let mut places: BTreeMap<Place, BTreeMap<ImageKey, Deeds<'_>>> = BTreeMap::new();
        let ends = Ends::of(judge);
        for (index, group) in judge.groups() {
            let deeds = places.entry(same.place(group)).or_default().entry(group.image).or_default();
            let alive = alive_by_group.get(&index).into_iter().flatten().copied();
            deeds.add(judge, group, group.left.iter().chain(alive));
            deeds.closed_by_end.add(ends.closed(group));
        }
        for (key, deeds) in places.values_mut().flatten() {
            deeds.tell_what_was_in_flight(judge, *key, ends_lost);
        }
        let scripts = Interpreters::of(judge);
        let most = |place| self.most(judge, place, &scripts);
        count_ended(&mut places, |place| is_script(judge, place, &scripts));
        let mut judged: Vec<Judged> = places
            .iter()
            .filter_map(|(place, images)| self.site(judge, *place, most(*place), images))
            .collect();
        judged.sort_by_key(|site| (site.class, Reverse(site.leaked), site.place));
        judged
    }

    fn site(
        &self,
        judge: &Judge,
        place: Place,
        most: u64,
        images: &BTreeMap<ImageKey, Deeds<'_>>,
    ) -> Option<Judged> {
        let sentences = images.iter().map(|(key, deeds)| {
            let sentence = self.sentence(judge, (place, *key), most, deeds);
            (*key, sentence.map(|sentence| self.weaker(judge, sentence, most, deeds)))
        });
        let mut sentences: Vec<(ImageKey, Sentence)> =
            sentences.filter_map(|(key, sentence)| Some((key, sentence?))).collect();
        sentences.sort_by_key(|(key, sentence)| (sentence.class, Reverse(sentence.number), *key));
        let (worst, Sentence { class, number, fate }) = *sentences.first()?;
        let alike: Vec<ImageKey> =
            sentences.iter().filter(|(_, sentence)| sentence.class == class).map(|(key, _)| *key).collect();
        let deeds = &images[&worst];
        let because = self.because(judge, class, deeds);
        Some(Judged {
            place,
            because,
            call: deeds.groups[0].call,
            class,
            leaked: number,
            handles: alike.iter().map(|key| self.kept(&images[key], fate).1).sum(),
            closed_by_end: match fate {
                Fate::Ended => alike.iter().map(|key| images[key].closed_by_end.handles).sum(),
                _ => 0,
            },
            images: alike
                .iter()
                .take(MOST_IMAGES)
                .map(|key| kept_by(judge, *key, &images[key], self.kept(&images[key], fate)))
                .collect(),
            images_in_all: alike.len() as u64,
            examples: examples(judge, deeds, fate, worst),
            kinds: kinds(deeds, fate),
            mapped: fate == Fate::Nothing,
            repeats: repeats(judge, deeds, fate),
            worst,
        })
    }

    /// A leak, or what it is for a reason that can be seen.
    fn weaker(&self, judge: &Judge, sentence: Sentence, most: u64, deeds: &Deeds<'_>) -> Sentence {
        if sentence.class != Class::Leak || sentence.fate != Fate::Kept {
            return sentence;
        }
        let peers = weaker::living_peers(judge, deeds);
        let class = match () {
            () if peers > most && sentence.number.saturating_sub(peers) <= most => Class::GrowingWithPeers,
            () if self.services => Class::Leak,
            () if weaker::archives(deeds, self.holds_code).is_some() => Class::Loaded,
            () if weaker::data_files(judge, deeds).is_some() => Class::Steady,
            () => Class::Leak,
        };
        Sentence { class, ..sentence }
    }

    /// What the files of a site are, where that is why it is no leak.
    fn because(&self, judge: &Judge, class: Class, deeds: &Deeds<'_>) -> Option<String> {
        match class {
            Class::Loaded => weaker::archives(deeds, self.holds_code)
                .map(|files| format!("{files} different archives of code")),
            Class::Steady => {
                weaker::data_files(judge, deeds).map(|files| format!("a cache of {files} different files"))
            }
            _ => None,
        }
    }

    /// Calls and handles of a fate; of a service that runs, what is alive, whether somebody saw where or not.
    fn kept(&self, deeds: &Deeds<'_>, fate: Fate) -> (u64, u64) {
        let sum = |of: fn(&Group) -> u64| deeds.groups.iter().map(|group| of(group)).sum();
        match fate {
            _ if self.services => match (sum(|group| group.series.live()), sum(Group::live_handles)) {
                // It has ended meanwhile, and closed all.
                (0, _) => (deeds.highest(100), deeds.highest(100)),
                alive => alive,
            },
            Fate::Nothing => (deeds.handles(fate), deeds.handles(fate)),
            _ => (deeds.calls(fate), deeds.handles(fate)),
        }
    }

    /// The most calls that a site may keep.
    fn most(&self, judge: &Judge, place: Place, scripts: &Interpreters) -> u64 {
        let is_cut = || matches!(place, Place::Site(id) if judge.site(id).is_some_and(|site| weaker::ends_in_library(site)));
        let stands_for_many = || is_script(judge, place, scripts) || is_cut();
        self.max_per_site.unwrap_or_else(|| if stands_for_many() { MOST_OF_SCRIPT } else { MOST })
    }

    /// What one image did with one site; `None` when nothing is to be said of it.
    fn sentence(
        &self,
        judge: &Judge,
        (place, key): (Place, ImageKey),
        most: u64,
        deeds: &Deeds<'_>,
    ) -> Option<Sentence> {
        let say = |class, number| Some(Sentence { class, number, fate: fate_of(class) });
        let growing = || matches!(place, Place::Site(id) if (self.growth)(id, key) == Growth::Growing);
        let live: u64 = deeds.groups.iter().map(|group| group.series.live()).sum();
        if self.services {
            return if growing() { say(Class::Leak, self.kept(deeds, Fate::Kept).0) } else { None };
        }
        let kept = deeds.calls(Fate::Kept);
        let image = judge.image(key);
        if image.is_some_and(|image| matches!(image.ended, Some((_, Ended::Signal(_))))) {
            // It had no chance to close anything.
            return match kept {
                0 => None,
                _ if growing() || is_spread(judge, key, deeds) => say(Class::Leak, kept),
                _ => say(Class::Allowed, kept),
            };
        }
        if kept > most {
            let class = if is_steady(deeds, live) { Class::Steady } else { Class::Leak };
            return say(class, kept);
        }
        let mapped = deeds.mapped();
        if mapped > MANY_MAPPED {
            return Some(Sentence { class: Class::Leak, number: mapped, fate: Fate::Nothing });
        }
        if deeds.closed_by_end.calls > 0 && deeds.ended > most {
            let class = if growing() { Class::Leak } else { Class::Teardown };
            return Some(Sentence { class, number: deeds.calls(Fate::Ended), fate: Fate::Ended });
        }
        // What was inherited, or closed by an exec, is told of by the handle.
        if deeds.groups.iter().any(|group| group.call.acquired) {
            return if kept > 0 { say(Class::Allowed, kept) } else { None };
        }
        let (execed, inherited) = (deeds.calls(Fate::Execed), deeds.calls(Fate::Inherited));
        match () {
            () if execed > most.max(1) => say(Class::Exec, execed),
            () if inherited > 0 => say(Class::Inherited, inherited),
            () if kept > 0 => say(Class::Allowed, kept),
            () if mapped > 0 => say(Class::Mapped, mapped),
            () => None,
        }
    }
}

/// Whether a site stands for all lines of a script.
fn is_script(judge: &Judge, place: Place, scripts: &Interpreters) -> bool {
    matches!(place, Place::Site(id) if judge.site(id).is_some_and(|site| scripts.run(site)))
}

/// How many calls lived until their program's end, by what is one site to a person.
fn count_ended(
    places: &mut BTreeMap<Place, BTreeMap<ImageKey, Deeds<'_>>>,
    is_script: impl Fn(Place) -> bool,
) {
    let scripts: Vec<Place> = places.keys().copied().filter(|place| is_script(*place)).collect();
    let mut sums: HashMap<ImageKey, u64> = HashMap::new();
    for deeds in places.values_mut().flat_map(BTreeMap::values_mut) {
        deeds.ended = deeds.calls(Fate::Ended);
    }
    for (key, deeds) in scripts.iter().flat_map(|place| &places[place]) {
        *sums.entry(*key).or_default() += if deeds.closed_by_end.calls > 0 { deeds.ended } else { 0 };
    }
    for place in &scripts {
        for (key, deeds) in places.get_mut(place).into_iter().flatten() {
            deeds.ended = sums[key];
        }
    }
}

fn fate_of(class: Class) -> Fate {
    match class {
        Class::Leak
        | Class::Steady
        | Class::GrowingWithPeers
        | Class::Loaded
        | Class::Allowed
        | Class::Suppressed => Fate::Kept,
        Class::Teardown => Fate::Ended,
        Class::Inherited => Fate::Inherited,
        Class::Exec => Fate::Execed,
        Class::Mapped => Fate::Nothing,
    }
}

/// Fewer handles than this do not show a trend.
const ENOUGH: usize = 10;
/// The longest that a thread waits for the processor without anybody wondering, in ns.
const DELAY: u64 = 1_000_000_000;
/// What is kept may be so much older than what was released.
const OLDER: u64 = 4;

/// A pool, or a cache: it released calls as well, at its end it has no more than it had when the first half was made, and
/// what it kept is no older than what it released used to become. Where what was kept stays and only younger ones are
/// released, something was leaked early and other work was done since.
fn is_steady(deeds: &Deeds<'_>, live: u64) -> bool {
    let closed: u64 = deeds.groups.iter().map(|group| group.closed).sum();
    if closed == 0 || live > deeds.highest(50) {
        return false;
    }
    let mut kept: Vec<u64> = deeds.of(Fate::Kept).map(|left| deeds.calls_since(left)).collect();
    kept.sort_unstable();
    kept[kept.len() / 2] <= deeds.usual_age().saturating_mul(OLDER)
}

/// Of a program that was killed, perhaps before anybody could look at it often enough: it made what it kept all its life long.
fn is_spread(judge: &Judge, key: ImageKey, deeds: &Deeds<'_>) -> bool {
    let end = judge.end_of(key);
    let ages = || deeds.of(Fate::Kept).map(|left| end.saturating_sub(left.generation));
    // From its first one on: to load a program may take longer than all that it does.
    let third = ages().max().unwrap_or(0) / 3;
    let made = |thirds: u64| ages().filter(|age| *age <= third * thirds).count();
    let (last, later, all) = (made(1), made(2), ages().count());
    all >= ENOUGH && [last, later - last, all - later].into_iter().all(|part| part >= all / 5)
}

fn fate(judge: &Judge, maker: ImageKey, left: &LeftOpen) -> Fate {
    let at = &left.held.at;
    if at.iter().any(|open| open.fd <= 2) {
        return Fate::Nothing;
    }
    if left.at_exit().any(|open| takes_the_place(judge, open.image, maker)) {
        return Fate::Kept;
    }
    if left.alive && matches!(left.held.descriptor, Sought::Found(_, fd) if fd > 2) {
        return Fate::Kept;
    }
    if left.at_exit().next().is_some() {
        return Fate::Inherited;
    }
    if at.iter().any(|open| open.moment == Moment::Exec && open.image == maker) {
        return Fate::Execed;
    }
    Fate::Nothing
}

/// The image itself; one that had the same table of descriptors; or one that was forked from it and has seen it replaced by
/// another program.
fn takes_the_place(judge: &Judge, image: ImageKey, maker: ImageKey) -> bool {
    judge.share_table(image, maker)
        || judge.image(maker).is_some_and(|maker| matches!(maker.ended, Some((_, Ended::Exec))))
            && judge.is_forked_from(image, maker)
}

fn kept_by(judge: &Judge, key: ImageKey, deeds: &Deeds<'_>, (calls, handles): (u64, u64)) -> KeptBy {
    let image = judge.image(key);
    KeptBy {
        pid: key.tgid,
        comm: image.map(Image::name).unwrap_or_default(),
        exe: image.map(Image::program).unwrap_or_default(),
        calls,
        handles,
        allocated: deeds.groups.iter().map(|group| group.made()).sum(),
        released: deeds.groups.iter().map(|group| group.released).sum(),
        ended: image.and_then(|image| image.ended).map_or(Ended::Running, |(_, ended)| ended),
    }
}

/// Those that were described, oldest first.
fn examples(judge: &Judge, deeds: &Deeds<'_>, fate: Fate, key: ImageKey) -> Vec<Example> {
    let end = judge.end_of(key);
    let mut named: Vec<&LeftOpen> = deeds.of(fate).filter(|left| left.held.name.is_some()).collect();
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

/// The handles that most of the kept descriptors repeat.
fn repeats(judge: &Judge, deeds: &Deeds<'_>, fate: Fate) -> Vec<Repeat> {
    let mut repeats: HashMap<u64, Repeat> = HashMap::new();
    for left in deeds.of(fate).filter(|left| left.of != 0) {
        let repeat = repeats.entry(left.of).or_insert_with(|| {
            let (kind, name) = judge.what_is(left.of);
            Repeat { name: name.as_deref().unwrap_or_default().to_owned(), kind: kind.name(), descriptors: 0 }
        });
        repeat.descriptors += 1;
        if let Some(name) = left.held.name.as_deref().filter(|_| repeat.name.is_empty()) {
            (repeat.name, repeat.kind) = (name.to_owned(), left.held.kind.name());
        }
    }
    most_repeated(repeats.into_values().collect())
}

fn kinds(deeds: &Deeds<'_>, fate: Fate) -> BTreeMap<&'static str, u64> {
    let mut kinds = BTreeMap::new();
    for left in deeds.of(fate).filter(|left| left.held.name.is_some()) {
        *kinds.entry(left.held.kind.name()).or_default() += 1;
    }
    kinds
}
