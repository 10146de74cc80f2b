//! One run of QEMU.

use super::console::{self, Console};
use crate::run::{self, Running};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::{
    collections::VecDeque,
    io::{self, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// The machine. Emulation, not KVM: it works everywhere, also inside of other virtual machines, and always in the same
/// way.
///
/// `max` has all that the emulator can do. Without cmpxchg16b, which some versions of QEMU emulate wrongly: kernels from
/// 6.12 on use it in their allocator, and half of their boots end in a panic there.
const MACHINE: &str = "-accel tcg,thread=multi -cpu max,cx16=off -m 1G -smp 2 -display none -nodefaults -no-user-config \
                       -no-reboot -chardev file,id=messages,path=/dev/stderr -serial chardev:messages -serial stdio";

/// Errors and worse are shown, an oops is a panic, and a panic ends the machine.
///
/// What takes a processor a second takes an emulated one a quarter of a minute, longer if others want this machine's cores
/// too, and its clock goes on meanwhile: it has stalled when nothing has happened for two minutes, not for twenty seconds.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 oops=panic no_timer_check rdinit=/init \
                                   rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60";

/// After the first fatal message the kernel still says why.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long QEMU may take to end after the guest has run everything.
const POWER_OFF: Duration = Duration::from_secs(30);
/// How much of the kernel's messages is kept.
const MESSAGES: usize = 200;

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Ending {
    /// Every command ran, and the guest powered off.
    #[default]
    PoweredOff,
    /// The watchdog ended it.
    TimedOut(Duration),
    /// The kernel failed, or QEMU itself ended; the text says how.
    Failed(String),
}

/// What came out of a run.
#[derive(Default)]
pub(super) struct Run {
    pub(super) ending: Ending,
    pub(super) console: Console,
    /// The kernel's last messages.
    pub(super) messages: VecDeque<String>,
    /// From the start of QEMU to the first word of a command.
    pub(super) boot_time: Option<Duration>,
}

/// Says what to install when QEMU is not there.
pub(super) fn require() -> Result<()> {
    if run::probe(Command::new(PROGRAM).arg("--version")).is_none() {
        bail!("{PROGRAM} is not on PATH: install it, or run `cargo xtask vm --install` as root on Debian");
    }
    Ok(())
}

/// Boots and follows the guest to its end. `show` gets each line that a command writes.
pub(super) fn run(kernel: &Path, initramfs: &[u8], timeout: Duration, show: &dyn Fn(&str)) -> Result<Run> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let initrd = folder.path().join("initramfs");
    std::fs::write(&initrd, initramfs).context("cannot write the initramfs")?;
    let mut machine = start(kernel, &initrd)?;
    let lines = lines(&mut machine.0)?;
    Ok(Follower::new(timeout, show).follow(&lines))
}

/// The kernel's messages go where QEMU writes its own; what commands write has a serial port to itself.
fn start(kernel: &Path, initrd: &Path) -> Result<Running> {
    let mut qemu = Command::new(PROGRAM);
    qemu.args(MACHINE.split(' ')).arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    qemu.args(["-append", KERNEL_COMMAND_LINE]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Drop does not run when we are killed.
    // SAFETY: between fork and exec only one system call is made, which allocates nothing and takes no lock.
    unsafe {
        qemu.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    Ok(Running(qemu.spawn().with_context(|| format!("cannot start {PROGRAM}"))?))
}

/// The lines of both. The channel closes when QEMU has ended.
fn lines(qemu: &mut Child) -> Result<Receiver<Source>> {
    let messages = qemu.stderr.take().context("QEMU has no standard error")?;
    let output = qemu.stdout.take().context("QEMU has no standard output")?;
    let (sender, receiver) = channel();
    let outputs = sender.clone();
    thread::spawn(move || forward(messages, &sender, Source::Kernel));
    thread::spawn(move || forward(output, &outputs, Source::Command));
    Ok(receiver)
}

/// A line, and which serial port it came from.
enum Source {
    Kernel(String),
    Command(String),
}

fn forward(stream: impl Read, lines: &Sender<Source>, source: fn(String) -> Source) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some(line)) = read_line(&mut reader) {
        if lines.send(source(line)).is_err() {
            return;
        }
    }
}

/// The next line, without line ending and carriage returns; what is not UTF-8 is replaced.
fn read_line(reader: &mut impl io::BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    line.retain(|byte| !matches!(byte, b'\n' | b'\r'));
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Reads what the guest says until there is a reason to end.
struct Follower<'a> {
    show: &'a dyn Fn(&str),
    started: Instant,
    timeout: Duration,
    deadline: Instant,
    run: Run,
    fatal: Option<&'static str>,
}

impl<'a> Follower<'a> {
    fn new(timeout: Duration, show: &'a dyn Fn(&str)) -> Self {
        let started = Instant::now();
        Self { show, started, timeout, deadline: started + timeout, run: Run::default(), fatal: None }
    }

    fn follow(mut self, lines: &Receiver<Source>) -> Run {
        let ended = loop {
            match lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(Source::Kernel(line)) => self.kernel(line),
                Ok(Source::Command(line)) => self.command(&line),
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        Run { ending: self.ending(ended), ..self.run }
    }

    fn kernel(&mut self, line: String) {
        if self.fatal.is_none() {
            self.fatal = console::fatal(&line);
            if self.fatal.is_some() {
                self.end_within(LAST_WORDS);
            }
        }
        if self.run.messages.len() == MESSAGES {
            self.run.messages.pop_front();
        }
        self.run.messages.push_back(line);
    }

    fn command(&mut self, line: &str) {
        self.run.boot_time.get_or_insert_with(|| self.started.elapsed());
        if let Some(output) = self.run.console.line(line) {
            (self.show)(output);
        }
        if self.run.console.is_done() {
            self.end_within(POWER_OFF);
        }
    }

    fn end_within(&mut self, time: Duration) {
        self.deadline = self.deadline.min(Instant::now() + time);
    }

    /// Why it ended. A guest that has run everything has done its work, even if it then does not power off.
    fn ending(&self, ended: bool) -> Ending {
        match self.fatal {
            _ if self.run.console.is_done() => Ending::PoweredOff,
            Some(fatal) => Ending::Failed(fatal.into()),
            None if ended => Ending::Failed("QEMU ended before the guest had run everything".into()),
            None => Ending::TimedOut(self.timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_carriage_returns() {
        let mut reader = &b"one\r\ntwo\xff\r\r\nrest"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut reader).expect("reading from memory") {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "two\u{fffd}", "rest"]);
    }

    fn follow(timeout: Duration, lines: Vec<Source>, close: bool) -> Run {
        let (sender, receiver) = channel();
        for line in lines {
            sender.send(line).expect("the receiver is there");
        }
        let keep = (!close).then_some(sender);
        let run = Follower::new(timeout, &|_| {}).follow(&receiver);
        drop(keep);
        run
    }

    #[test]
    fn endings_are_told_apart() {
        let done = || Source::Command(r#"@vm-init {"done":true}"#.into());
        let panic = || Source::Kernel("Kernel panic - not syncing: x".into());
        let minute = Duration::from_secs(60);
        assert_eq!(follow(minute, vec![done()], true).ending, Ending::PoweredOff);
        assert_eq!(follow(minute, vec![panic()], true).ending, Ending::Failed("kernel panic".into()));
        assert!(matches!(follow(minute, vec![], true).ending, Ending::Failed(_)));
        assert_eq!(follow(Duration::ZERO, vec![], false).ending, Ending::TimedOut(Duration::ZERO));
    }
}
