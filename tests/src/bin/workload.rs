//! A program whose handles are known exactly, driven by lines on its standard input.
//!
//! It prints `{"pid":N,"ready":true}` when it will make no handle of its own accord any more, and then obeys:
//! `go` runs the steps (again), with `--repeat` until the next line comes, and prints `{"truth":{...}}`;
//! `close` lets go of every handle and prints the truth; `stop` does nothing; `end`, or the end of input, exits without
//! closing anything, as a leaking program does; `exit N` does so with that status, `raise N` by that signal.
//!
//! Where the kernel refuses a step, it prints `{"not_possible":"why"}` instead and exits with status 3.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use fdtrace_tests::workload::{
    Ledger, NOT_POSSIBLE, NotPossible, Place, Plan, Side, Step, enter_namespaces, speak,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mm::{MapFlags, ProtFlags, mmap},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{self, BufRead as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Makes known numbers of handles.
#[derive(Parser)]
struct Options {
    /// An existing directory to make files in, not on overlayfs
    #[arg(long, required_unless_present_any = ["hold", "speak"])]
    dir: Option<PathBuf>,
    /// Do nothing but open a file, map it, say so, and read it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "steps"])]
    hold: Option<PathBuf>,
    /// Do nothing but speak to the socket of FDTRACE_SCOPE, as these actions say
    #[arg(long, value_name = "ACTION", num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["dir", "hold", "steps"])]
    speak: Vec<String>,
    /// How many threads share the count of each step
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Run the steps again and again until another line is on standard input
    #[arg(long)]
    repeat: bool,
    /// Wait so many milliseconds between two repetitions
    #[arg(long, default_value_t = 0)]
    pause_ms: i64,
    /// Run in PID, network, IPC, mount and UTS namespaces of its own; the `pid` that is printed is the one outside
    #[arg(long)]
    namespaces: bool,
    /// Steps, each written NAME=COUNT
    #[arg(required_unless_present_any = ["hold", "speak"])]
    steps: Vec<Step>,
}

fn main() -> ExitCode {
    match begin(&Options::parse()) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn begin(options: &Options) -> Result<ExitCode> {
    if let Some(file) = &options.hold {
        return hold(file).map(|()| ExitCode::SUCCESS);
    }
    if !options.speak.is_empty() {
        return speak(&options.speak).map(|()| ExitCode::SUCCESS);
    }
    let side = if options.namespaces { enter_namespaces()? } else { Side::Inside(std::process::id()) };
    match side {
        Side::Outside(code) => Ok(code),
        Side::Inside(pid) => work(options, pid).map(|()| ExitCode::SUCCESS),
    }
}

/// With a file system that hangs, this process will.
fn hold(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let (protection, flags) = (ProtFlags::READ, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses the address, and the memory is never looked at.
    unsafe { mmap(std::ptr::null_mut(), 4096, protection, flags, &file, 0) }.context("mmap")?;
    tell(&json!({"pid": std::process::id(), "ready": true}))?;
    // What is read, or that it cannot be read, does not matter.
    let _ = (&file).read(&mut [0; 16]);
    Ok(())
}

fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(reason) = error.chain().find_map(|cause| cause.downcast_ref::<NotPossible>()) {
        // Whoever reads it knows from the status as well.
        let _ = tell(&json!({"not_possible": reason.0}));
        return ExitCode::from(NOT_POSSIBLE);
    }
    eprintln!("workload: {error:#}");
    ExitCode::FAILURE
}

fn work(options: &Options, pid: u32) -> Result<()> {
    raise_descriptor_limit()?;
    ensure!(limit_arenas(), "mallopt is refused");
    let place = Place::new(options.dir.as_deref().context("no directory")?)?;
    let plan = Plan { steps: options.steps.clone(), threads: options.threads.max(1) };
    let mut ledger = Ledger::default();
    let result = plan
        .warm_up(&place)
        .and_then(|()| tell(&json!({"pid": pid, "ready": true})))
        .and_then(|()| obey(&plan, options.repeat.then_some(options.pause_ms), &place, &mut ledger));
    place.remove();
    ledger.abandon();
    result
}

fn obey(plan: &Plan, repeat: Option<i64>, place: &Place, ledger: &mut Ledger) -> Result<()> {
    for line in io::stdin().lock().lines() {
        match line.context("cannot read standard input")?.as_str() {
            "go" => {
                go(plan, repeat, place, ledger)?;
                tell(&json!({"truth": ledger.truth()}))?;
            }
            "close" => {
                ledger.close();
                tell(&json!({"truth": ledger.truth()}))?;
            }
            "stop" => {}
            "end" => break,
            other => leave(other)?,
        }
    }
    Ok(())
}

/// Ends at once, as the line says.
fn leave(line: &str) -> Result<()> {
    match line.split_once(' ') {
        Some(("exit", status)) => std::process::exit(status.parse()?),
        Some(("raise", signal)) => {
            let signal = signal.parse()?;
            // SAFETY: raise takes no pointers, and this program handles no signal.
            unsafe { libc::raise(signal) };
            Ok(())
        }
        _ => bail!("what is {line:?}?"),
    }
}

fn go(plan: &Plan, repeat: Option<i64>, place: &Place, ledger: &mut Ledger) -> Result<()> {
    plan.run(place, ledger)?;
    while let Some(pause_ms) = repeat
        && !line_waits(pause_ms)?
    {
        plan.run(place, ledger)?;
    }
    Ok(())
}

/// Waits for the next line at most so long. Whoever writes it waits for our answer to the line before, so none is
/// hidden in a buffer.
fn line_waits(pause_ms: i64) -> Result<bool> {
    let timeout = Timespec { tv_sec: pause_ms / 1000, tv_nsec: pause_ms % 1000 * 1_000_000 };
    let stdin = io::stdin();
    let mut sources = [PollFd::new(&stdin, PollFlags::IN)];
    Ok(poll(&mut sources, Some(&timeout))? != 0)
}

/// The C library counts the processors, by opening a file, when many threads ask for memory at once; not so when it is
/// told how many arenas to make.
fn limit_arenas() -> bool {
    // SAFETY: mallopt takes numbers, and no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) == 1 }
}

/// A thousand kept files do not fit into the usual limit of 1,024 with everything else.
fn raise_descriptor_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the descriptor limit")
}

fn tell(message: &Value) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{message}").and_then(|()| stdout.flush()).context("cannot write to standard output")
}
