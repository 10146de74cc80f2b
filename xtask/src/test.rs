//! `cargo xtask test`: all tests, in the order in which they fail soonest.

use crate::{
    callsites, corpus, ebpf, libtest,
    programs::{self, Linkage, Suite},
    run, vm,
};
use anyhow::{Result, bail};
use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub(crate) struct Args {
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
    let install = !args.no_install && run::is_root()?;
    let filter = args.filter.as_deref();
    let mut verdicts = Vec::new();
    part(&mut verdicts, "unit tests", || unit_tests(filter));
    if !args.no_ebpf {
        part(&mut verdicts, "BPF object", || {
            ebpf::run(&ebpf::Args { check: true, install, log: false }).map(drop)
        });
    }
    if !args.no_e2e {
        part(&mut verdicts, "this kernel", || end_to_end_tests(install, filter));
    }
    if !args.no_vm {
        part(&mut verdicts, "virtual machines", || virtual_machines(install, filter));
    }
    Ok(summary(&verdicts))
}

/// Runs one part. A part that fails does not keep the next ones from being run: whoever waits for all of this wants to
/// know all of it.
fn part(verdicts: &mut Vec<Verdict>, name: &'static str, run: impl FnOnce() -> Result<()>) {
    println!("\n==== {name}");
    let began = Instant::now();
    let outcome = run();
    if let Err(error) = &outcome {
        println!("{name}: {error:#}");
    }
    verdicts.push(Verdict { name, outcome, took: began.elapsed() });
}

/// The programs that read BTF and attach are tested by the parts that follow.
fn unit_tests(filter: Option<&str>) -> Result<()> {
    let words = [&["test"], &programs::WORKSPACE[..], &["--lib", "--bins"]].concat();
    libtest::run(programs::tested(&words)?.args(filter))
}

/// One at a time: each of them counts what the whole machine does. The static programs are those that the virtual
/// machines run, so they are built once.
fn end_to_end_tests(install: bool, filter: Option<&str>) -> Result<()> {
    if !run::is_root()? {
        bail!("tracing the running kernel needs root; leave this part out with --no-e2e");
    }
    let callsites = callsites::build(install)?;
    let corpus = corpus::build(install)?;
    let Suite { fdtrace, workload, e2e } = Suite::build(Linkage::Static)?;
    libtest::run(
        Command::new(e2e)
            .current_dir(run::checkout()?)
            .arg("--test-threads=1")
            .args(filter)
            .env("FDTRACE_BIN", fdtrace)
            .env("WORKLOAD_BIN", workload)
            .env("CALLSITES_DIR", callsites)
            .env("CORPUS_DIR", corpus),
    )
}

fn virtual_machines(install: bool, filter: Option<&str>) -> Result<()> {
    match vm::run_suite(install, filter)? {
        true => Ok(()),
        false => bail!("see the table"),
    }
}

fn summary(verdicts: &[Verdict]) -> ExitCode {
    println!("\n==== summary");
    for Verdict { name, outcome, took } in verdicts {
        match outcome {
            Ok(()) => println!("{name}: ok, {} s", took.as_secs()),
            Err(error) => println!("{name}: FAILED, {} s: {error:#}", took.as_secs()),
        }
    }
    let passed = verdicts.iter().filter(|verdict| verdict.outcome.is_ok()).count();
    println!("parts: {passed} passed, {} failed", verdicts.len() - passed);
    if passed == verdicts.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
