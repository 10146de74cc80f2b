//! The rule: from what was kept to leaks. `docs/verdict.md` says it in words.
//!
//! Everything is counted in calls, per call site and image, and the worst image decides: sums over images would flag every
//! shell that starts the same program twice.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::{
    evaluate::{
        ClosedCount, Evaluator, Group, Image, LeftOpen, highest, percentile, percentile_of_shares,
        was_waiting,
    },
    interpreters::Interpreters,
    places::{Place, Places},
    teardown::Ends,
    weaker,
};
use crate::{
    model::{
        Example, Kind, Repeat, Trend as Growth,
        check::{Class, Ended, KeptBy},
        most_repeated,
    },
    stream::{Call, Cut, FdLookup, ImageKey, Moment},
};

/// Handles of one file that one site may have mapped at once, with no descriptor: a library has a handful of parts, and each
/// is one handle.
pub(super) const MANY_MAPPED: u64 = 8;

/// The most calls that a site may usually keep: a log file or two are kept on purpose, each by a site of its own.
pub(super) const MAX: u64 = 1;
/// The same where an interpreter's stack is the site, since the lines of the script are not known; or where the stack was cut
/// off before it came to the program.
pub(super) const MAX_OF_SCRIPT: u64 = 8;

/// Images that are named.
const MAX_IMAGES: usize = 8;
/// Handles that are named.
const MAX_EXAMPLES: usize = 5;

/// What a site may do.
pub struct Rule<'a> {
    /// The most calls that a site may keep in one image; `None` for what is usual, which is more where the site stands for all
    /// lines of a script, for they are not known.
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
pub(super) struct Evaluated {
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
    pub(super) kinds: BTreeMap<Kind, u64>,
    /// Mappings alone hold them.
    pub(super) mapped: bool,
    /// The handles that they repeat, of descriptors that were acquired.
    pub(super) repeats: Vec<Repeat>,
    /// What its files are, where that is why it is no leak; or that the lines of its script could not be had.
    pub(super) because: Option<String>,
    /// The image that decides.
    pub(super) worst: ImageKey,
}

/// What became of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Disposition {
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
pub(super) struct SiteStats<'a> {
    pub(super) groups: Vec<&'a Group>,
    /// Handles that were open at an end.
    left: Vec<(Disposition, &'a LeftOpen)>,
    /// What the program's end has closed.
    closed_by_end: ClosedCount,
    /// Calls of this site that lived until then; of a script's without lines, of all its sites, for a line may have several.
    ended: u64,
}

impl<'a> SiteStats<'a> {
    /// Takes what became of the handles of a group.
    pub(super) fn add(
        &mut self,
        evaluator: &Evaluator,
        group: &'a Group,
        left: impl Iterator<Item = &'a LeftOpen>,
    ) {
        self.left.extend(left.map(|left| (disposition(evaluator, group.image, left), left)));
        self.groups.push(group);
    }

    /// Calls with a handle of this fate.
    fn calls(&self, disposition: Disposition) -> u64 {
        if disposition == Disposition::Ended {
            return self.calls(Disposition::Kept) + self.closed_by_end.calls;
        }
        let calls: HashSet<u64> = self.of(disposition).map(|left| left.call).collect();
        calls.len() as u64
    }

    pub(super) fn of(&self, disposition: Disposition) -> impl Iterator<Item = &'a LeftOpen> {
        self.left.iter().filter(move |(found, _)| *found == disposition).map(|(_, left)| *left)
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

    fn handles(&self, disposition: Disposition) -> u64 {
        match disposition {
            Disposition::Nothing => self.groups.iter().flat_map(|group| group.mapped.values()).sum(),
            Disposition::Ended => self.handles(Disposition::Kept) + self.closed_by_end.handles,
            _ => self.of(disposition).count() as u64,
        }
    }

    /// What a thread had in hand when it was cut off is not kept, for it would have closed it.
    fn tell_what_was_in_flight(&mut self, evaluator: &Evaluator, key: ImageKey, ends_lost: bool) {
        let usual = Usual::of(&self.groups);
        let end = evaluator.end_of(key);
        for (disposition, left) in &mut self.left {
            let (tid, _) = left.of_thread;
            let cut = evaluator.threads().cut_of(tid, left.generation);
            let cut = cut.or(ends_lost.then_some(Cut { time: end, tid, began: 0, syscall: None }));
            let thread_age = evaluator.threads().age(left.of_thread);
            if *disposition == Disposition::Kept
                && cut.is_some_and(|cut| usual.allows(&cut, thread_age, end.saturating_sub(left.generation)))
            {
                *disposition = Disposition::InFlight;
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

/// How much a site may keep.
#[derive(Clone, Copy)]
struct Allowance {
    /// The most calls.
    most: u64,
    /// It stands for all lines of a script.
    lines_hidden: bool,
}

/// Why a site may keep more than another one.
const NO_LINES: &str = "the lines of the script could not be had";

/// A class, and the number that it rests on.
#[derive(Clone, Copy)]
struct SiteVerdict {
    class: Class,
    number: u64,
    /// What became of the handles that it is about.
    disposition: Disposition,
}

impl Rule<'_> {
    /// What each site did, worst first. Where records of ends were lost, a thread may have been cut off without a word.
    pub(super) fn apply(&self, evaluator: &Evaluator, same: &Places, ends_lost: bool) -> Vec<Evaluated> {
        let alive: Vec<(usize, LeftOpen)> = evaluator.still_held().collect();
        let mut alive_by_group: HashMap<usize, Vec<&LeftOpen>> = HashMap::new();
        alive.iter().for_each(|(group, left)| alive_by_group.entry(*group).or_default().push(left));
        let mut places: BTreeMap<Place, BTreeMap<ImageKey, SiteStats<'_>>> = BTreeMap::new();
        let ends = Ends::of(evaluator);
        for (index, group) in evaluator.groups() {
            let stats = places.entry(same.place(group)).or_default().entry(group.image).or_default();
            let alive = alive_by_group.get(&index).into_iter().flatten().copied();
            stats.add(evaluator, group, group.left.iter().chain(alive));
            stats.closed_by_end.add(ends.closed(group));
        }
        for (key, stats) in places.values_mut().flatten() {
            stats.tell_what_was_in_flight(evaluator, *key, ends_lost);
        }
        let interpreters = Interpreters::of(evaluator);
        let lines_hidden = |place| are_lines_hidden(evaluator, place, &interpreters);
        count_ended(&mut places, lines_hidden);
        let allowance = |place| self.allowance(evaluator, place, lines_hidden(place));
        let mut evaluated: Vec<Evaluated> = places
            .iter()
            .filter_map(|(place, images)| self.site(evaluator, *place, allowance(*place), images))
            .collect();
        evaluated.sort_by_key(|site| (site.class, Reverse(site.leaked), site.place));
        evaluated
    }

    fn site(
        &self,
        evaluator: &Evaluator,
        place: Place,
        Allowance { most, lines_hidden }: Allowance,
        images: &BTreeMap<ImageKey, SiteStats<'_>>,
    ) -> Option<Evaluated> {
        let verdicts = images.iter().map(|(key, stats)| {
            let verdict = self.verdict(evaluator, (place, *key), most, stats);
            (*key, verdict.map(|verdict| self.weaker(evaluator, verdict, most, stats)))
        });
        let mut verdicts: Vec<(ImageKey, SiteVerdict)> =
            verdicts.filter_map(|(key, verdict)| Some((key, verdict?))).collect();
        verdicts.sort_by_key(|(key, verdict)| (verdict.class, Reverse(verdict.number), *key));
        let (worst, SiteVerdict { class, number, disposition }) = *verdicts.first()?;
        let alike: Vec<ImageKey> =
            verdicts.iter().filter(|(_, verdict)| verdict.class == class).map(|(key, _)| *key).collect();
        let stats = &images[&worst];
        let no_lines = || (lines_hidden && number > MAX).then(|| NO_LINES.to_owned());
        let because = self.because(evaluator, class, stats).or_else(no_lines);
        Some(Evaluated {
            place,
            because,
            call: stats.groups[0].call,
            class,
            leaked: number,
            handles: alike.iter().map(|key| self.kept(&images[key], disposition).1).sum(),
            closed_by_end: match disposition {
                Disposition::Ended => alike.iter().map(|key| images[key].closed_by_end.handles).sum(),
                _ => 0,
            },
            images: alike
                .iter()
                .take(MAX_IMAGES)
                .map(|key| kept_by(evaluator, *key, &images[key], self.kept(&images[key], disposition)))
                .collect(),
            images_in_all: alike.len() as u64,
            examples: examples(evaluator, stats, disposition, worst),
            kinds: kinds(stats, disposition),
            mapped: disposition == Disposition::Nothing,
            repeats: repeats(evaluator, stats, disposition),
            worst,
        })
    }

    /// A leak, or what it is for a reason that can be seen.
    fn weaker(
        &self,
        evaluator: &Evaluator,
        verdict: SiteVerdict,
        most: u64,
        stats: &SiteStats<'_>,
    ) -> SiteVerdict {
        if verdict.class != Class::Leak || verdict.disposition != Disposition::Kept {
            return verdict;
        }
        let peers = weaker::living_peers(evaluator, stats);
        let class = match () {
            () if peers > most && verdict.number.saturating_sub(peers) <= most => Class::GrowingWithPeers,
            () if self.services => Class::Leak,
            () if weaker::archives(stats, self.holds_code).is_some() => Class::Loaded,
            () if weaker::data_files(evaluator, stats).is_some() => Class::Steady,
            () => Class::Leak,
        };
        SiteVerdict { class, ..verdict }
    }

    /// What the files of a site are, where that is why it is no leak.
    fn because(&self, evaluator: &Evaluator, class: Class, stats: &SiteStats<'_>) -> Option<String> {
        match class {
            Class::Loaded => weaker::archives(stats, self.holds_code)
                .map(|files| format!("{files} different archives of code")),
            Class::Steady => weaker::data_files(evaluator, stats)
                .map(|files| format!("a cache of {files} different files")),
            _ => None,
        }
    }

    /// Calls and handles of a fate; of a service that runs, what is alive, whether somebody saw where or not.
    fn kept(&self, stats: &SiteStats<'_>, disposition: Disposition) -> (u64, u64) {
        let sum = |of: fn(&Group) -> u64| stats.groups.iter().map(|group| of(group)).sum();
        match disposition {
            _ if self.services => match (sum(|group| group.series.live()), sum(Group::live_handles)) {
                // It has ended meanwhile, and closed all.
                (0, _) => (stats.highest(100), stats.highest(100)),
                alive => alive,
            },
            Disposition::Nothing => (stats.handles(disposition), stats.handles(disposition)),
            _ => (stats.calls(disposition), stats.handles(disposition)),
        }
    }

    fn allowance(&self, evaluator: &Evaluator, place: Place, lines_hidden: bool) -> Allowance {
        let is_cut = || matches!(place, Place::Site(id) if evaluator.site(id).is_some_and(|site| weaker::ends_in_library(site)));
        let usual = || if lines_hidden || is_cut() { MAX_OF_SCRIPT } else { MAX };
        Allowance { most: self.max_per_site.unwrap_or_else(usual), lines_hidden }
    }

    /// What one image did with one site; `None` when nothing is to be said of it.
    fn verdict(
        &self,
        evaluator: &Evaluator,
        (place, key): (Place, ImageKey),
        most: u64,
        stats: &SiteStats<'_>,
    ) -> Option<SiteVerdict> {
        let say = |class, number| Some(SiteVerdict { class, number, disposition: disposition_of(class) });
        let growing = || matches!(place, Place::Site(id) if (self.growth)(id, key) == Growth::Growing);
        let live: u64 = stats.groups.iter().map(|group| group.series.live()).sum();
        if self.services {
            return if growing() { say(Class::Leak, self.kept(stats, Disposition::Kept).0) } else { None };
        }
        let kept = stats.calls(Disposition::Kept);
        let image = evaluator.image(key);
        if image.is_some_and(|image| matches!(image.ended, Some((_, Ended::Signal(_))))) {
            // It had no chance to close anything.
            return match kept {
                0 => None,
                _ if growing() || is_spread(evaluator, key, stats) => say(Class::Leak, kept),
                _ => say(Class::Allowed, kept),
            };
        }
        if kept > most {
            let class = if is_steady(stats, live) { Class::Steady } else { Class::Leak };
            return say(class, kept);
        }
        let mapped = stats.mapped();
        if mapped > MANY_MAPPED {
            return Some(SiteVerdict {
                class: Class::Leak,
                number: mapped,
                disposition: Disposition::Nothing,
            });
        }
        if stats.closed_by_end.calls > 0 && stats.ended > most {
            let class = if growing() { Class::Leak } else { Class::Teardown };
            return Some(SiteVerdict {
                class,
                number: stats.calls(Disposition::Ended),
                disposition: Disposition::Ended,
            });
        }
        // What was inherited, or closed by an exec, is reported by the handle.
        if stats.groups.iter().any(|group| group.call.acquired) {
            return if kept > 0 { say(Class::Allowed, kept) } else { None };
        }
        let (execed, inherited) = (stats.calls(Disposition::Execed), stats.calls(Disposition::Inherited));
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
fn are_lines_hidden(evaluator: &Evaluator, place: Place, interpreters: &Interpreters) -> bool {
    matches!(place, Place::Site(id) if evaluator.site(id).is_some_and(|site| interpreters.hide_lines(site)))
}

/// How many calls lived until their program's end, by what is one site to a person.
fn count_ended(
    places: &mut BTreeMap<Place, BTreeMap<ImageKey, SiteStats<'_>>>,
    are_lines_hidden: impl Fn(Place) -> bool,
) {
    let scripts: Vec<Place> = places.keys().copied().filter(|place| are_lines_hidden(*place)).collect();
    let mut sums: HashMap<ImageKey, u64> = HashMap::new();
    for stats in places.values_mut().flat_map(BTreeMap::values_mut) {
        stats.ended = stats.calls(Disposition::Ended);
    }
    for (key, stats) in scripts.iter().flat_map(|place| &places[place]) {
        *sums.entry(*key).or_default() += if stats.closed_by_end.calls > 0 { stats.ended } else { 0 };
    }
    for place in &scripts {
        for (key, stats) in places.get_mut(place).into_iter().flatten() {
            stats.ended = sums[key];
        }
    }
}

fn disposition_of(class: Class) -> Disposition {
    match class {
        Class::Leak
        | Class::Steady
        | Class::GrowingWithPeers
        | Class::Loaded
        | Class::Allowed
        | Class::Suppressed => Disposition::Kept,
        Class::Teardown => Disposition::Ended,
        Class::Inherited => Disposition::Inherited,
        Class::Exec => Disposition::Execed,
        Class::Mapped => Disposition::Nothing,
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
fn is_steady(stats: &SiteStats<'_>, live: u64) -> bool {
    let closed: u64 = stats.groups.iter().map(|group| group.closed).sum();
    if closed == 0 || live > stats.highest(50) {
        return false;
    }
    let mut kept: Vec<u64> = stats.of(Disposition::Kept).map(|left| stats.calls_since(left)).collect();
    kept.sort_unstable();
    kept[kept.len() / 2] <= stats.usual_age().saturating_mul(OLDER)
}

/// Of a program that was killed, perhaps before anybody could look at it often enough: it made what it kept all its life long.
fn is_spread(evaluator: &Evaluator, key: ImageKey, stats: &SiteStats<'_>) -> bool {
    let end = evaluator.end_of(key);
    let ages = || stats.of(Disposition::Kept).map(|left| end.saturating_sub(left.generation));
    // From its first one on: to load a program may take longer than all that it does.
    let third = ages().max().unwrap_or(0) / 3;
    let made = |thirds: u64| ages().filter(|age| *age <= third * thirds).count();
    let (last, later, all) = (made(1), made(2), ages().count());
    all >= ENOUGH && [last, later - last, all - later].into_iter().all(|part| part >= all / 5)
}

fn disposition(evaluator: &Evaluator, maker: ImageKey, left: &LeftOpen) -> Disposition {
    let at = &left.held.at;
    if at.iter().any(|open| open.fd <= 2) {
        return Disposition::Nothing;
    }
    if left.at_exit().any(|open| takes_the_place(evaluator, open.image, maker)) {
        return Disposition::Kept;
    }
    if left.alive && matches!(left.held.descriptor, FdLookup::Found(_, fd) if fd > 2) {
        return Disposition::Kept;
    }
    if left.at_exit().next().is_some() {
        return Disposition::Inherited;
    }
    if at.iter().any(|open| open.moment == Moment::Exec && open.image == maker) {
        return Disposition::Execed;
    }
    Disposition::Nothing
}

/// The image itself; one that had the same table of descriptors; or one that was forked from it and has seen it replaced by
/// another program.
fn takes_the_place(evaluator: &Evaluator, image: ImageKey, maker: ImageKey) -> bool {
    evaluator.share_table(image, maker)
        || evaluator.image(maker).is_some_and(|maker| matches!(maker.ended, Some((_, Ended::Exec))))
            && evaluator.is_forked_from(image, maker)
}

fn kept_by(
    evaluator: &Evaluator,
    key: ImageKey,
    stats: &SiteStats<'_>,
    (calls, handles): (u64, u64),
) -> KeptBy {
    let image = evaluator.image(key);
    KeptBy {
        pid: key.tgid,
        comm: image.map(Image::name).unwrap_or_default(),
        exe: image.map(Image::program).unwrap_or_default(),
        calls,
        handles,
        allocated: stats.groups.iter().map(|group| group.made()).sum(),
        released: stats.groups.iter().map(|group| group.released).sum(),
        ended: image.and_then(|image| image.ended).map_or(Ended::Running, |(_, ended)| ended),
    }
}

/// Those that were described, oldest first.
fn examples(
    evaluator: &Evaluator,
    stats: &SiteStats<'_>,
    disposition: Disposition,
    key: ImageKey,
) -> Vec<Example> {
    let end = evaluator.end_of(key);
    let mut named: Vec<&LeftOpen> = stats.of(disposition).filter(|left| left.held.name.is_some()).collect();
    named.sort_by_key(|left| left.generation);
    named.into_iter().take(MAX_EXAMPLES).map(|left| example(left, key, end)).collect()
}

/// One handle as reports show it.
pub(super) fn example(left: &LeftOpen, maker: ImageKey, end: u64) -> Example {
    let seen = left.held.at.last().map(|open| (open.image.tgid, open.fd)).or(left.held.descriptor.found());
    Example {
        name: left.held.name.as_deref().unwrap_or_default().to_owned(),
        kind: left.held.kind,
        pid: seen.map_or(maker.tgid, |(pid, _)| pid),
        fd: seen.map(|(_, fd)| fd),
        hidden: false,
        age_ns: end.saturating_sub(left.generation),
    }
}

/// The handles that most of the kept descriptors repeat.
fn repeats(evaluator: &Evaluator, stats: &SiteStats<'_>, disposition: Disposition) -> Vec<Repeat> {
    let mut repeats: HashMap<u64, Repeat> = HashMap::new();
    for left in stats.of(disposition).filter(|left| left.of != 0) {
        let repeat = repeats.entry(left.of).or_insert_with(|| {
            let (kind, name) = evaluator.what_is(left.of);
            Repeat { name: name.as_deref().unwrap_or_default().to_owned(), kind, descriptors: 0 }
        });
        repeat.descriptors += 1;
        if let Some(name) = left.held.name.as_deref().filter(|_| repeat.name.is_empty()) {
            (repeat.name, repeat.kind) = (name.to_owned(), left.held.kind);
        }
    }
    most_repeated(repeats.into_values().collect())
}

fn kinds(stats: &SiteStats<'_>, disposition: Disposition) -> BTreeMap<Kind, u64> {
    let mut kinds = BTreeMap::new();
    for left in stats.of(disposition).filter(|left| left.held.name.is_some()) {
        *kinds.entry(left.held.kind).or_default() += 1;
    }
    kinds
}
