//! Scopes that the command announces, such as tests of one process: what was made in each, and what is left of it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    ops::RangeInclusive,
    sync::Arc,
};

use super::{
    assemble::{id, unknown},
    evaluate::{Evaluator, Group, Image, LeftOpen, Made},
    places::{Place, Places, place},
    rule::example,
};
use crate::{
    model::{
        Site,
        check::{Class, Finding, Findings, KeptInScope, ScopeFound, ScopeVerdict, Word},
    },
    stacks::place_of_site,
    stream::{Call, ImageKey},
    view,
};

/// What all scopes of a check may take, in bytes: who announces them is no friend.
const ROOM: usize = 128 << 20;
/// What a scope takes besides its name and its handles; and what a call site takes of which it kept something.
const EACH: usize = 256;
const EACH_SITE: usize = 2048;
/// The most scopes that one connection may have open at once.
const MAX_OPEN: usize = 64;
/// Handles that are named.
const MAX_EXAMPLES: usize = 8;

/// All scopes of a check.
pub struct Scopes {
    all: Vec<Scope>,
    /// The last scope of a name, by its connection.
    by_name: HashMap<(u64, String), usize>,
    /// How many have not ended, by connection.
    open: HashMap<u64, usize>,
    sites: Sites,
    room: usize,
}

/// One of them.
struct Scope {
    name: String,
    connection: u64,
    /// It is all that its process does.
    whole: bool,
    process: ImageKey,
    comm: String,
    begun: u64,
    ended: Option<u64>,
    /// What was open at its end, as far as there was room; and how much that was.
    made: Vec<Made>,
    at_end: u64,
    /// What was open when its runner had done.
    settled: Option<Vec<Kept>>,
    said: Option<Word>,
}

/// What a scope has kept of one call site.
#[derive(Clone, Debug)]
struct Kept {
    found: KeptInScope,
    place: Place,
    image: ImageKey,
}

impl ScopeFound {
    /// What it did, by what was found of the sites.
    pub(crate) fn evaluated(&self, sites: &[Finding]) -> ScopeVerdict {
        let leaks = |kept: &KeptInScope| {
            let mut found = sites.iter().filter(|finding| finding.class == Class::Leak);
            found.any(|finding| finding.site.id == kept.id)
        };
        match self.said {
            Some(Word::Fail) => ScopeVerdict::Leak,
            None if self.kept.iter().any(leaks) => ScopeVerdict::Leak,
            _ if self.kept.is_empty() => ScopeVerdict::Clean,
            _ => ScopeVerdict::Kept,
        }
    }
}

impl Findings {
    /// Gives each scope its verdict, by what was found of the sites.
    pub(crate) fn evaluate_scopes(&mut self) {
        for scope in &mut self.scopes {
            scope.verdict = scope.evaluated(&self.sites);
        }
    }
}

impl Default for Scopes {
    fn default() -> Self {
        let (by_name, open) = (HashMap::new(), HashMap::new());
        Self { all: Vec::new(), by_name, open, sites: Sites::default(), room: ROOM }
    }
}

impl Scopes {
    /// Nobody has announced any.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A scope begins; with `whole` it ends with its process.
    ///
    /// # Errors
    /// A sentence: its process is not followed, it is open already, or there are too many.
    pub fn begin(
        &mut self,
        evaluator: &Evaluator,
        (connection, pid): (u64, u32),
        (name, whole): (&str, bool),
        time: u64,
    ) -> Result<(), String> {
        let (process, comm) =
            evaluator.process(pid).ok_or_else(|| format!("process {pid} is none that the check follows"))?;
        if self.find(connection, name).is_ok_and(|index| self.all[index].ended.is_none()) {
            return Err("this scope has begun already".to_owned());
        }
        if self.open.get(&connection).is_some_and(|open| *open >= MAX_OPEN) {
            return Err(format!("there are {MAX_OPEN} scopes already that have not ended"));
        }
        self.take_room(EACH + 2 * name.len()).ok_or("there are too many scopes")?;
        *self.open.entry(connection).or_default() += 1;
        self.by_name.insert((connection, name.to_owned()), self.all.len());
        let (name, begun) = (name.to_owned(), time);
        self.all.push(Scope {
            name,
            connection,
            whole,
            process,
            comm,
            begun,
            ended: None,
            made: Vec::new(),
            at_end: 0,
            settled: None,
            said: None,
        });
        Ok(())
    }

    /// A scope has ended: what it has made and lives.
    ///
    /// # Errors
    /// A sentence: it has not begun, or it has ended before.
    pub fn end(
        &mut self,
        evaluator: &Evaluator,
        connection: u64,
        name: &str,
        time: u64,
    ) -> Result<usize, String> {
        let index = self.find(connection, name)?;
        let scope = &mut self.all[index];
        if scope.ended.is_some() {
            return Err("this scope has ended already".to_owned());
        }
        scope.ended = Some(time);
        scope.made = evaluator.made(scope.process, &(scope.begun..=time));
        if let Some(open) = self.open.get_mut(&connection) {
            *open -= 1;
        }
        Ok(index)
    }

    /// A scope that has ended.
    ///
    /// # Errors
    /// A sentence: there is none of this name, or it has not ended.
    pub fn ended(&self, connection: u64, name: &str) -> Result<usize, String> {
        let index = self.find(connection, name)?;
        self.all[index].ended.map(|_| index).ok_or_else(|| "this scope has not ended".to_owned())
    }

    /// The runner has decided.
    ///
    /// # Errors
    /// As for [`Self::ended`].
    pub fn say(&mut self, connection: u64, name: &str, word: Word) -> Result<(), String> {
        let index = self.ended(connection, name)?;
        self.all[index].said = Some(word);
        Ok(())
    }

    /// Those of a connection that have ended and of which something was open.
    #[must_use]
    pub fn of(&self, connection: u64) -> Vec<usize> {
        let is_its = |scope: &Scope| scope.connection == connection && scope.ended.is_some();
        (0..self.all.len()).filter(|index| is_its(&self.all[*index])).collect()
    }

    /// Whether nothing was made in some scopes that lives.
    #[must_use]
    pub fn made_nothing(&self, scopes: &[usize]) -> bool {
        scopes.iter().all(|index| self.all[*index].made.is_empty())
    }

    /// Handles of some scopes to be looked for, by address and generation: what makes none has its number.
    #[must_use]
    pub fn handles(&self, scopes: &[usize]) -> Vec<(u64, u64)> {
        let made = scopes.iter().flat_map(|index| &self.all[*index].made);
        let handles: HashSet<(u64, u64)> = made
            .filter(|made| !fdtrace_common::descriptor::is_key(made.handle))
            .map(|made| (made.handle, made.generation))
            .collect();
        handles.into_iter().collect()
    }

    /// At the end of a scope, when its handles have been looked for: what is open is remembered, as far as there is room.
    pub fn remember(&mut self, evaluator: &Evaluator, index: usize) -> Vec<KeptInScope> {
        let mut made = std::mem::take(&mut self.all[index].made);
        made.retain(|made| evaluator.open_now(made).is_some());
        self.all[index].at_end = made.len() as u64;
        made.truncate(self.room / size_of::<Made>());
        self.room -= made.len() * size_of::<Made>();
        made.shrink_to_fit();
        self.all[index].made = made;
        self.open(evaluator, index)
    }

    /// What is open now of what was open at a scope's end.
    pub fn open(&mut self, evaluator: &Evaluator, index: usize) -> Vec<KeptInScope> {
        found(self.open_by_site(evaluator, index))
    }

    fn open_by_site(&mut self, evaluator: &Evaluator, index: usize) -> Vec<Kept> {
        let made = &self.all[index].made;
        let open = made.iter().filter_map(|made| Some((made.group, evaluator.open_now(made)?)));
        self.sites.grouped(evaluator, open)
    }

    /// How many handles and duplicated descriptors were open at a scope's end.
    #[must_use]
    pub fn at_end(&self, index: usize) -> u64 {
        self.all[index].at_end
    }

    /// The runner has done: what is open of a scope now stays.
    pub fn settle(&mut self, evaluator: &Evaluator, index: usize) {
        let mut open = self.open_by_site(evaluator, index);
        open.truncate(self.room / EACH_SITE);
        self.room -= open.len() * EACH_SITE;
        self.all[index].settled = Some(open);
    }

    /// What is known of all in the end. What no runner has settled is what was open when its process ended.
    pub fn found(&mut self, evaluator: &Evaluator, start_ns: u64) -> Vec<ScopeFound> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let places = Places::of(evaluator);
        let mut all = Vec::with_capacity(self.all.len());
        for scope in &self.all {
            let mut kept = scope
                .settled
                .clone()
                .unwrap_or_else(|| self.sites.grouped(evaluator, scope.kept_by_the_process(evaluator)));
            if scope.settled.is_none() {
                kept.truncate(self.room / EACH_SITE);
                self.room -= kept.len() * EACH_SITE;
            }
            kept.iter_mut().for_each(|kept| kept.join(&places));
            all.push(scope.found(evaluator, kept, start_ns));
        }
        all
    }

    fn find(&self, connection: u64, name: &str) -> Result<usize, String> {
        let found = self.by_name.get(&(connection, name.to_owned())).copied();
        found.ok_or_else(|| "this scope has not begun".to_owned())
    }

    fn take_room(&mut self, bytes: usize) -> Option<()> {
        self.room = self.room.checked_sub(bytes)?;
        Some(())
    }
}

impl Scope {
    fn found(&self, evaluator: &Evaluator, kept: Vec<Kept>, start_ns: u64) -> ScopeFound {
        // Whoever announces a whole process may become another program then.
        let keeper = kept.first().filter(|_| self.whole).and_then(|kept| evaluator.image(kept.image));
        ScopeFound {
            name: self.name.clone(),
            pid: self.process.tgid,
            comm: keeper.map_or_else(|| self.comm.clone(), Image::name),
            whole: self.whole,
            begun_ns: self.begun.saturating_sub(start_ns),
            duration_ns: self.ended.map(|ended| ended.saturating_sub(self.begun)),
            at_end: self.at_end,
            kept: found(kept),
            verdict: ScopeVerdict::Kept,
            said: self.said,
        }
    }

    /// With the group that each is of.
    fn kept_by_the_process(&self, evaluator: &Evaluator) -> Vec<(usize, LeftOpen)> {
        let open = |made: &Made| {
            Some((made.group, evaluator.open_at_the_end(made).or_else(|| evaluator.open_now(made))?))
        };
        if self.ended.is_some() {
            return self.made.iter().filter_map(open).collect();
        }
        let time: RangeInclusive<u64> = self.begun..=u64::MAX;
        let alive = evaluator.made(self.process, &time);
        let left = evaluator.left(self.process, &time).map(|(group, left)| (group, left.clone()));
        left.chain(alive.iter().filter_map(open)).collect()
    }
}

impl Kept {
    fn add(&mut self, left: &LeftOpen, end: u64) {
        self.found.handles += 1;
        if self.found.examples.len() < MAX_EXAMPLES {
            self.found.examples.push(example(left, self.image, end));
        }
    }

    /// In the end it is known which sites are one.
    fn join(&mut self, places: &Places) {
        if let Place::Site(site) = self.place {
            self.place = places.of_site(self.image, site);
            self.found.id = id(self.place, &Call::default());
        }
    }
}

/// Call sites as reports have them; scopes share them.
#[derive(Default)]
struct Sites(HashMap<u64, Arc<Site>>);

impl Sites {
    /// What was kept, by call site, the site with the most calls first.
    fn grouped(
        &mut self,
        evaluator: &Evaluator,
        open: impl IntoIterator<Item = (usize, LeftOpen)>,
    ) -> Vec<Kept> {
        let mut kept: BTreeMap<Place, (Kept, HashSet<u64>)> = BTreeMap::new();
        for (group, left) in open {
            let group = evaluator.group_at(group);
            let (site, calls) = kept
                .entry(place(group))
                .or_insert_with(|| (self.nothing_of(evaluator, group), HashSet::new()));
            site.add(&left, evaluator.end_of(group.image));
            calls.insert(left.call);
        }
        let mut kept: Vec<Kept> = kept.into_values().map(counted).collect();
        kept.sort_by_key(|kept| (Reverse(kept.found.calls), kept.place));
        kept
    }

    fn nothing_of(&mut self, evaluator: &Evaluator, group: &Group) -> Kept {
        let place = place(group);
        let id = id(place, &group.call);
        let site = self.site(evaluator, place).unwrap_or_else(|| Arc::new(unknown(&id, &group.call)));
        Kept { found: KeptInScope::nothing(id, site), place, image: group.image }
    }

    fn site(&mut self, evaluator: &Evaluator, place: Place) -> Option<Arc<Site>> {
        let Place::Site(number) = place else { return None };
        if let Some(known) = self.0.get(&number) {
            return Some(Arc::clone(known));
        }
        let site = Arc::new(view::bare_site(evaluator.site(number)?));
        self.0.insert(number, Arc::clone(&site));
        Some(site)
    }
}

fn counted((mut kept, calls): (Kept, HashSet<u64>)) -> Kept {
    kept.found.calls = calls.len() as u64;
    kept
}

fn found(kept: Vec<Kept>) -> Vec<KeptInScope> {
    kept.into_iter().map(|kept| kept.found).collect()
}

impl KeptInScope {
    fn nothing(id: String, site: Arc<Site>) -> Self {
        let (origin, acquired, place) = (site.origin, site.acquired, place_of_site(&site));
        Self { id, origin, place, acquired, calls: 0, handles: 0, examples: Vec::new(), call_site: site }
    }

    /// So many handles of a site, for tests of the formats.
    #[cfg(test)]
    pub(crate) fn of(id: &str, mut site: Site, handles: u64) -> Self {
        let examples = std::mem::take(&mut site.examples);
        site.kinds.clear();
        Self { examples, calls: handles, handles, ..Self::nothing(id.to_owned(), Arc::new(site)) }
    }

    /// As a finding: a site that kept something.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let mut site = Site { id: self.id.clone(), ..(*self.call_site).clone() };
        self.examples.iter().for_each(|example| *site.kinds.entry(example.kind).or_default() += 1);
        site.examples.clone_from(&self.examples);
        Finding {
            baseline: None,
            because: None,
            class: Class::Leak,
            suppressed_by: None,
            class_before: Class::Leak,
            leaked: self.calls,
            handles: self.handles,
            closed_by_end: 0,
            images: Vec::new(),
            images_in_all: 0,
            site,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Alloc, Described, Event, Fact, FdLookup, Leaving, Moment, Open, Release};

    /// The process that announces, and one that is none of ours.
    const RUNNER: u32 = 5;
    const BY: (u64, u32) = (1, RUNNER);

    fn alloc(handle: u64, generation: u64, tgid: u32) -> Event {
        let call = Call { user_stack: handle, ..Call::default() };
        Event::Alloc(Alloc { handle, generation, tgid, tid: tgid, call })
    }

    fn fork(parent: u32, child: u32, time: u64) -> Event {
        Event::Fork { time, parent, child, shares: false, comm: Default::default() }
    }

    fn seen(handle: u64, generation: u64, descriptor: FdLookup) -> Event {
        let (kind, name) = (crate::model::Kind::Regular, Some("f".into()));
        Event::Fact(Box::new(Fact::Described(Described { handle, generation, kind, name, descriptor })))
    }

    fn gone(handle: u64, generation: u64, time: u64) -> Event {
        let (cause, never_opened, unaccounted) = (crate::stream::Cause::Close, false, false);
        Event::Release(Release { handle, generation, time, tgid: RUNNER, cause, never_opened, unaccounted })
    }

    fn evaluator(events: &[Event]) -> Evaluator {
        let mut evaluator = Evaluator::default();
        events.iter().for_each(|event| evaluator.apply(event));
        evaluator
    }

    fn handles(kept: &[KeptInScope]) -> u64 {
        kept.iter().map(|kept| kept.handles).sum()
    }

    fn ended(scopes: &mut Scopes, evaluator: &Evaluator, name: &str, time: u64) -> u64 {
        let index = scopes.end(evaluator, BY.0, name, time).expect("it has begun");
        handles(&scopes.remember(evaluator, index))
    }

    #[test]
    fn what_the_process_and_its_children_made_meanwhile_counts() {
        let before = [alloc(8, 10, RUNNER), fork(RUNNER, 6, 11), fork(6, 7, 12), fork(1, 9, 13)];
        let mut evaluator = evaluator(&before);
        let mut scopes = Scopes::default();
        scopes.begin(&evaluator, BY, ("t", false), 20).expect("it is followed");
        let made = [alloc(16, 21, RUNNER), alloc(24, 22, 7), alloc(32, 23, 9), alloc(40, 31, RUNNER)];
        made.iter().for_each(|event| evaluator.apply(event));
        assert_eq!(
            ended(&mut scopes, &evaluator, "t", 30),
            2,
            "neither what is older, nor a stranger's, nor what came later"
        );
    }

    #[test]
    fn what_has_no_descriptor_is_not_open() {
        let mut evaluator = evaluator(&[alloc(8, 1, RUNNER)]);
        let mut scopes = Scopes::default();
        scopes.begin(&evaluator, BY, ("t", false), 20).expect("it is followed");
        for (handle, found) in
            [(16, FdLookup::Nothing), (24, FdLookup::Found(RUNNER, 9)), (32, FdLookup::Found(RUNNER, 2))]
        {
            evaluator.apply(&alloc(handle, 21, RUNNER));
            evaluator.apply(&seen(handle, 21, found));
        }
        assert_eq!(ended(&mut scopes, &evaluator, "t", 30), 1, "mapped, open, and a standard stream");
    }

    #[test]
    fn what_is_closed_before_the_runner_has_done_is_not_kept() {
        let mut evaluator = evaluator(&[alloc(8, 1, RUNNER)]);
        let mut scopes = Scopes::default();
        scopes.begin(&evaluator, BY, ("t", false), 20).expect("it is followed");
        [alloc(16, 21, RUNNER), alloc(24, 22, RUNNER)].iter().for_each(|event| evaluator.apply(event));
        assert_eq!(ended(&mut scopes, &evaluator, "t", 30), 2);
        evaluator.apply(&gone(16, 21, 40));
        scopes.of(BY.0).into_iter().for_each(|index| scopes.settle(&evaluator, index));
        evaluator.apply(&gone(24, 22, 50));
        let found = scopes.found(&evaluator, 0);
        assert_eq!(
            (found[0].at_end, handles(&found[0].kept)),
            (2, 1),
            "what its runtime closes at last was kept"
        );
    }

    #[test]
    fn who_says_nothing_more_is_evaluated_by_its_end() {
        let mut evaluator = evaluator(&[alloc(8, 1, RUNNER)]);
        let mut scopes = Scopes::default();
        scopes.begin(&evaluator, BY, ("ends", false), 20).expect("it is followed");
        evaluator.apply(&alloc(16, 21, RUNNER));
        assert_eq!(ended(&mut scopes, &evaluator, "ends", 30), 1);
        scopes.begin(&evaluator, BY, ("never", false), 31).expect("another");
        evaluator.apply(&alloc(24, 32, RUNNER));
        for (handle, generation) in [(16, 21), (24, 32)] {
            evaluator.apply(&Event::Open(Open {
                handle,
                generation,
                tgid: RUNNER,
                fd: 7,
                moment: Moment::Exit,
                socket_state: 0,
                deleted: false,
                time: 40,
                close_on_exec: false,
                waiting: 0,
                of_thread: None,
            }));
        }
        evaluator.apply(&Event::Exit { time: 40, tgid: RUNNER, how: Leaving::default() });
        evaluator.apply(&gone(16, 21, 41));
        evaluator.apply(&gone(24, 32, 41));
        let found = scopes.found(&evaluator, 0);
        let kept: Vec<_> = found.iter().map(|scope| (scope.duration_ns, handles(&scope.kept))).collect();
        assert_eq!(kept, [(Some(10), 1), (None, 1)]);
    }

    #[test]
    fn who_breaks_the_rules_is_told() {
        let evaluator = evaluator(&[alloc(8, 1, RUNNER)]);
        let mut scopes = Scopes::default();
        assert!(scopes.begin(&evaluator, (1, 77), ("t", false), 2).is_err(), "nobody follows it");
        assert!(scopes.end(&evaluator, 1, "t", 2).is_err(), "it has not begun");
        scopes.begin(&evaluator, BY, ("t", false), 3).expect("it is followed");
        assert!(scopes.begin(&evaluator, BY, ("t", false), 4).is_err(), "it is open");
        assert!(scopes.say(1, "t", Word::Fail).is_err(), "it is open");
        assert!(scopes.end(&evaluator, 2, "t", 4).is_err(), "it is another connection's");
        scopes.end(&evaluator, 1, "t", 5).expect("it is open");
        assert!(scopes.end(&evaluator, 1, "t", 6).is_err(), "it has ended");
        scopes.begin(&evaluator, BY, ("t", false), 7).expect("once more");
    }

    #[test]
    fn nobody_takes_all_memory() {
        let evaluator = evaluator(&[alloc(8, 1, RUNNER)]);
        let mut scopes = Scopes::default();
        let open =
            (0..1000).filter(|n| scopes.begin(&evaluator, BY, (&n.to_string(), false), 2).is_ok()).count();
        assert_eq!(open, MAX_OPEN);
        scopes.room = EACH * 10;
        let name = |n: u32| format!("{n:04}");
        let begun = (0..100)
            .filter(|n| scopes.begin(&evaluator, (2 + u64::from(*n), RUNNER), (&name(*n), false), 2).is_ok());
        assert_eq!(begun.count(), EACH * 10 / (EACH + 8));
    }
}
