//! Child processes that read what strangers wrote, and can do nothing else.
//!
//! The tracer is root and its targets are not, but what a call stack means stands in files that anybody may have made up.
//! Their bytes lead parsers, so the parsers run in processes of their own, which get open files and give back answers. Such a
//! process is `nobody`, has no capabilities and never will, can open, write and run nothing (seccomp), and has a limit of
//! memory. Whoever asks waits only for a certain time; a child that is late, dies or lies is replaced.
//!
//! A *spawner* is forked before anything is attached and before there are threads. It has given up what its children must not
//! have, and forks them when asked: they are no descendants that the tracer would follow, and copies of little memory.

mod channel;
mod confine;
mod deadline;
mod spawner;

use std::time::{Duration, Instant};

use self::deadline::Deadline;
pub(crate) use self::{channel::Channel, confine::Limits, spawner::Spawner};

/// Answers one request; `None` ends the child. The descriptors that came along are closed when they are dropped.
pub(crate) type Serve = fn(&mut Channel);

/// A child that answers one question at a time.
pub(crate) struct Child {
    spawner: Spawner,
    running: Option<Running>,
    /// Children before this one; what they had read is gone.
    pub(crate) generation: u64,
}

struct Running {
    pid: libc::pid_t,
    channel: Channel,
    answered: u64,
    /// When it was last asked.
    last: Instant,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It took too long.
    Late,
    /// The child ended: what it read was broken, or asked for too much memory.
    Died,
    /// There can be no child.
    NoChild,
}

impl Child {
    /// A child that is started by its first question.
    pub(crate) const fn new(spawner: Spawner) -> Self {
        Self { spawner, running: None, generation: 0 }
    }

    /// Asks; what comes back is a stranger's as much as the files that went there.
    ///
    /// A child that has answered before may have died of what it had to keep: the question is put once more to a new one.
    pub(crate) fn ask(
        &mut self,
        request: &[u8],
        files: &[&std::fs::File],
        patience: Duration,
    ) -> Result<Vec<u8>, Unanswered> {
        loop {
            let running = self.running().ok_or(Unanswered::NoChild)?;
            let mut until = Deadline::for_process(patience, running.pid);
            let sent = running.channel.send(request, files, &mut until);
            match sent.and_then(|()| running.channel.receive(&mut until)) {
                Ok(message) => {
                    running.answered += 1;
                    running.last = Instant::now();
                    return Ok(message.bytes);
                }
                Err(error) => {
                    let was_fresh = running.answered == 0;
                    self.end();
                    if error.kind() == std::io::ErrorKind::TimedOut {
                        return Err(Unanswered::Late);
                    }
                    if was_fresh {
                        return Err(Unanswered::Died);
                    }
                }
            }
        }
    }

    /// Ends the process if nobody has asked it anything for so long; the next question starts another one.
    pub(crate) fn rest(&mut self, after: Duration) {
        if self.running.as_ref().is_some_and(|running| running.last.elapsed() > after) {
            self.end();
        }
    }

    /// The process, for whoever wants to look at what it may do.
    pub(crate) fn pid(&mut self) -> Option<u32> {
        self.running().and_then(|running| u32::try_from(running.pid).ok())
    }

    fn running(&mut self) -> Option<&mut Running> {
        if self.running.is_none() {
            let (pid, channel) = self.spawner.spawn().ok()?;
            self.running = Some(Running { pid, channel, answered: 0, last: Instant::now() });
        }
        self.running.as_mut()
    }

    fn end(&mut self) {
        if let Some(Running { pid, .. }) = self.running.take() {
            self.spawner.end(pid);
            self.generation += 1;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
