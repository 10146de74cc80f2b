//! Functions and lines of addresses in programs that run.
//!
//! A site is a chain of eight addresses: three of its own, and five of the fifty that all chains of a program end with.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fdtrace::stacks::{CodeNames, Module, Reach, Readers};
use serde::Serialize;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// `large` is there, and `small/0` to `small/198`
    folder: PathBuf,
}

const SMALL: usize = 199;
const SITES: usize = 1000;
/// Sites of each small program; the large one has the rest.
const SITES_OF_SMALL: usize = 4;
const OWN: usize = 3;
const SHARED: usize = 5;
const SHARED_OF_ALL: usize = 50;

#[derive(Default, Serialize)]
pub(crate) struct Result {
    processes: usize,
    sites: usize,
    addresses: usize,
    named: usize,
    with_lines: usize,
    inlined: usize,
    seconds: f64,
    slowest_seconds: f64,
    again_seconds: f64,
    peak_mb: f64,
    own_mb: f64,
}

/// A mapping with code.
struct Code {
    range: Range<u64>,
    offset: u64,
    path: PathBuf,
}

/// What is asked of one process: offsets by module.
type Questions = Vec<(Module, Vec<u64>)>;

pub(crate) fn run(args: &Args) -> anyhow::Result<Result> {
    let mut running = Running::default();
    for number in 0..SMALL {
        running.start(&args.folder.join(format!("small/{number}")))?;
    }
    running.start(&args.folder.join("large"))?;
    // Until the loader has mapped all libraries.
    std::thread::sleep(Duration::from_millis(500));
    let mut random = 7;
    let questions = running.0.iter().enumerate().map(|(number, child)| {
        let sites = if number < SMALL { SITES_OF_SMALL } else { SITES - SMALL * SITES_OF_SMALL };
        questions(child.id(), sites, &mut random)
    });
    let questions = questions.collect::<anyhow::Result<Vec<_>>>()?;
    let mut result = Result { processes: questions.len(), sites: SITES, ..Result::default() };
    measure(&questions, &mut result)?;
    Ok(result)
}

fn measure(questions: &[Questions], result: &mut Result) -> anyhow::Result<()> {
    let mut names = CodeNames::new(&Readers::start()?);
    let start = Instant::now();
    for of_process in questions {
        let began = Instant::now();
        for frames in of_process.iter().flat_map(|(module, offsets)| names.frames_of_all(module, offsets)) {
            result.addresses += 1;
            result.named += usize::from(frames.iter().any(|frame| frame.symbol.is_some()));
            result.with_lines += usize::from(frames.iter().any(|frame| frame.line.is_some()));
            result.inlined += usize::from(frames.len() > 1);
        }
        result.own_mb = result.own_mb.max(status_mb("RssAnon:")?);
        result.slowest_seconds = result.slowest_seconds.max(began.elapsed().as_secs_f64());
    }
    result.seconds = start.elapsed().as_secs_f64();
    result.peak_mb = status_mb("VmHWM:")?;
    let again = Instant::now();
    for (module, offsets) in questions.iter().flatten() {
        names.frames_of_all(module, offsets);
    }
    result.again_seconds = again.elapsed().as_secs_f64();
    Ok(())
}

/// Processes that end with this one.
#[derive(Default)]
struct Running(Vec<Child>);

impl Running {
    fn start(&mut self, program: &Path) -> anyhow::Result<()> {
        let child = Command::new(program).spawn().with_context(|| program.display().to_string())?;
        self.0.push(child);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Addresses of the program, and one of libc for each site.
fn questions(pid: u32, sites: usize, random: &mut u64) -> anyhow::Result<Questions> {
    let maps = code(pid)?;
    let program = maps.first().context("no code")?;
    let libc = maps.iter().find(|code| code.path.to_string_lossy().contains("libc"));
    let shared: Vec<u64> = (0..SHARED_OF_ALL).map(|_| pick(program, random)).collect();
    let mut offsets = Vec::new();
    for _ in 0..sites {
        offsets.extend((0..OWN).map(|_| pick(program, random)));
        offsets.extend((0..SHARED).map(|_| shared[next(random) % SHARED_OF_ALL]));
    }
    let mut all = BTreeMap::from([(program.path.clone(), (module(pid, program)?, offsets))]);
    if let Some(libc) = libc {
        let offsets = (0..sites).map(|_| pick(libc, random)).collect();
        all.insert(libc.path.clone(), (module(pid, libc)?, offsets));
    }
    let distinct = |offsets: Vec<u64>| offsets.into_iter().collect::<HashSet<_>>().into_iter().collect();
    Ok(all.into_values().map(|(module, offsets)| (module, distinct(offsets))).collect())
}

fn code(pid: u32) -> anyhow::Result<Vec<Code>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [range, "r-xp", offset, _, _, path] = fields[..] else { return None };
        let (start, end) = range.split_once('-')?;
        let range = hex(start)?..hex(end)?;
        path.starts_with('/').then(|| Some(Code { range, offset: hex(offset)?, path: path.into() }))?
    };
    Ok(maps.lines().filter_map(line).collect())
}

fn module(pid: u32, code: &Code) -> anyhow::Result<Module> {
    let build_id = build_id(&code.path)?;
    let reach = Some(Reach { pid, range: code.range.clone() });
    Ok(Module { path: code.path.as_path().into(), build_id: Some(build_id.into()), file: None, reach })
}

/// As a program says it: the note that `file` reads, too.
fn build_id(path: &Path) -> anyhow::Result<String> {
    let output = Command::new("readelf").arg("--notes").arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).context("no build-id")?;
    Ok(id.to_owned())
}

fn pick(code: &Code, random: &mut u64) -> u64 {
    let length = usize::try_from(code.range.end - code.range.start).unwrap_or(usize::MAX);
    code.offset + (next(random) % length) as u64
}

fn next(random: &mut u64) -> usize {
    *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    usize::try_from(*random >> 33).unwrap_or_default()
}

fn status_mb(key: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(key)).context("an old kernel")?;
    let kilobytes: f64 = value.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
