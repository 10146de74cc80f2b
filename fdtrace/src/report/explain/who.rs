//! Who holds handles: sums by process, and where no process has most of them by name, program, cgroup and user.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use crate::{
    model::explain::{Document, ProcessLine, SharerLine},
    text::fmt::{number, process},
};

/// Processes that are named one by one.
const NAMED: usize = 3;
/// Who has less than one of so many is not named.
const NOTHING: u64 = 100;

/// Handles of one sort, and how many of them each process has: what two share counts for both.
pub(super) struct Lot<'a> {
    pub(super) count: u64,
    pub(super) processes: &'a [SharerLine],
}

/// Who holds some lots together.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// How many handles there are in the lots.
    count: u64,
    /// Processes, most handles first.
    members: Vec<SharerLine>,
    /// What most of them have in common, where none of them stands out.
    party: Option<ProcessGroup>,
}

/// Processes that have something in common.
#[derive(Debug)]
struct ProcessGroup {
    /// As it follows a number of processes: `called worker-*`, `of user 1000`.
    name: String,
    count: u64,
    members: Vec<SharerLine>,
}

/// The processes of a document by their ids.
pub(super) struct Register<'a>(HashMap<u32, &'a ProcessLine>);

/// What processes may have in common.
#[derive(Clone, Copy)]
enum By {
    Name,
    Program,
    Cgroup,
    User,
}

impl By {
    const ALL: [Self; 4] = [Self::Name, Self::Program, Self::Cgroup, Self::User];

    /// What makes a process one of a party, if anything does.
    fn key(self, of: &SharerLine, line: Option<&ProcessLine>) -> Option<String> {
        let key = match self {
            Self::Name => pattern(&of.comm),
            Self::Program => line?.exe.clone(),
            Self::Cgroup => line?.cgroup.trim_end_matches('/').to_owned(),
            // That they are root's says nothing of them.
            Self::User => line?.user.filter(|user| *user != 0)?.to_string(),
        };
        (!key.is_empty()).then_some(key)
    }

    fn words(self, key: &str, members: &[SharerLine]) -> String {
        match self {
            Self::Name if members.iter().all(|member| member.comm == members[0].comm) => {
                format!("called {}", members[0].comm)
            }
            Self::Name => format!("called {key}"),
            Self::Program => format!("of {key}"),
            Self::Cgroup => format!("of the cgroup {key}"),
            Self::User => format!("of user {key}"),
        }
    }
}

/// A name without its numbers: `worker-*` for `worker-17`.
fn pattern(comm: &str) -> String {
    let mut pattern = String::new();
    for character in comm.chars() {
        if !character.is_ascii_digit() {
            pattern.push(character);
        } else if !pattern.ends_with('*') {
            pattern.push('*');
        }
    }
    pattern
}

impl<'a> Register<'a> {
    pub(super) fn of(document: &'a Document) -> Self {
        Self(document.processes.iter().map(|process| (process.pid, process)).collect())
    }

    pub(super) fn get(&self, pid: u32) -> Option<&'a ProcessLine> {
        self.0.get(&pid).copied()
    }

    /// Sums some lots.
    pub(super) fn holders(&self, lots: &[Lot<'_>]) -> Holders {
        let mut comms: BTreeMap<u32, &str> = BTreeMap::new();
        for process in lots.iter().flat_map(|lot| lot.processes) {
            comms.insert(process.pid, &process.comm);
        }
        let sharer = |pid, count| SharerLine { pid, comm: comms[&pid].to_owned(), count };
        let sums = sums(lots, |process| Some(process.pid));
        let mut members: Vec<SharerLine> = sums.into_iter().map(|(pid, count)| sharer(pid, count)).collect();
        members.sort_by_key(|process| (Reverse(process.count), process.pid));
        let count = lots.iter().map(|lot| lot.count).sum();
        let party = By::ALL.into_iter().find_map(|by| self.party(by, lots, count, &members));
        Holders { count, party, members }
    }

    /// The party that has at least half of the handles, unless one process has most of what the party has.
    fn party(&self, by: By, lots: &[Lot<'_>], count: u64, members: &[SharerLine]) -> Option<ProcessGroup> {
        let key = |process: &SharerLine| by.key(process, self.get(process.pid));
        let (first, sum) = sums(lots, key).into_iter().max_by_key(|(_, sum)| *sum)?;
        let members: Vec<SharerLine> =
            members.iter().filter(|member| key(member).as_ref() == Some(&first)).cloned().collect();
        let stands_out = members.first()?.count > 2 * members.get(NAMED)?.count.max(1);
        (sum * 2 >= count && !stands_out).then(|| ProcessGroup {
            name: by.words(&first, &members),
            count: sum,
            members,
        })
    }
}

/// How many handles of all lots each party has; no party has more of a lot than there are in it.
fn sums<K: Ord + std::hash::Hash + Clone>(
    lots: &[Lot<'_>],
    key: impl Fn(&SharerLine) -> Option<K>,
) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    let mut of_lot: HashMap<K, u64> = HashMap::new();
    for lot in lots {
        for process in lot.processes {
            if let Some(key) = key(process) {
                *of_lot.entry(key).or_default() += process.count;
            }
        }
        for (key, count) in of_lot.drain() {
            *sums.entry(key).or_default() += count.min(lot.count);
        }
    }
    sums
}

impl Holders {
    /// The process that has most, and is still there.
    pub(super) fn first(&self) -> Option<&SharerLine> {
        let named = self.party.as_ref().map_or(&self.members, |party| &party.members);
        named.iter().find(|process| !process.comm.is_empty())
    }

    /// How many handles the process or party that is named first has.
    pub(super) fn most(&self) -> u64 {
        self.party
            .as_ref()
            .map(|party| party.count)
            .or(self.members.first().map(|first| first.count))
            .unwrap_or(0)
    }

    /// How many handles there are.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Whether one process is all that is named.
    pub(super) const fn is_one(&self) -> bool {
        self.members.len() == 1
    }

    /// Whether many processes that have something in common are what is named.
    pub(super) const fn is_party(&self) -> bool {
        self.party.is_some()
    }

    /// `app (7)`, `app (7) 900, helper (8) 60 and 3 others`, `20 processes called worker (worker (7) 300, ...)`
    pub(super) fn words(&self) -> String {
        if let Some(party) = &self.party {
            return self.party_words(party);
        }
        let (left, gone): (Vec<&SharerLine>, Vec<&SharerLine>) =
            self.members.iter().partition(|process| !process.comm.is_empty());
        let counts = left.len() + gone.len() > 1;
        let mut words = named(left.iter().copied(), self.count, counts);
        let others = left.len() - words.len();
        words.extend(others_words(others));
        match gone.as_slice() {
            [] => {}
            [one] => words.push(format!("process {}, which is gone", one.pid)),
            gone => words.push(format!("{} processes that are gone", number(gone.len() as u64))),
        }
        listed(&words)
    }

    fn party_words(&self, party: &ProcessGroup) -> String {
        let some = named(party.members.iter(), party.count, true);
        let count = number(party.members.len() as u64);
        let words =
            format!("{count} processes {}, such as {}", party.name, listed(&some[..some.len().min(2)]));
        let inside: HashSet<u32> = party.members.iter().map(|member| member.pid).collect();
        let is_worth =
            |member: &&SharerLine| !inside.contains(&member.pid) && member.count * NOTHING >= self.count;
        match self.members.iter().filter(is_worth).count() {
            0 => words,
            others => format!("{words}, beside {}", others_words(others).unwrap_or_default()),
        }
    }
}

fn others_words(others: usize) -> Option<String> {
    match others {
        0 => None,
        1 => Some("1 other".to_owned()),
        others => Some(format!("{} others", number(others as u64))),
    }
}

/// The first processes, as far as they have something worth to be named.
fn named<'a>(processes: impl Iterator<Item = &'a SharerLine>, of: u64, counts: bool) -> Vec<String> {
    let words = |(place, member): (usize, &SharerLine)| {
        let name = process(&member.comm, member.pid);
        let worth = place == 0 || member.count * NOTHING >= of;
        worth.then(|| if counts { format!("{name} {}", number(member.count)) } else { name })
    };
    processes.take(NAMED).enumerate().map_while(words).collect()
}

/// `a`, `a and b`, `a, b and c`
pub(super) fn listed(words: &[String]) -> String {
    match words.split_last() {
        None => "nobody that is left".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharers(of: &[(u32, &str, u64)]) -> Vec<SharerLine> {
        of.iter()
            .map(|(pid, comm, count)| SharerLine { pid: *pid, comm: (*comm).to_owned(), count: *count })
            .collect()
    }

    fn words(document: &Document, processes: &[SharerLine]) -> String {
        let count = processes.iter().map(|process| process.count).sum();
        Register::of(document).holders(&[Lot { count, processes }]).words()
    }

    fn workers(name: impl Fn(u32) -> String) -> Vec<SharerLine> {
        (1..21).map(|pid| SharerLine { pid, comm: name(pid), count: 300 }).collect()
    }

    #[test]
    fn few_processes_are_named() {
        let document = Document::default();
        assert_eq!(words(&document, &sharers(&[(7, "app", 9)])), "app (7)");
        assert_eq!(
            words(&document, &sharers(&[(7, "app", 900), (8, "db", 60)])),
            "app (7) 900 and db (8) 60"
        );
        let some = sharers(&[(1, "a", 900), (2, "b", 60), (3, "c", 1), (4, "d", 1), (5, "", 1)]);
        assert_eq!(words(&document, &some), "a (1) 900, b (2) 60, 2 others and process 5, which is gone");
    }

    #[test]
    fn many_processes_by_what_they_have_in_common() {
        let mut document = Document::default();
        let beginning = "20 processes called worker, such as worker (1) 300 and worker (2) 300";
        assert_eq!(words(&document, &workers(|_| "worker".to_owned())), beginning);
        let numbered = words(&document, &workers(|pid| format!("worker-{pid}")));
        assert!(numbered.starts_with("20 processes called worker-*, such as worker-1 (1) 300"), "{numbered}");
        let letter = |pid: u32| char::from_u32('a' as u32 + pid).map(String::from).unwrap_or_default();
        let line = |pid| ProcessLine { pid, exe: "/opt/app".to_owned(), ..ProcessLine::default() };
        document.processes = (1..21).map(line).collect();
        let program = words(&document, &workers(letter));
        assert!(program.starts_with("20 processes of /opt/app, such as b (1) 300"), "{program}");
        for process in &mut document.processes {
            process.exe = process.pid.to_string();
            process.user = Some(1000);
            process.cgroup = "/".to_owned();
        }
        let user = words(&document, &workers(letter));
        assert!(user.starts_with("20 processes of user 1000, such as"), "{user}");
    }

    #[test]
    fn one_process_that_stands_out_of_its_like() {
        let mut some = workers(|_| "worker".to_owned());
        some[4].count = 90_000;
        let text = words(&Document::default(), &some);
        assert_eq!(text, "worker (5) 90,000 and 19 others");
    }

    #[test]
    fn what_a_family_shares_counts_once() {
        let processes = workers(|_| "worker".to_owned());
        let holders =
            Register::of(&Document::default()).holders(&[Lot { count: 300, processes: &processes }]);
        assert_eq!(holders.most(), 300);
        assert!(holders.words().starts_with("20 processes called worker"), "{}", holders.words());
    }
}
