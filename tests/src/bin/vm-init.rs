//! PID 1 of the virtual machines that `cargo xtask vm` boots.
//!
//! It mounts what a tracer needs, runs the commands of `/vm-commands` one after the other, and powers off. What the
//! commands write goes to the second serial port, where no kernel message can fall into the middle of a line; the
//! kernel's own messages stay on the first.

use anyhow::{Context as _, Result};
use fdtrace_tests::{
    guest::{COMMANDS, Command as GuestCommand, MARKER, Message},
    workload::bring_up_loopback,
};
use rustix::{
    mount::{MountFlags, mount},
    process::{Resource, Rlimit, WaitOptions, setrlimit, wait},
    system::{RebootCommand, reboot},
    termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, PipeReader, Write as _},
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
};

const OUTPUT: &str = "/dev/ttyS1";
const BUSYBOX: &str = "/bin/busybox";

/// What the exit statuses of a shell say for a command that could not be started.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// File system type and where it belongs. Order matters: later ones lie inside earlier ones.
const MOUNTS: [(&str, &str); 11] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/tmp"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("securityfs", "/sys/kernel/security"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Links that devtmpfs does not make, and where they lead.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// What systemd gives: the kernel's own hard limit is 4096, which no machine in use has.
const DESCRIPTORS: Rlimit = Rlimit { current: Some(1024), maximum: Some(524_288) };

fn main() {
    // PID 1 must not return: the kernel would panic, and the host would take that for a defect of the kernel.
    if let Err(error) = work() {
        eprintln!("vm-init: {error:#}");
    }
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        eprintln!("vm-init: cannot power off: {error}");
    }
    loop {
        thread::park();
    }
}

fn work() -> Result<()> {
    for (kind, target) in MOUNTS {
        mount_at(kind, target);
    }
    for (target, link) in LINKS {
        symlink(target, link).unwrap_or_else(|error| eprintln!("vm-init: cannot make {link}: {error}"));
    }
    bring_up_loopback().unwrap_or_else(|error| eprintln!("vm-init: no loopback interface: {error}"));
    install_busybox();
    setrlimit(Resource::Nofile, DESCRIPTORS)
        .unwrap_or_else(|error| eprintln!("vm-init: cannot set the limit of descriptors: {error}"));
    let mut port = open_port().with_context(|| format!("cannot use {OUTPUT}"))?;
    let commands = fs::read_to_string(COMMANDS).with_context(|| format!("cannot read {COMMANDS}"))?;
    for line in commands.lines() {
        let command = serde_json::from_str(line).with_context(|| format!("{COMMANDS}: {line}"))?;
        run(&command, &mut port)?;
    }
    tell(&mut port, &Message::Done { done: true })?;
    // Power goes off at once, with whatever still waits in the port's buffer.
    tcdrain(&port).context("cannot drain the serial port")
}

/// A file system that this kernel does not have is not our business: a test that needs it will say so.
fn mount_at(kind: &str, target: &str) {
    let mounted =
        fs::create_dir_all(target).and_then(|()| Ok(mount(kind, target, kind, MountFlags::empty(), None)?));
    // A kernel that mounts devtmpfs itself has done so already.
    if let Err(error) = mounted
        && error.kind() != io::ErrorKind::ResourceBusy
    {
        eprintln!("vm-init: cannot mount {kind} at {target}: {error}");
    }
}

/// A shell and its tools, for people who look around in a guest by hand. No test may need them.
fn install_busybox() {
    if !Path::new(BUSYBOX).exists() {
        return;
    }
    if let Err(error) = Command::new(BUSYBOX).args(["--install", "-s", "/bin"]).status() {
        eprintln!("vm-init: cannot set up busybox: {error}");
    }
}

/// Opens the serial port, without the terminal's habits such as a carriage return before each new line.
fn open_port() -> io::Result<File> {
    let port = OpenOptions::new().read(true).write(true).open(OUTPUT)?;
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    tcsetattr(&port, OptionalActions::Now, &settings)?;
    Ok(port)
}

/// Runs one command to its end, with nothing left over for the next.
fn run(command: &GuestCommand, port: &mut File) -> Result<()> {
    tell(port, &Message::Start { start: command.label.clone() })?;
    let (reader, writer) = io::pipe()?;
    let copy_to = port.try_clone()?;
    // Through a pipe, because programs colour and wrap their output for a terminal.
    let copier = thread::spawn(move || copy_lines(reader, copy_to));
    let status = match spawn(command, writer) {
        Ok(process) => shell_status(reap_until(process)?),
        Err(error) => {
            eprintln!("vm-init: cannot run {}: {error}", command.argv.join(" "));
            if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
        }
    };
    kill_left_overs();
    match copier.join() {
        Ok(copied) => copied.context("cannot pass on the output")?,
        Err(_) => anyhow::bail!("the thread that passes on the output panicked"),
    }
    tell(port, &Message::End { end: command.label.clone(), status })
}

/// Starts the command and gives its process id. The writing ends of the pipe are the child's alone afterwards.
fn spawn(command: &GuestCommand, writer: io::PipeWriter) -> io::Result<i32> {
    let (program, arguments) = command.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", "/bin"), ("HOME", "/tmp"), ("TMPDIR", "/tmp")])
        .envs(&command.env)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    Ok(child.id().cast_signed())
}

/// Copies whole lines, so that a marker never begins in the middle of one.
fn copy_lines(reader: PipeReader, mut port: File) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? != 0 {
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        port.write_all(&line)?;
        line.clear();
    }
    Ok(())
}

/// Waits for one process, and for every orphan that ends before it.
fn reap_until(process: i32) -> io::Result<ExitStatus> {
    loop {
        if let Some((pid, status)) = wait(WaitOptions::empty())?
            && pid.as_raw_pid() == process
        {
            return Ok(ExitStatus::from_raw(status.as_raw()));
        }
    }
}

/// Ends every process but ourselves, and waits until they are gone: a daemon of one command must not be seen by the
/// next, nor hold the pipe open.
fn kill_left_overs() {
    // SAFETY: kill takes no pointers; for process id -1 it excludes the caller and, for PID 1, kernel threads.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    // Ends with ECHILD, when no child is left.
    while wait(WaitOptions::empty()).is_ok() {}
}

fn shell_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(NOT_EXECUTABLE)
}

fn tell(port: &mut File, message: &Message) -> Result<()> {
    let message = serde_json::to_string(message)?;
    writeln!(port, "{MARKER}{message}").context("cannot write to the serial port")
}
