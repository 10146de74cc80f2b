//! `--alert`: ends a watch, or runs a program, when a limit is near.

use std::{
    collections::HashSet,
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::unistd::geteuid;

use super::Failure;
use crate::{
    model::explain::{Alarm, Document},
    report::explain::alert::{Alert, Watch},
    text::fmt::escape_control,
};

/// The status of a watch that an alert ended.
pub(crate) const ALERTED: u8 = 3;
/// The most programs that run at the same time.
const MAX: usize = 8;
/// Who may write to a file beside its owner: the group, and everybody.
const WRITABLE: u32 = 0o022;

/// What is done for alerts.
pub(crate) struct Alerts {
    wanted: Vec<Alert>,
    watch: Watch,
    program: Option<PathBuf>,
    /// What was reported, and lasts.
    lasting: HashSet<(String, Option<u32>)>,
    running: Vec<Child>,
}

impl Alerts {
    /// Checks that the program may be run by whoever runs fdtrace.
    pub(crate) fn new(wanted: &[Alert], program: Option<&Path>) -> Result<Self, Failure> {
        program.map_or(Ok(()), check)?;
        Ok(Self {
            wanted: wanted.to_vec(),
            watch: Watch::default(),
            program: program.map(Path::to_path_buf),
            lasting: HashSet::new(),
            running: Vec::new(),
        })
    }

    /// Finds the alarms of a sample, and puts them into it.
    pub(crate) fn find(&mut self, document: &mut Document) {
        document.alerts = self.watch.alarms(document, &self.wanted);
    }

    /// Tells of those that are new; says whether the watch ends.
    pub(crate) fn tell(&mut self, document: &Document, say: &dyn Fn(&str)) -> Result<bool, Failure> {
        let lasting = std::mem::take(&mut self.lasting);
        for alarm in &document.alerts {
            if !lasting.contains(&alarm.subject()) {
                say(&format!("alert: {}", alarm.sentence));
                self.run(alarm, say)?;
            }
            self.lasting.insert(alarm.subject());
        }
        Ok(self.program.is_none() && !document.alerts.is_empty())
    }

    fn run(&mut self, alarm: &Alarm, say: &dyn Fn(&str)) -> Result<(), Failure> {
        let Some(program) = &self.program else { return Ok(()) };
        self.running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if self.running.len() >= MAX {
            say(&format!("{MAX} alerts are still being told; this one is reported here only"));
            return Ok(());
        }
        let child = start(program, alarm).map_err(|error| cannot(program, &error.to_string()))?;
        self.running.push(child);
        Ok(())
    }
}

/// A program is found without a search, and changed by nobody else than its owner, who is root or we.
fn check(program: &Path) -> Result<(), Failure> {
    if !program.is_absolute() {
        return Err(Failure::Usage("--alert-command takes the whole path of a program".to_owned()));
    }
    let found = std::fs::metadata(program).map_err(|error| cannot(program, &error.to_string()))?;
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Err(cannot(program, "it is no program"));
    }
    if found.mode() & WRITABLE != 0 || ![0, geteuid().as_raw()].contains(&found.uid()) {
        return Err(cannot(program, "others may change it"));
    }
    Ok(())
}

fn cannot(program: &Path, why: &str) -> Failure {
    let program = escape_control(&program.to_string_lossy());
    Failure::Failed(anyhow::anyhow!("{program} cannot be run for alerts: {why}"))
}

/// Starts the program, without a shell and without arguments. It has a group of its own, so that what is typed at our
/// terminal is not for it; what it says goes where our own messages go.
fn start(program: &Path, alarm: &Alarm) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(io::stderr().as_fd().try_clone_to_owned()?).process_group(0);
    command.current_dir("/");
    command.env("FDTRACE_ALERT", &alarm.sentence).env("FDTRACE_ALERT_LIMIT", escape_control(&alarm.limit));
    command.env("FDTRACE_ALERT_PERCENT", format!("{:.1}", alarm.percent));
    match alarm.pid {
        Some(pid) => command.env("FDTRACE_ALERT_PID", pid.to_string()),
        None => command.env_remove("FDTRACE_ALERT_PID"),
    };
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // It fits into the pipe, and who does not read it does not want it.
        let _ = writeln!(input, "{}", alarm.sentence);
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_may_be_run() {
        assert!(matches!(check(Path::new("true")), Err(Failure::Usage(_))));
        assert!(check(Path::new("/no/such/program")).is_err());
        assert!(check(Path::new("/")).is_err());
        assert!(check(Path::new("/proc/self/maps")).is_err());
    }
}
