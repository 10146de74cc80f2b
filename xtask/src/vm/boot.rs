//! Runs commands in a guest: boots it, and boots it again when its kernel fails.

use super::{
    console::CommandReport,
    initramfs::Archive,
    qemu::{self, Ending, Run},
};
use anyhow::{Context as _, Result};
use fdtrace_tests::guest::{COMMANDS, Command};
use std::{
    fs, mem,
    path::{Path, PathBuf},
    time::Duration,
};

/// Emulated guests panic now and then without anybody's fault but the emulator's. A kernel that fails three times in a
/// row is another matter.
const MAX_RESTARTS: u32 = 2;

/// A file for the guest.
#[derive(Clone, Debug)]
pub(super) struct GuestFile {
    /// Where it is on this machine.
    pub(super) host: PathBuf,
    /// Where it will be in the guest.
    pub(super) guest: String,
}

/// What came of booting a guest.
#[derive(Default)]
pub(super) struct BootReport {
    /// The last run, without the reports of its commands.
    pub(super) last: Run,
    /// The commands that ran to their end, each of them once.
    pub(super) commands: Vec<CommandReport>,
    /// What was running when a guest ended early. A failure that is seen here stays a failure, whatever the same
    /// command did after the restart.
    pub(super) interrupted: Vec<CommandReport>,
    pub(super) restarts: u32,
}

impl BootReport {
    /// The JSON objects that the commands handed out, in their order.
    pub(super) fn results(&self) -> impl Iterator<Item = (&CommandReport, &str)> {
        self.commands.iter().flat_map(|report| report.results.iter().map(move |text| (report, text.as_str())))
    }
}

/// What somebody who watches a guest gets to see, line by line, while it happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shown<'a> {
    /// A command wrote this.
    Output(&'a str),
    /// Something about the guest itself: that it failed and why, that it is started again.
    Note(&'a str),
}

/// What is the same for each boot of a guest.
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Path,
    pub(super) init: &'a Path,
    pub(super) files: &'a [GuestFile],
    /// For each boot, restarts included.
    pub(super) timeout: Duration,
}

/// Boots, and runs the commands in their order.
pub(super) fn boot(guest: &Guest<'_>, commands: &[Command], show: &dyn Fn(Shown<'_>)) -> Result<BootReport> {
    let mut report = BootReport::default();
    loop {
        // After a restart only what has not run yet: a test that failed must not get a second chance.
        let remaining = &commands[report.commands.len()..];
        let initramfs = initramfs(guest, remaining)?;
        let mut run = qemu::run(guest.kernel, &initramfs, guest.timeout, &|line| show(Shown::Output(line)))?;
        let (reports, cut_off) = mem::take(&mut run.console).into_reports();
        report.commands.extend(reports);
        report.interrupted.extend(cut_off);
        report.last = run;
        let Ending::Failed(reason) = &report.last.ending else { return Ok(report) };
        show(Shown::Note(&format!("the guest failed: {reason}")));
        if report.restarts == MAX_RESTARTS {
            return Ok(report);
        }
        report.restarts += 1;
        report.last.messages.iter().for_each(|message| show(Shown::Note(message)));
        show(Shown::Note(&format!("restart {} of at most {MAX_RESTARTS}", report.restarts)));
    }
}

fn initramfs(guest: &Guest<'_>, commands: &[Command]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("/init", &read(guest.init)?)?;
    let mut lines = String::new();
    for command in commands {
        lines.push_str(&serde_json::to_string(command)?);
        lines.push('\n');
    }
    archive.file(COMMANDS, lines.as_bytes())?;
    for file in guest.files {
        archive.file(&file.guest, &read(&file.host)?)?;
    }
    archive.finish()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
