//! The process that forks the children.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Channel, Limits, Serve, confine, deadline::Deadline};

/// Forking takes less, also in an emulated machine.
const TIMEOUT: Duration = Duration::from_secs(10);

const FORK: u8 = b'f';
const END: u8 = b'e';

/// A handle to the process; it ends with the last of them.
#[derive(Clone)]
pub(crate) struct Spawner(Arc<Inner>);

struct Inner {
    channel: Mutex<Channel>,
    pid: libc::pid_t,
}

impl Spawner {
    /// Forks the spawner, whose children will run `serve`. To be called before there are other threads but the one that takes
    /// signals, and before anything
    /// follows what this process starts.
    ///
    /// # Errors
    /// When there can be no such process.
    pub(crate) fn start(serve: Serve, limits: Limits) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        #[expect(clippy::disallowed_methods, reason = "a device, which is the same for everybody")]
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        // SAFETY: the child runs only code of this module and `serve`, which take no lock that another thread may hold; it
        // ends by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            drop(ours);
            let status = i32::from(run(theirs, &nothing, serve, limits).is_none());
            // SAFETY: ends this process without running what the parent has registered.
            unsafe { libc::_exit(status) };
        }
        Ok(Self(Arc::new(Inner { channel: Mutex::new(ours), pid })))
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid.unsigned_abs()
    }

    /// Forks a child: its number, and our end of the channel to it.
    pub(super) fn spawn(&self) -> io::Result<(libc::pid_t, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        let channel = self.0.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let mut until = Deadline::after(TIMEOUT);
        channel.send_raw(&[FORK], &[theirs.end().as_raw_fd()], Some(&mut until))?;
        let answer = channel.receive(&mut until)?;
        let pid = answer.bytes.try_into().map(i32::from_ne_bytes).map_err(|_| ErrorKind::InvalidData)?;
        if pid <= 0 { Err(ErrorKind::Other.into()) } else { Ok((pid, ours)) }
    }

    /// Ends a child. One that the kernel does not let go is left to itself.
    pub(super) fn end(&self, pid: libc::pid_t) {
        let message = [&[END][..], &pid.to_ne_bytes()].concat();
        let channel = self.0.channel.lock().unwrap_or_else(PoisonError::into_inner);
        // A spawner that is gone has taken its children along.
        let _ = channel.send_raw(&message, &[], Some(&mut Deadline::after(TIMEOUT)));
    }
}

/// It ends when it reads the end of the channel, and is taken in.
impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: our own child, which nobody else ends or waits for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // SAFETY: as above; the status is not wanted.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

/// What the spawner does; `None` when it cannot confine itself.
fn run(channel: Channel, nothing: &File, serve: Serve, limits: Limits) -> Option<()> {
    let channel = confine::keep_only(channel, nothing)?;
    confine::give_up(limits)?;
    let mut children = Vec::new();
    while let Some(message) = channel.next() {
        reap(&mut children);
        match message.bytes.split_first()? {
            (&FORK, _) => {
                let end = OwnedFd::from(message.files.into_iter().next()?);
                let pid = fork(&channel, end, serve);
                children.extend(Some(pid).filter(|pid| *pid > 0));
                channel.answer(&pid.to_ne_bytes()).ok()?;
            }
            (&END, pid) => kill(&mut children, i32::from_ne_bytes(pid.try_into().ok()?)),
            _ => return None,
        }
    }
    // The tracer is gone, however it went.
    children.clone().into_iter().for_each(|pid| kill(&mut children, pid));
    Some(())
}

fn fork(channel: &Channel, end: OwnedFd, serve: Serve) -> libc::pid_t {
    // SAFETY: this process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // Only the spawner may ask for more children.
        // SAFETY: the number is the channel's, which is not used any more here.
        unsafe { libc::close(channel.end().as_raw_fd()) };
        if confine::seal().is_some() {
            serve(&mut Channel::of(end));
        }
        // SAFETY: ends this process without running what others have registered.
        unsafe { libc::_exit(0) };
    }
    pid
}

/// Nobody but its parent can kill a child whose number may be another's by now.
fn kill(children: &mut Vec<libc::pid_t>, pid: libc::pid_t) {
    if children.contains(&pid) {
        // SAFETY: a child of ours that nobody has waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        reap(children);
    }
}

fn reap(children: &mut Vec<libc::pid_t>) {
    // SAFETY: a child of ours; the status is not wanted.
    children.retain(|pid| unsafe { libc::waitpid(*pid, std::ptr::null_mut(), libc::WNOHANG) } == 0);
}
