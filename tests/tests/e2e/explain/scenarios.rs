//! Whom the last sentence names: each scenario has a culprit, and who reads nothing but that sentence goes there.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::unseen_holders,
    harness::{BlockedReads, Workload, explain_text, kernel_release, possible, say, turn},
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Processes that make handles, and what is to be said of them.
struct Scenario<'a> {
    /// How many processes.
    workers: usize,
    /// What each does.
    steps: &'a [&'a str],
    /// Words that the sentence has.
    words: &'a [&'a str],
    /// Words that it has not.
    without: &'a [&'a str],
}

/// What holds handles where no descriptor does, by the step that makes it.
const HOLDERS: [(&str, &str); 5] = [
    ("mapped", "mapping"),
    ("shared-anonymous", "mapping"),
    ("shm-attach", "shm_attach"),
    ("scm", "scm_rights"),
    ("io-uring", "io_uring"),
];

/// Whether this kernel does not show what a step makes: then nobody can be named.
fn is_unseen(step: &str) -> Result<bool> {
    let unseen = unseen_holders(&kernel_release())?;
    Ok(HOLDERS.iter().any(|(name, holder)| step.starts_with(name) && unseen.contains_key(*holder)))
}

impl Scenario<'_> {
    /// Starts the processes; `None` where that is known not to be possible.
    fn start(&self) -> Result<Option<Vec<Workload>>> {
        let name = self.steps[0].split('=').next().unwrap_or_default();
        if is_unseen(name)? {
            say(&format!("{name} is not seen on this kernel"));
            return Ok(None);
        }
        let started = (0..self.workers).map(|_| Workload::start(self.steps.iter().copied())).collect();
        let Some(mut workers) = possible::<Vec<Workload>>(name, started)? else { return Ok(None) };
        workers.iter_mut().try_for_each(|worker| worker.go().map(drop))?;
        Ok(Some(workers))
    }

    fn check(&self) -> Result<()> {
        let _turn = turn();
        let Some(workers) = self.start()? else { return Ok(()) };
        self.names(&workers, &explain_text([])?)
    }

    /// The sentence has the words, and the number of one of the processes, or of a child of theirs.
    fn names(&self, workers: &[Workload], text: &str) -> Result<()> {
        let last = sentence(text);
        for word in self.words {
            ensure!(last.contains(word), "{:?}: {word:?} is not said: {last}\n\n{text}", self.steps);
        }
        for word in self.without {
            ensure!(!last.contains(word), "{:?}: {word:?} is said: {last}\n\n{text}", self.steps);
        }
        let named = workers.iter().map(Workload::pid).any(|pid| names(&last, pid));
        ensure!(named, "{:?}: nobody of {} is named: {last}\n\n{text}", self.steps, workers[0].pid());
        Ok(())
    }
}

/// Whether a process is named, or one whose parent it is.
fn names(sentence: &str, pid: u32) -> bool {
    let numbers = sentence.split(|character: char| !character.is_ascii_digit());
    numbers.filter_map(|word| word.parse().ok()).any(|word: u32| word == pid || parent(word) == Some(pid))
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// What stands below the tables, in one line.
pub(super) fn sentence(text: &str) -> String {
    let below =
        text.trim_end().lines().rev().take_while(|line| !line.starts_with([' ', '!']) && !line.is_empty());
    let mut lines: Vec<&str> = below.collect();
    lines.reverse();
    lines.join(" ")
}

macro_rules! scenarios {
    ($($test:ident: $workers:literal $steps:expr, $words:expr;)*) => {
        $(
            #[test]
            fn $test() -> Result<()> {
                Scenario { workers: $workers, steps: &$steps, words: &$words, without: &[] }.check()
            }
        )*
    };
}

scenarios! {
    attaches_of_one: 1 ["shm-attach=3000"], ["3,000 of", "shmat without shmdt"];
    attaches_of_two_that_share_a_segment: 1 ["shm-both=2000"], ["4,000 of", "shmat without shmdt"];
    mappings_of_one: 1 ["mapped=3000"], ["only mapped", "mmap without munmap"];
    mappings_of_twenty: 20 ["mapped=200"], ["only mapped", "20 processes called workload"];
    mappings_that_a_fork_copied: 1 ["mapped-shared=2000"], ["only mapped", "mmap without munmap"];
    mappings_of_code: 1 ["mapped-code=2000"], ["only mapped", "mmap without munmap"];
    mappings_of_code_in_memory: 1 ["mapped-memfd-code=2000"], ["only mapped", "memfd"];
    mappings_of_deleted_code: 1 ["mapped-deleted-code=2000"], ["only mapped", "mmap without munmap"];
    shared_anonymous_memory: 1 ["shared-anonymous=2000"], ["only mapped", "shared anonymous memory"];
    segments: 1 ["shm-segments=1000"], ["SysV segments", "ipcrm"];
    in_flight_of_one: 1 ["scm-rights=2000"], ["2,000 of", "in flight", "ss -xp"];
    in_flight_of_ten: 10 ["scm-rights=253"], ["2,530 of", "in flight", "10 processes called workload"];
    in_flight_in_sockets_in_flight: 1 ["scm-nested=2000"], ["in flight"];
    in_flight_to_a_listener: 1 ["scm-embryo=1200"], ["in flight"];
    registered_with_a_ring: 1 ["io-uring-files=2000"], ["2,000 of", "io_uring"];
    files_of_one: 1 ["kept=3000"], ["ordinary descriptors of workload", "fdtrace live -p"];
    files_of_twenty: 20 ["kept=200"], ["ordinary descriptors of 20 processes called workload"];
    some_of_many_files: 1 ["leaky=30000"], ["ordinary descriptors of workload"];
    directories: 1 ["directories=3000"], ["ordinary descriptors of workload"];
    devices: 1 ["char-devices=3000"], ["ordinary descriptors of workload"];
    deleted_files: 1 ["deleted=1500"], ["ordinary descriptors of workload"];
    places: 1 ["paths=3000"], ["ordinary descriptors of workload"];
    memory_files_of_twenty: 20 ["memfd=200"], ["ordinary descriptors of 20 processes called workload"];
    pipes: 1 ["pipes=1000"], ["ordinary descriptors of workload"];
    sockets: 1 ["unix=3000"], ["ordinary descriptors of workload"];
    pairs_of_sockets: 1 ["socketpairs=1500"], ["ordinary descriptors of workload"];
    connections: 1 ["tcp-connections=1000"], ["ordinary descriptors of workload"];
    connections_that_nobody_closes: 1 ["close-wait=1500"], ["ordinary descriptors of workload"];
    eventfds: 1 ["eventfd=3000"], ["ordinary descriptors of workload"];
    epoll_instances: 1 ["epoll=2000"], ["ordinary descriptors of workload"];
    timers: 1 ["timerfd=3000"], ["ordinary descriptors of workload"];
    a_thread_with_a_table_of_its_own: 1 ["private-tables=3000"], ["ordinary descriptors of workload"];
    a_dead_main_thread: 1 ["main-exited=3000"], ["3,000 of", "lsof cannot see"];
    mapped_and_open: 1 ["mapped-open=3000"], ["ordinary descriptors of workload"];
    one_file_with_many_descriptors: 1 ["dups=8000"], ["dup and fork make no handle", "those of workload"];
}

/// The incident that this project began with: many workers, none of which has a tenth of the attaches, and descriptors that
/// repeat each other.
#[test]
fn the_incident() -> Result<()> {
    let steps = ["shm-attach=300", "dups=18"];
    let words =
        ["6,000 of", "are attaches of 20 segments", "20 processes called workload", "shmat without shmdt"];
    Scenario { workers: 20, steps: &steps, words: &words, without: &["dup and fork", "stands out"] }.check()
}

/// Handles that no walk finds come first when they are most, with their number.
#[test]
fn what_nobody_holds() -> Result<()> {
    let _turn = turn();
    let number = |text: &str| {
        let (count, _) = text.split_once(" handles were not found").with_context(|| text.to_owned())?;
        let digits = count.rsplit(' ').next().unwrap_or_default().replace(',', "");
        digits.parse::<u64>().with_context(|| text.to_owned())
    };
    let _blocked = BlockedReads::new(1000)?;
    let text = explain_text([])?;
    let last = sentence(&text);
    ensure!(number(&last)? >= 900, "{last}\n\n{text}");
    Ok(())
}

/// Two leaks in one machine: both are reported, the larger one first.
#[test]
fn two_leaks() -> Result<()> {
    let _turn = turn();
    let scenario = |steps, words| Scenario { workers: 1, steps, words, without: &[] };
    let attaches = scenario(&["shm-attach=3000"], &["3,000 of", "shmat"]);
    let files = scenario(&["kept=5000"], &["ordinary descriptors"]);
    let (Some(one), Some(other)) = (attaches.start()?, files.start()?) else { return Ok(()) };
    let text = explain_text([])?;
    attaches.names(&one, &text)?;
    files.names(&other, &text)?;
    let last = sentence(&text);
    ensure!(
        last.find("ordinary descriptors") < last.find("shmat"),
        "the larger one is not the first: {last}"
    );
    Ok(())
}

/// Processes that have used so many percent of their descriptors.
fn near_their_limits(workers: usize, percent: u64) -> Result<(Vec<Workload>, String)> {
    let scenario = Scenario { workers, steps: &["kept=150"], words: &[], without: &[] };
    let workers = scenario.start()?.context("it is not expected to be refused")?;
    for worker in &workers {
        let pid = Pid::from_raw(worker.pid().cast_signed()).context("a process")?;
        let used = std::fs::read_dir(format!("/proc/{}/fd", worker.pid()))?.count() as u64;
        let limit = Some(used * 100 / percent);
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    }
    let last = sentence(&explain_text([])?);
    Ok((workers, last))
}

#[test]
fn limits_that_are_reached() -> Result<()> {
    let _turn = turn();
    let (workers, last) = near_their_limits(1, 100)?;
    ensure!(last.contains(&format!("workload ({}) has used all", workers[0].pid())), "{last}");
    ensure!(last.contains("EMFILE now") && !last.contains("EMFILE is near"), "{last}");
    drop(workers);
    let (_workers, last) = near_their_limits(5, 100)?;
    ensure!(last.contains("5 processes have used all of their descriptors"), "{last}");
    ensure!(last.contains("EMFILE now") && last.contains("and 2 others"), "{last}");
    Ok(())
}

#[test]
fn limits_that_are_near() -> Result<()> {
    let _turn = turn();
    let (workers, last) = near_their_limits(1, 90)?;
    ensure!(names(&last, workers[0].pid()) && last.contains("EMFILE is near"), "{last}");
    Ok(())
}
