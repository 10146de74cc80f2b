//! Runs commands in a guest: boots it, and boots it again when its kernel fails.

use super::{
    console::{CommandReport, GuestCommand},
    initramfs::Archive,
    qemu::{self, Ending, Run},
};
use anyhow::{Context as _, Result};
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
pub(super) struct BootReport {
    pub(super) ending: Ending,
    /// The commands that ran to their end, each of them once.
    pub(super) commands: Vec<CommandReport>,
    /// What was running when a guest ended early. A failure that is seen here stays a failure, whatever the same
    /// command did after the restart.
    pub(super) interrupted: Vec<CommandReport>,
    pub(super) restarts: u32,
    /// The last messages of the kernel of the last run.
    pub(super) messages: Vec<String>,
    /// Of the last run: from the start of QEMU to the first word of a command.
    pub(super) boot_time: Option<Duration>,
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
pub(super) fn boot(
    guest: &Guest<'_>,
    commands: &[GuestCommand],
    show: &dyn Fn(Shown<'_>),
) -> Result<BootReport> {
    let mut finished: Vec<CommandReport> = Vec::new();
    let mut interrupted = Vec::new();
    let mut restarts = 0;
    loop {
        // After a restart only what has not run yet: a test that failed must not get a second chance.
        let remaining = &commands[finished.len()..];
        let mut run = qemu::run(guest.kernel, &initramfs(guest, remaining)?, guest.timeout, &|line| {
            show(Shown::Output(line));
        })?;
        let (reports, cut_off) = mem::take(&mut run.console).into_reports();
        finished.extend(reports);
        interrupted.extend(cut_off);
        let Ending::Failed(reason) = &run.ending else {
            return Ok(report(run, finished, interrupted, restarts));
        };
        show(Shown::Note(&format!("the guest failed: {reason}")));
        if restarts == MAX_RESTARTS {
            return Ok(report(run, finished, interrupted, restarts));
        }
        restarts += 1;
        run.messages.iter().for_each(|message| show(Shown::Note(message)));
        show(Shown::Note(&format!("restart {restarts} of at most {MAX_RESTARTS}")));
    }
}

fn report(
    run: Run,
    commands: Vec<CommandReport>,
    interrupted: Vec<CommandReport>,
    restarts: u32,
) -> BootReport {
    let Run { ending, messages, boot_time, .. } = run;
    BootReport { ending, commands, interrupted, restarts, messages, boot_time }
}

fn initramfs(guest: &Guest<'_>, commands: &[GuestCommand]) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.file("/init", &read(guest.init)?)?;
    let mut lines = String::new();
    for command in commands {
        lines.push_str(&serde_json::to_string(command)?);
        lines.push('\n');
    }
    archive.file("/vm-commands", lines.as_bytes())?;
    for file in guest.files {
        archive.file(&file.guest, &read(&file.host)?)?;
    }
    archive.finish()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
