//! Functions and lines of addresses in programs that run.
//!
//! A site is a chain of eight addresses: three of its own, and five of the fifty that all chains of a program end with.

use super::{memory, notes::note};
use anyhow::{Context as _, Result, ensure};
use divan::{Bencher, counter::ItemsCount};
use fdtrace::stacks::{CodeNames, Module, Reach, Readers};
use std::{
    collections::{BTreeMap, HashSet},
    env,
    fmt::Write as _,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

/// Where the programs are made, a gigabyte; what is there already is used as it is.
const FOLDER: &str = "FDTRACE_BENCH_FOLDER";

/// Small programs, each of its own build, beside the large one.
const SMALL: usize = 199;
const SITES: usize = 1000;
/// Sites of each small program; the large one has the rest.
const SITES_OF_SMALL: usize = 4;
const OWN: usize = 3;
const SHARED: usize = 5;
const SHARED_OF_ALL: usize = 50;

/// Functions of the unit that all programs have, and how often the large one has it: one compiled unit, linked so many times
/// that its debug information, all of it real, has a gigabyte.
const FUNCTIONS: usize = 30;
const TYPES: usize = 300;
const UNITS: usize = 3850;

const MAIN: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

/// A mapping with code.
struct Code {
    range: Range<u64>,
    offset: u64,
    path: PathBuf,
}

/// What is asked of one process: offsets by module.
type Questions = Vec<(Module, Vec<u64>)>;

/// Nothing is known before; each item is an address. Ignored unless asked for: making the programs takes minutes.
#[divan::bench(ignore, sample_size = 1, sample_count = 1)]
fn symbols(bencher: Bencher<'_, '_>) {
    let kept = env::var_os(FOLDER).map(PathBuf::from);
    let folder = kept.clone().unwrap_or_else(|| env::temp_dir().join("fdtrace-bench-symbols"));
    let questions = make(&folder).and_then(|()| Questioned::start(&folder)).expect("programs");
    let mut named = Named::default();
    let readers = Readers::start().expect("a reader");
    bencher.counter(ItemsCount::new(questions.addresses())).bench_local(|| {
        let mut names = CodeNames::new(&readers);
        named = questions.name(&mut names);
        names
    });
    note(format!(
        "of {} addresses of {SITES} sites of {} processes {} have a function, {} a line, {} inlined functions\n\
         resident memory: {} MB at most, of which {} MB are not the files'",
        questions.addresses(),
        questions.all.len(),
        named.functions,
        named.lines,
        named.inlined,
        memory::bytes("VmHWM") >> 20,
        named.own_bytes >> 20
    ));
    drop(questions);
    if kept.is_none() {
        fs::remove_dir_all(&folder).expect("a folder of ours");
    }
}

/// What was found.
#[derive(Default)]
struct Named {
    functions: usize,
    lines: usize,
    inlined: usize,
    own_bytes: u64,
}

/// Processes, and what is asked of each.
struct Questioned {
    _running: Running,
    all: Vec<Questions>,
}

impl Questioned {
    fn start(folder: &Path) -> Result<Self> {
        let mut running = Running::default();
        for number in 0..SMALL {
            running.start(&folder.join(format!("small/{number}")))?;
        }
        running.start(&folder.join("large"))?;
        // Until the loader has mapped all libraries.
        thread::sleep(Duration::from_millis(500));
        let mut random = 7;
        let questions = running.0.iter().enumerate().map(|(number, child)| {
            let sites = if number < SMALL { SITES_OF_SMALL } else { SITES - SMALL * SITES_OF_SMALL };
            questions(child.id(), sites, &mut random)
        });
        let all = questions.collect::<Result<_>>()?;
        Ok(Self { _running: running, all })
    }

    fn addresses(&self) -> usize {
        self.all.iter().flatten().map(|(_, offsets)| offsets.len()).sum()
    }

    fn name(&self, names: &mut CodeNames) -> Named {
        let mut named = Named::default();
        for of_process in &self.all {
            for frames in of_process.iter().flat_map(|(module, offsets)| names.frames_of_all(module, offsets))
            {
                named.functions += usize::from(frames.iter().any(|frame| frame.symbol.is_some()));
                named.lines += usize::from(frames.iter().any(|frame| frame.line.is_some()));
                named.inlined += usize::from(frames.len() > 1);
            }
            named.own_bytes = named.own_bytes.max(memory::bytes("RssAnon"));
        }
        named
    }
}

/// Processes that end with this one.
#[derive(Default)]
struct Running(Vec<Child>);

impl Running {
    fn start(&mut self, program: &Path) -> Result<()> {
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
fn questions(pid: u32, sites: usize, random: &mut u64) -> Result<Questions> {
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

fn code(pid: u32) -> Result<Vec<Code>> {
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

fn module(pid: u32, code: &Code) -> Result<Module> {
    let build_id = build_id(&code.path)?;
    let reach = Some(Reach { pid, range: code.range.clone() });
    Ok(Module { path: code.path.as_path().into(), build_id: Some(build_id.into()), file: None, reach })
}

/// As a program says it: the note that `file` reads, too.
fn build_id(path: &Path) -> Result<String> {
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

/// Makes what is not there.
fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let cc = |arguments: &[&str]| succeed(Command::new("cc").current_dir(folder).args(arguments));
    if !folder.join("large.debug").exists() {
        fs::write(folder.join("unit.c"), unit())?;
        fs::write(folder.join("main.c"), MAIN)?;
        cc(&["-O2", "-g3", "-c", "unit.c"])?;
        cc(&["-O1", "-g", "-c", "main.c"])?;
        make_large(folder)?;
    }
    fs::create_dir_all(folder.join("small"))?;
    for number in 0..SMALL {
        let program = format!("small/{number}");
        if !folder.join(&program).exists() {
            let build_id = format!("-Wl,--build-id=0x{number:040x}");
            cc(&["-g", &build_id, "-o", &program, "main.o", "unit.o"])?;
        }
    }
    Ok(())
}

/// Its symbols are made local, or there would be no linking it twice.
fn make_large(folder: &Path) -> Result<()> {
    let objcopy = |arguments: &[&str]| succeed(Command::new("objcopy").current_dir(folder).args(arguments));
    objcopy(&["--wildcard", "--localize-symbol=*", "unit.o", "local.o"])?;
    fs::write(folder.join("objects"), format!("main.o {}", "local.o ".repeat(UNITS)))?;
    let mut link = Command::new("cc");
    succeed(link.current_dir(folder).args(["-g", "-Wl,--build-id=sha1", "-o", "large", "@objects"]))?;
    objcopy(&["--only-keep-debug", "large", "large.new"])?;
    fs::rename(folder.join("large.new"), folder.join("large.debug"))?;
    objcopy(&["--strip-all", "large"])?;
    objcopy(&["--add-gnu-debuglink=large.debug", "large"])
}

/// Many types, and functions with much inlined into them, as C++ and Rust have.
fn unit() -> String {
    let mut text = "#include <pthread.h>\n#include <signal.h>\n#include <stdint.h>\n#include <stdio.h>\n\
                    #include <stdlib.h>\n#include <sys/stat.h>\nvolatile uint64_t sink;\n"
        .to_owned();
    for number in 0..TYPES {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", kind(number));
    }
    for number in 0..FUNCTIONS {
        let _ = write!(text, "{}", function(number));
    }
    text
}

/// A variable of each, or the compiler would leave its description out.
fn kind(number: usize) -> String {
    let members: String =
        (0..30).map(|member| format!("  struct stat *member_{member}_of_{number};\n")).collect();
    format!("struct kind_{number} {{\n{members}}};\nstruct kind_{number} *kind_{number};\n")
}

fn function(number: usize) -> String {
    let state = format!("struct state_{number}");
    let inlined = "static inline __attribute__((always_inline)) uint64_t";
    let lines: String = (0..6)
        .map(|line| {
            format!(
                "  uint64_t v{line} = twice_{number}(s, x + {line});\n  if (v{line} & {}) {{ sink += v{line}; x += \
                 step_{number}(s, v{line}); }}\n",
                line + 1
            )
        })
        .collect();
    format!(
        "{state} {{ uint64_t a, b; {state} *next; char name[{}]; struct stat st; }};\n\
         {inlined} step_{number}({state} *s, uint64_t x) {{\n  s->a += x;\n  sink = s->b ^ x;\n  return s->a * {} + x;\n}}\n\
         {inlined} twice_{number}({state} *s, uint64_t x) {{\n  uint64_t one = step_{number}(s, x);\n  \
         return one ^ step_{number}(s, one);\n}}\n\
         __attribute__((noinline)) uint64_t work_{number}({state} *s, uint64_t x) {{\n{lines}  return x;\n}}\n",
        number + 8,
        number + 3,
    )
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
