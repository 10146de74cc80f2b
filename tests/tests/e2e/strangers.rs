//! Programs whose files are made up: the tracer, which is root, neither grows nor waits for them, and names the others.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    harness::{Document, Killed, NOBODY, Scratch, Tracer, fdtrace, finish, say, turn},
    hostile::{self, Hostile},
};
use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What all processes of a tracer may take more than before.
const MAX_MEMORY: u64 = 200 << 20;
/// In which somebody else's program is named, also on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// What the processes of a tracer take together, as often as anybody can look.
struct Memory {
    ended: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    looking: JoinHandle<()>,
}

impl Memory {
    /// Of a process and all that it started.
    fn of(pid: u32) -> Self {
        Self::by(move || resident(pid))
    }

    /// Of all that this process started.
    fn of_children() -> Self {
        Self::by(|| children(Path::new("/proc/self")).into_iter().map(resident).sum())
    }

    fn by(look: impl Fn() -> u64 + Send + 'static) -> Self {
        let (ended, highest) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (until, found) = (Arc::clone(&ended), Arc::clone(&highest));
        let looking = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                found.fetch_max(look(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { ended, highest, looking }
    }

    /// The highest since the last time that this was asked.
    fn take(&self) -> u64 {
        self.highest.swap(0, Ordering::Relaxed)
    }

    fn end(self) -> Result<u64> {
        self.ended.store(true, Ordering::Relaxed);
        self.looking.join().ok().context("it could not be read")?;
        Ok(self.highest.load(Ordering::Relaxed))
    }
}

/// Bytes of a process and its descendants that are in memory. What several of them share is counted once: a process that was
/// just forked has nothing of its own. One that this test has made and that is not yet the tracer has this test's memory.
fn resident(pid: u32) -> u64 {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let program = |folder: &Path| fs::read_link(folder.join("exe")).ok();
    if program(&folder) == program(Path::new("/proc/self")) {
        return 0;
    }
    let sums = fs::read_to_string(folder.join("smaps_rollup")).unwrap_or_default();
    let line = sums.lines().find_map(|line| line.strip_prefix("Pss:"));
    let own =
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10;
    own + children(&folder).into_iter().map(resident).sum::<u64>()
}

fn children(process: &Path) -> Vec<u32> {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let texts = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    texts
        .flat_map(|text| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn run(program: &Path) -> Result<Killed> {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Killed(command.spawn().with_context(|| format!("cannot run {}", program.display()))?))
}

fn names(document: &Document, function: &str) -> bool {
    let mut frames = document.sites.iter().flat_map(|site| &site.user_stack);
    frames.any(|frame| frame.symbol.as_deref() == Some(function))
}

/// A tracer of all that `nobody` runs, and what it takes at most.
struct Watched {
    scratch: Scratch,
    tracer: Tracer,
    before: u64,
    memory: Memory,
    number: u32,
    slowest: Duration,
    /// The most that they took, and which program made them.
    highest: (u64, String),
}

impl Watched {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        hostile::lay_traps(scratch.path())?;
        let tracer = Tracer::start(["--uid", "65534"])?;
        // It has read what it reads of a usual program.
        let (before, memory) = (resident(tracer.pid()), Memory::of(tracer.pid()));
        let highest = (0, String::new());
        Ok(Self { scratch, tracer, before, memory, number: 0, slowest: Duration::ZERO, highest })
    }

    /// Runs a program, and beside it one of somebody else, which is named all the same.
    fn try_with(
        &mut self,
        name: &str,
        program: &Hostile,
        lay: impl FnOnce(&Killed) -> Result<()>,
    ) -> Result<()> {
        self.number += 1;
        let file = |what: &str| self.scratch.path().join(format!("{what}-{}", self.number));
        let function = format!("honest_{}", self.number);
        let (stranger, honest) = (file("stranger"), file("honest"));
        program.write(&stranger)?;
        hostile::honest(&function).write(&honest)?;
        let running = run(&stranger).with_context(|| name.to_owned())?;
        lay(&running)?;
        let begun = Instant::now();
        let _honest = run(&honest)?;
        let document = self.tracer.wait_for(SOON, |document| names(document, &function))?;
        ensure!(names(&document, &function), "beside {name}, {function} has no name within {SOON:?}");
        self.slowest = self.slowest.max(begun.elapsed());
        let taken = (self.memory.take(), name.to_owned());
        self.highest = taken.max(std::mem::take(&mut self.highest));
        fs::remove_file(&stranger)?;
        Ok(())
    }

    fn end(self, what: &str) -> Result<()> {
        let (highest, by) = self.highest.max((self.memory.end()?, "the end".to_owned()));
        let grown = highest.saturating_sub(self.before);
        let ended = self.tracer.interrupt()?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        say(&format!(
            "{what}: {} programs; others were named within {:?}; the tracer grew by {} MB at most ({by})",
            self.number,
            self.slowest,
            grown >> 20
        ));
        ensure!(grown <= MAX_MEMORY, "it grew by {} MB: {by}", grown >> 20);
        let control = |character: char| character.is_control() && character != '\n';
        ensure!(!ended.stderr.contains(control), "{:?}", ended.stderr);
        Ok(())
    }
}

#[test]
fn programs_whose_files_are_made_up_delay_nobody() -> Result<()> {
    let _turn = turn();
    let mut watched = Watched::start()?;
    for program in hostile::programs() {
        watched.try_with(program.name, &program, |_| Ok(()))?;
    }
    watched.end("made up files")
}

#[test]
fn maps_of_code_that_are_made_up_delay_nobody() -> Result<()> {
    let _turn = turn();
    let mut watched = Watched::start()?;
    for (name, map) in hostile::perf_maps() {
        let mut path = PathBuf::new();
        watched.try_with(name, &hostile::made_at_run_time(), |running| {
            path = PathBuf::from(format!("/tmp/perf-{}.map", running.0.id()));
            fs::write(&path, map)?;
            Ok(chown(&path, Some(NOBODY), Some(NOBODY))?)
        })?;
        fs::remove_file(&path)?;
    }
    watched.end("made up maps")
}

#[test]
fn a_check_of_a_made_up_file_ends_with_its_verdict() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    hostile::lay_traps(scratch.path())?;
    let usual = {
        let memory = Memory::of_children();
        finish(Command::new(fdtrace()?).args(["check", "--", "true"]), SOON)?;
        memory.end()?
    };
    let (mut slowest, mut highest) = (Duration::ZERO, (0, "nothing"));
    for (number, program) in hostile::programs().into_iter().enumerate() {
        let path = scratch.path().join(format!("stranger-{number}"));
        program.write(&path)?;
        let mut command = Command::new(fdtrace()?);
        command.args(["check", "--user", "65534", "--"]).arg(&path);
        let begun = Instant::now();
        let (memory, finished) = (Memory::of_children(), finish(&mut command, SOON));
        let finished = finished.with_context(|| program.name.to_owned())?;
        (slowest, highest) = (slowest.max(begun.elapsed()), highest.max((memory.end()?, program.name)));
        ensure!(finished.status.code() == Some(23), "{}: {finished:?}", program.name);
        let kept = format!("all {} devices opened here were kept", Hostile::OPENED);
        ensure!(finished.stderr.contains(&kept), "{}: {}", program.name, finished.stderr);
        fs::remove_file(&path)?;
    }
    let (grown, by) = (highest.0.saturating_sub(usual), highest.1);
    say(&format!(
        "checks of made up files: {slowest:?} at most, {} MB more than the {} MB of `check -- true` ({by})",
        grown >> 20,
        usual >> 20
    ));
    // The command, and what of its file is mapped, is among them.
    ensure!(grown <= MAX_MEMORY, "{} MB more: {by}", grown >> 20);
    Ok(())
}

/// What `capabilities(7)` calls the bits that a tracer may keep: DAC_READ_SEARCH, KILL, SYS_PTRACE, SYS_ADMIN (of `live`),
/// PERFMON, BPF, CHECKPOINT_RESTORE.
const KEPT: u64 = 1 << 2 | 1 << 5 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39 | 1 << 40;

#[test]
fn a_tracer_keeps_only_what_it_needs() -> Result<()> {
    let _turn = turn();
    let tracer = Tracer::start([])?;
    let tasks = fs::read_dir(format!("/proc/{}/task", tracer.pid()))?;
    for task in tasks {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
            Ok::<_, anyhow::Error>(u64::from_str_radix(line.trim(), 16)?)
        };
        ensure!(set("CapPrm:")? & !KEPT == 0 && set("CapEff:")? & !KEPT == 0, "{status}");
        ensure!(set("CapInh:")? == 0 && set("CapAmb:")? == 0, "{status}");
    }
    ensure!(tracer.interrupt()?.status.success());
    Ok(())
}
