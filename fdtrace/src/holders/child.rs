//! The child process that reads the iterators.
//!
//! Memory of a process can be locked for as long as a page of a hung file system takes to come, and whoever looks at a
//! file may be the one to drop its last reference, and runs what there is to clean up. Neither may keep the answer back.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::{prctl::set_pdeathsig, signal::Signal};

use super::samples::Samples;
use crate::{
    kernel::{HandleCounter, HolderWalk, Walk, walk_records},
    process::procfs::Text,
};

/// What a portion of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Tasks = 1,
    Descriptors = 2,
    Mappings = 3,
    /// The number of an IPC namespace, and what its `/proc/sysvipc/shm` says.
    Segments = 4,
    /// The stage by its number, and why nothing can be seen of it.
    Missing = 5,
    End = 6,
    /// The number of handles as the kernel counts them during the walks: the last, the least, the most.
    Counted = 7,
}

impl Stage {
    fn from_number(number: u32) -> Option<Self> {
        [
            Self::Tasks,
            Self::Descriptors,
            Self::Mappings,
            Self::Segments,
            Self::Missing,
            Self::End,
            Self::Counted,
        ]
        .into_iter()
        .find(|stage| *stage as u32 == number)
    }
}

/// Bytes of one portion at most.
const PORTION: usize = 1 << 18;

/// How the child's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All of it was read.
    Whole,
    /// The time was up in this stage.
    Deadline(Stage),
    /// The child died in this stage.
    Died(Stage),
}

/// The child. It stays, with all that it has open, until this is dropped: whoever counts handles meanwhile counts those
/// that its walks saw.
pub(super) struct Child {
    pid: libc::pid_t,
    /// Our end, which its walks saw as well.
    pipe: File,
}

impl Drop for Child {
    fn drop(&mut self) {
        end(self.pid);
    }
}

/// Runs the walks in a child process, and hands what they give to `take`.
///
/// # Errors
/// When there can be no child.
pub(super) fn run(
    programs: &HolderWalk,
    counter: &HandleCounter,
    deadline: Duration,
    take: impl FnMut(Stage, &[u8]),
) -> io::Result<(Ending, Child)> {
    let until = Instant::now() + deadline;
    let (reader, writer) = pipe()?;
    // SAFETY: the caller has no other thread, so the child finds every lock as it was left; it ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        drop(reader);
        // A walk that hangs does not outlive a parent that is killed; one that is gone already reads nothing.
        let _ = set_pdeathsig(Signal::SIGKILL);
        let status = i32::from(work(programs, counter, &mut File::from(writer)).is_err());
        // SAFETY: ends this process without running what the parent has registered.
        unsafe { libc::_exit(status) };
    }
    drop(writer);
    let mut child = Child { pid: child, pipe: File::from(reader) };
    let ending = receive(&mut child.pipe, until, take)?;
    Ok((ending, child))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made them for us.
    let ends = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let [reader, writer] = ends;
    // Larger is faster; what is refused is only slower.
    // SAFETY: changes nothing but the pipe's size.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20) };
    Ok((reader, writer))
}

/// What the child does.
fn work(programs: &HolderWalk, counter: &HandleCounter, out: &mut File) -> io::Result<()> {
    let mut tasks = Vec::new();
    drop(walk(&programs.tasks, Stage::Tasks, out, |bytes| tasks.extend_from_slice(bytes))?);
    let mut samples = Samples::new(programs, counter);
    // Open until the end: this walk sees it, so it counts.
    let walked = walk(&programs.descriptors, Stage::Descriptors, out, |_| samples.take_if_cheap(0))?;
    samples.take(0);
    if walked.is_some() {
        tell(out, Stage::Counted, &samples.bytes())?;
    }
    // Before the mappings, which may block.
    segments(&tasks, out)?;
    samples.take(0);
    drop(walk(&programs.mappings, Stage::Mappings, out, |_| samples.take_if_cheap(1))?);
    samples.take(0);
    if walked.is_some() {
        tell(out, Stage::Counted, &samples.bytes())?;
    }
    tell(out, Stage::End, &[])?;
    loop {
        // SAFETY: waits for a signal; the parent sends one that ends this process.
        unsafe { libc::pause() };
    }
}

/// Reads all that a walk gives; the file is still open.
fn walk(walk: &Walk, stage: Stage, out: &mut File, also: impl FnMut(&[u8])) -> io::Result<Option<File>> {
    match walk.begin() {
        Ok(mut file) => read(&mut file, stage, out, also).map(|()| Some(file)),
        Err(reason) => missing(out, stage, &reason).map(|()| None),
    }
}

/// Calls `also` for each part that the kernel gives.
fn read(file: &mut File, stage: Stage, out: &mut File, mut also: impl FnMut(&[u8])) -> io::Result<()> {
    tell(out, stage, &[])?;
    let mut buffer = vec![0; PORTION];
    loop {
        let filled = match fill(file, &mut buffer, &mut also) {
            Ok(filled) => filled,
            Err(error) => return missing(out, stage, &error.to_string()),
        };
        if filled == 0 {
            return Ok(());
        }
        tell(out, stage, &buffer[..filled])?;
    }
}

/// Reads until the buffer is nearly full: the kernel gives a few pages at a time.
fn fill(file: &mut File, buffer: &mut [u8], also: &mut impl FnMut(&[u8])) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => {
                also(&buffer[filled..filled + more]);
                filled += more;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn missing(out: &mut File, stage: Stage, reason: &str) -> io::Result<()> {
    let mut text = vec![stage as u8];
    text.extend_from_slice(reason.as_bytes());
    tell(out, Stage::Missing, &text)
}

/// Reads the segments of every IPC namespace, from inside it.
fn segments(tasks: &[u8], out: &mut File) -> io::Result<()> {
    for (namespace, members) in ipc_namespaces(tasks) {
        match segments_of(&members) {
            Ok(text) => {
                for lines in portions(&text) {
                    tell(out, Stage::Segments, &[&namespace.to_ne_bytes()[..], lines].concat())?;
                }
            }
            // Whoever was in it is gone, and so is it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && members.len() < MEMBERS => (),
            Err(error) => {
                let process = members.first().copied().unwrap_or(0);
                let reason = format!("of IPC namespace {namespace} (process {process}): {error}");
                missing(out, Stage::Segments, &reason)?;
            }
        }
    }
    Ok(())
}

/// Processes that are kept of each namespace: the first may be gone.
const MEMBERS: usize = 8;

/// Each IPC namespace, and some of the processes in it.
fn ipc_namespaces(tasks: &[u8]) -> BTreeMap<u32, Vec<u32>> {
    let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    walk_records::tasks(tasks, |task| {
        if task.ipc_namespace != 0 {
            let members = found.entry(task.ipc_namespace).or_default();
            if members.len() < MEMBERS && !members.contains(&task.tgid) {
                members.push(task.tgid);
            }
        }
    });
    found
}

fn segments_of(members: &[u32]) -> io::Result<Text> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for tgid in members {
        result = enter_ipc(*tgid).and_then(|()| Text::read("/proc/sysvipc/shm"));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Parts that fit into a portion behind the number of a namespace; each ends with a line.
fn portions(text: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let most = rest.len().min(PORTION - size_of::<u32>());
        let end =
            if most == rest.len() { None } else { rest[..most].iter().rposition(|byte| *byte == b'\n') };
        let (part, others) = rest.split_at(end.map_or(most, |end| end + 1));
        parts.push(part);
        rest = others;
    }
    parts
}

fn enter_ipc(tgid: u32) -> io::Result<()> {
    let wanted = format!("/proc/{tgid}/ns/ipc");
    if std::fs::read_link(&wanted)? == std::fs::read_link("/proc/self/ns/ipc")? {
        return Ok(());
    }
    let namespace = File::open(wanted)?;
    // SAFETY: changes the namespace of this process, which has one thread and ends soon.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWIPC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn tell(out: &mut File, stage: Stage, bytes: &[u8]) -> io::Result<()> {
    for part in bytes.chunks(PORTION).chain(bytes.is_empty().then_some(bytes)) {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        let mut header = (stage as u32).to_ne_bytes().to_vec();
        header.extend_from_slice(&length.to_ne_bytes());
        out.write_all(&header)?;
        out.write_all(part)?;
    }
    Ok(())
}

/// Takes in what the child says, until it has said all, or the time is up.
fn receive(pipe: &mut File, until: Instant, mut take: impl FnMut(Stage, &[u8])) -> io::Result<Ending> {
    let mut portion = vec![0; PORTION];
    let mut stage = Stage::Tasks;
    loop {
        let mut header = [0; 8];
        match read_until(pipe, &mut header, until)? {
            Got::All => (),
            Got::TimeIsUp => return Ok(Ending::Deadline(stage)),
            Got::End => return Ok(Ending::Died(stage)),
        }
        let number = |at: usize| super::memory::half(&header, at);
        let Some(next) = Stage::from_number(number(0)) else { return Ok(Ending::Died(stage)) };
        if next == Stage::End {
            return Ok(Ending::Whole);
        }
        if next != Stage::Missing {
            stage = next;
        }
        let Some(bytes) = portion.get_mut(..number(4) as usize) else { return Ok(Ending::Died(stage)) };
        match read_until(pipe, bytes, until)? {
            Got::All => take(next, bytes),
            Got::TimeIsUp => return Ok(Ending::Deadline(stage)),
            Got::End => return Ok(Ending::Died(stage)),
        }
    }
}

enum Got {
    All,
    TimeIsUp,
    End,
}

fn read_until(pipe: &mut File, bytes: &mut [u8], until: Instant) -> io::Result<Got> {
    let mut filled = 0;
    while filled < bytes.len() {
        if !wait(pipe, until) {
            return Ok(Got::TimeIsUp);
        }
        match pipe.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(Got::End),
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(Got::All)
}

/// Whether there is something to read before the time is up.
fn wait(pipe: &File, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let timeout = libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX);
        let mut poll = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure.
        match unsafe { libc::poll(&raw mut poll, 1, timeout) } {
            0 => return false,
            more if more > 0 => return true,
            _ if Instant::now() >= until => return false,
            _ => (),
        }
    }
}

/// Ends the child. One that the kernel does not let go is left to itself.
fn end(child: libc::pid_t) {
    const TIMEOUT: u32 = 100;
    // SAFETY: our own child, which nobody has waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    for _ in 0..TIMEOUT {
        // SAFETY: as above; the status is not wanted.
        if unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) } != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::tag;

    use super::*;
    use crate::holders::fixture::{Records, task};

    #[test]
    fn portions_end_with_lines() {
        let line = [b"7".repeat(120), b"\n".to_vec()].concat();
        let text = line.repeat(5000);
        let parts = portions(&text);
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() + 4 <= PORTION));
        assert!(parts.iter().all(|part| part.ends_with(b"\n")));
        assert_eq!(parts.concat(), text);
        assert_eq!(portions(&vec![b'x'; PORTION * 2]).len(), 3);
        assert!(portions(b"").is_empty());
    }

    #[test]
    fn a_few_processes_of_each_namespace() {
        let mut records = Records::default();
        for pid in 1..100 {
            let task = fdtrace_common::holder_walk::Task { ipc_namespace: pid % 3, ..task(pid, "app") };
            records.task(tag::TASK, &task).task(tag::TASK, &task);
        }
        let found = ipc_namespaces(&records.0);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&1, &2]);
        assert_eq!(found[&1], [1, 4, 7, 10, 13, 16, 19, 22]);
    }

    /// What arrives of what was said.
    fn heard(bytes: &[u8], deadline: Duration, close: bool) -> (Ending, Vec<(Stage, Vec<u8>)>) {
        let (reader, writer) = pipe().expect("a pipe");
        let mut writer = File::from(writer);
        writer.write_all(bytes).expect("room");
        let writer = Some(writer).filter(|_| !close);
        let mut found = Vec::new();
        let until = Instant::now() + deadline;
        let ending =
            receive(&mut File::from(reader), until, |stage, bytes| found.push((stage, bytes.to_vec())));
        drop(writer);
        (ending.expect("a pipe that can be read"), found)
    }

    fn said(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let part = |(stage, bytes): &(u32, &[u8])| {
            [&stage.to_ne_bytes()[..], &u32::try_from(bytes.len()).unwrap().to_ne_bytes(), bytes].concat()
        };
        parts.iter().flat_map(part).collect()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_child_that_says_all() {
        let bytes = said(&[(1, b""), (2, b"ab"), (5, b"\x03why"), (6, b"")]);
        let (ending, found) = heard(&bytes, LONG, true);
        assert_eq!(ending, Ending::Whole);
        let stages = [(Stage::Tasks, &b""[..]), (Stage::Descriptors, b"ab"), (Stage::Missing, b"\x03why")];
        assert_eq!(found, stages.map(|(stage, bytes)| (stage, bytes.to_vec())));
    }

    #[test]
    fn a_child_that_dies_or_says_nonsense() {
        let bytes = said(&[(1, b""), (3, b"abcd")]);
        for end in [bytes.len() - 1, bytes.len() - 4, bytes.len()] {
            assert_eq!(heard(&bytes[..end], LONG, true).0, Ending::Died(Stage::Mappings), "{end}");
        }
        assert_eq!(heard(&bytes[..11], LONG, true).0, Ending::Died(Stage::Tasks));
        let nonsense =
            [[77u32, 0].map(u32::to_ne_bytes).concat(), [2, u32::MAX].map(u32::to_ne_bytes).concat()];
        assert_eq!(heard(&nonsense[0], LONG, false).0, Ending::Died(Stage::Tasks));
        assert_eq!(heard(&nonsense[1], LONG, false).0, Ending::Died(Stage::Descriptors));
    }

    #[test]
    fn a_child_that_hangs() {
        let (ending, found) = heard(&said(&[(2, b"ab"), (5, b"\x02why")]), Duration::from_millis(20), false);
        assert_eq!((ending, found.len()), (Ending::Deadline(Stage::Descriptors), 2));
    }
}
