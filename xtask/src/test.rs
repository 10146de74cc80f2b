//! `cargo xtask test`: all tests. What needs the network or only the processor is prepared beside those that fail soonest; what
//! traces the kernel has the machine for itself.

use crate::{
    build::{self, Build, Suite},
    ebpf,
    install::{self, interpreters, kernels},
    libtest, lint,
    programs::Programs,
    run, vm,
};
use anyhow::{Context as _, Result, anyhow, bail};
use std::{
    process::{Command, ExitCode},
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// First check formatting and lints, as `cargo xtask lint` does
    #[arg(long)]
    lint: bool,
    /// Leave out the virtual machines
    #[arg(long)]
    no_vm: bool,
    /// Leave out the tests that trace the running kernel
    #[arg(long)]
    no_e2e: bool,
    /// Leave out the comparison of the committed BPF object with what its source gives
    #[arg(long)]
    no_ebpf: bool,
    /// Install nothing, also as root on Debian or Ubuntu
    #[arg(long)]
    no_install: bool,
    /// Only the tests with this in their name
    filter: Option<String>,
}

/// What came of a part.
struct Verdict {
    name: &'static str,
    outcome: Result<()>,
    took: Duration,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    let install = !args.no_install && run::is_root();
    let filter = args.filter.as_deref();
    let traces = !args.no_e2e || !args.no_vm;
    let mut programs = None;
    let mut verdicts = thread::scope(|scope| {
        let (installed, packages) = channel();
        let beside = scope.spawn(move || prepare(args, install, &installed));
        let mut verdicts = Vec::new();
        if args.lint {
            verdicts.push(part("lint", || lint::run().map(drop)));
        }
        verdicts.push(part("unit tests", || unit_tests(filter)));
        if traces {
            packages.recv()?;
            verdicts.push(part("programs", || {
                // What follows has the machine for itself, and finds all of it built.
                Build::everything()?;
                programs = Some(Programs::build(install)?);
                Ok(())
            }));
        }
        verdicts.extend(beside.join().map_err(|_| anyhow!("what was prepared panicked"))?);
        anyhow::Ok(verdicts)
    })?;
    let programs = || programs.as_ref().context("there are no programs to try it on");
    if !args.no_e2e {
        verdicts.push(part("this kernel", || end_to_end_tests(programs()?, filter)));
    }
    if !args.no_vm {
        verdicts.push(part("virtual machines", || virtual_machines(programs()?, filter)));
    }
    Ok(summary(&verdicts, began.elapsed()))
}

/// Runs one part. A part that fails does not keep the next ones from being run: whoever waits for all of this wants to
/// know all of it.
fn part(name: &'static str, run: impl FnOnce() -> Result<()>) -> Verdict {
    println!("\n==== {name}");
    let began = Instant::now();
    let outcome = run();
    if let Err(error) = &outcome {
        println!("{name}: {error:#}");
    }
    let took = began.elapsed();
    // A run that is cut off has no summary.
    println!("{name}: {} s", took.as_secs());
    Verdict { name, outcome, took }
}

/// What can be done while others compile: packages first, since others wait for them, all of them at once.
fn prepare(args: &Args, install: bool, installed: &Sender<()>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if install {
        verdicts.push(part("packages", || packages(args)));
    }
    // Where nothing is traced nobody waits for it.
    let _ = installed.send(());
    if !args.no_ebpf {
        let check = ebpf::Args { check: true, install, log: false };
        verdicts.push(part("BPF object", || ebpf::run(&check).map(drop)));
    }
    if !args.no_vm {
        verdicts.push(part("kernels", || kernels::select(&[], None, false).map(drop)));
    }
    if install && !args.no_e2e {
        verdicts.push(part("interpreters", || interpreters::roots().map(drop)));
    }
    verdicts
}

fn packages(args: &Args) -> Result<()> {
    let mut wanted = Vec::new();
    if !args.no_e2e || !args.no_vm {
        wanted.extend(install::CORPUS);
    }
    if !args.no_vm {
        wanted.extend(install::VM);
    }
    if !args.no_ebpf {
        wanted.extend(install::EBPF);
    }
    install::packages(&wanted)
}

/// The programs that read BTF and attach are tested by the parts that follow.
fn unit_tests(filter: Option<&str>) -> Result<()> {
    let words =
        [&["test"], &build::WORKSPACE[..], &["--lib", "--bins", "--test", "growth", "--test", "reference"]]
            .concat();
    libtest::run(build::tested(&words)?.args(filter))
}

/// One at a time: each of them counts what the whole machine does. The static programs are those that the virtual
/// machines run, so they are built once.
fn end_to_end_tests(Programs { callsites, corpus }: &Programs, filter: Option<&str>) -> Result<()> {
    if !run::is_root() {
        bail!("tracing the running kernel needs root; leave this part out with --no-e2e");
    }
    let Suite { fdtrace, workload, e2e } = Suite::of(&Build::everything()?)?;
    libtest::run(
        Command::new(e2e)
            .current_dir(run::checkout()?)
            .arg("--test-threads=1")
            .args(filter)
            .env("FDTRACE_BIN", fdtrace)
            .env("WORKLOAD_BIN", workload)
            .env("CALLSITES_DIR", callsites)
            .env("CORPUS_DIR", corpus)
            .envs(interpreters::fetched()?.map(|roots| ("INTERPRETERS_DIR", roots))),
    )
}

fn virtual_machines(programs: &Programs, filter: Option<&str>) -> Result<()> {
    match vm::run_suite(programs, filter)? {
        true => Ok(()),
        false => bail!("see the table"),
    }
}

fn summary(verdicts: &[Verdict], took: Duration) -> ExitCode {
    println!("\n==== summary");
    for Verdict { name, outcome, took } in verdicts {
        match outcome {
            Ok(()) => println!("{name}: ok, {} s", took.as_secs()),
            Err(error) => println!("{name}: FAILED, {} s: {error:#}", took.as_secs()),
        }
    }
    println!("in all: {} s; what is prepared runs beside lint and unit tests", took.as_secs());
    let passed = verdicts.iter().filter(|verdict| verdict.outcome.is_ok()).count();
    println!("parts: {passed} passed, {} failed", verdicts.len() - passed);
    if passed == verdicts.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
