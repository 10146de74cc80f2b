//! `cargo xtask vm`: runs programs on Debian's kernels, in emulated machines.

mod boot;
mod console;
mod guest;
mod initramfs;
mod libraries;
mod qemu;
mod suite;

use crate::{
    install::{
        self,
        kernels::{self, Kernel},
    },
    programs::Programs,
};
use anyhow::{Context as _, Result};
use boot::{BootReport, Guest, GuestFile, Shown};
use fdtrace_tests::guest::Command;
use qemu::Ending;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// The watchdog of a boot that runs the whole suite; emulated machines are slow.
const SUITE_TIMEOUT: Duration = Duration::from_secs(1800);
/// The directory of programs in the guest.
const GUEST_BIN: &str = "/bin/";

/// Runs the end-to-end tests, or PROGRAM, on each kernel
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A series (5.10, 6.1, 6.12, 7.x) or a vmlinuz file; can be repeated, all series by default
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Look for newer kernels on the mirror instead of using the cached ones
    #[arg(long)]
    update: bool,
    /// The mirror of Debian's archive, instead of the one in this machine's apt configuration
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,
    /// First install what is missing (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
    /// The watchdog: a boot may take so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
    #[command(flatten)]
    suite: suite::Options,
    /// More static programs for the guest's /bin
    #[arg(long = "add", value_name = "PATH", num_args = 1.., requires = "program")]
    add: Vec<PathBuf>,
    /// An environment variable for PROGRAM
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable, requires = "program")]
    env: Vec<(String, String)>,
    /// A program to run instead of the tests: /bin/NAME is one in the guest, everything else a static program of this
    /// machine. Its exit status becomes ours.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not of the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.install {
        let tests = if args.program.is_empty() { &install::CORPUS[..] } else { &[] };
        install::packages(&[&install::VM, tests].concat())?;
    }
    qemu::require()?;
    let kernels = kernels::select(&args.kernels, args.mirror.as_deref(), args.update)?;
    let timeout = Duration::from_secs(args.timeout);
    if args.program.is_empty() {
        let programs = Programs::build(args.install)?;
        let passed = suite::run(&args.suite, &kernels, timeout, &programs)?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    } else {
        run_program(args, &kernels, timeout)
    }
}

/// Runs the end-to-end tests on all series with all backends, two machines at a time; says whether they passed.
pub(crate) fn run_suite(programs: &Programs, filter: Option<&str>) -> Result<bool> {
    qemu::require()?;
    let kernels = kernels::select(&[], None, false)?;
    suite::run(&suite::Options::for_all(filter), &kernels, SUITE_TIMEOUT, programs)
}

/// Boots each kernel and runs one program in it, with its output as it comes. The first status that is not zero counts.
fn run_program(args: &Args, kernels: &[Kernel], timeout: Duration) -> Result<ExitCode> {
    let (command, files) = program(args)?;
    let init = guest::init()?;
    let mut status = 0;
    for kernel in kernels {
        eprintln!("-- {}", kernel.name);
        let guest = Guest { kernel: &kernel.image, init: &init, files: &files, timeout };
        let report = boot::boot(&guest, std::slice::from_ref(&command), &|line| match line {
            Shown::Output(line) => println!("{line}"),
            Shown::Note(line) => eprintln!("-- {line}"),
        })?;
        let this = status_of(&report);
        eprintln!("-- {}: status {this}{}", kernel.name, describe(&report));
        status = if status == 0 { this } else { status };
    }
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// The command that was asked for, and the files that it needs in the guest.
fn program(args: &Args) -> Result<(Command, Vec<GuestFile>)> {
    let (program, arguments) = args.program.split_first().context("no program")?;
    let mut files: Vec<_> = args.add.iter().map(|path| guest::from_host(path)).collect::<Result<_>>()?;
    files.extend(guest::busybox());
    let path = if program.starts_with(GUEST_BIN) {
        program.clone()
    } else {
        let file = guest::from_host(Path::new(program))?;
        let path = file.guest.clone();
        files.push(file);
        path
    };
    let argv = std::iter::once(path).chain(arguments.iter().cloned()).collect();
    let env: BTreeMap<_, _> = args.env.iter().cloned().collect();
    Ok((Command { label: program.clone(), env, argv }, files))
}

/// The status of the one command. As with `timeout` and `env`: 124 for a command that took too long, 125 for a guest
/// that failed.
fn status_of(report: &BootReport) -> i32 {
    match (report.commands.first().and_then(|command| command.status), &report.last.ending) {
        (Some(status), _) => status,
        (None, Ending::TimedOut(_)) => 124,
        (None, _) => 125,
    }
}

/// What there is to say about a boot beside its commands, and the kernel's last messages if it did not go well.
fn describe(report: &BootReport) -> String {
    let mut text = String::new();
    if let Some(time) = report.last.boot_time {
        text.push_str(&format!(", booted in {:.1} s", time.as_secs_f64()));
    }
    if report.restarts > 0 {
        text.push_str(&format!(", {} restarts", report.restarts));
    }
    match &report.last.ending {
        Ending::PoweredOff => return text,
        Ending::TimedOut(timeout) => {
            text.push_str(&format!(", ended by the watchdog after {} s", timeout.as_secs()));
        }
        Ending::Failed(reason) => text.push_str(&format!(", the guest failed: {reason}")),
    }
    for message in &report.last.messages {
        text.push_str("\n   | ");
        text.push_str(message);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use console::CommandReport;
    use qemu::Run;

    fn report(status: Option<i32>, ending: Ending) -> BootReport {
        BootReport {
            last: Run {
                ending,
                messages: ["last words".into()].into(),
                boot_time: Some(Duration::from_millis(6250)),
                ..Run::default()
            },
            commands: vec![CommandReport { status, ..Default::default() }],
            interrupted: vec![],
            restarts: 1,
        }
    }

    #[test]
    fn the_status_is_that_of_the_command_or_says_who_ended_it() {
        assert_eq!(status_of(&report(Some(23), Ending::PoweredOff)), 23);
        assert_eq!(status_of(&report(None, Ending::TimedOut(Duration::from_secs(1)))), 124);
        assert_eq!(status_of(&report(None, Ending::Failed("kernel panic".into()))), 125);
    }

    #[test]
    fn restarts_and_the_last_messages_are_told() {
        let text = describe(&report(None, Ending::Failed("kernel panic".into())));
        assert_eq!(text, ", booted in 6.2 s, 1 restarts, the guest failed: kernel panic\n   | last words");
    }
}
