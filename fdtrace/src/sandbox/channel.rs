//! Messages between two processes: bytes, and open files with them.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
        socketpair,
    },
};

use super::deadline::Deadline;

/// The longest message. An answer has no more than the names of some hundred addresses.
pub(crate) const LONGEST: usize = 16 << 20;
/// The most files in one message.
pub(crate) const MAX_FILES: usize = 3;
/// A message begins with its length.
const HEADER: usize = 4;

/// What has arrived.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) files: Vec<File>,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        Ok((Self(one), Self(other)))
    }

    pub(super) const fn of(end: OwnedFd) -> Self {
        Self(end)
    }

    pub(super) const fn end(&self) -> &OwnedFd {
        &self.0
    }

    /// Sends a message whole.
    ///
    /// # Errors
    /// `TimedOut`, or what the kernel says; the other end cannot be used any more.
    pub(super) fn send(&self, bytes: &[u8], files: &[&File], until: &mut Deadline) -> io::Result<()> {
        let fds: Vec<RawFd> = files.iter().map(|file| file.as_raw_fd()).collect();
        self.send_raw(bytes, &fds, Some(until))
    }

    /// Sends an answer, however long it takes: whoever asked has a clock.
    pub(crate) fn answer(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_raw(bytes, &[], None)
    }

    pub(super) fn send_raw(
        &self,
        bytes: &[u8],
        fds: &[RawFd],
        mut until: Option<&mut Deadline>,
    ) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let message = [&length.to_ne_bytes()[..], bytes].concat();
        let rights = [ControlMessage::ScmRights(fds)];
        let mut sent = 0;
        while sent < message.len() {
            let control = if sent == 0 && !fds.is_empty() { &rights[..] } else { &[] };
            let part = [IoSlice::new(&message[sent..])];
            match sendmsg::<()>(self.0.as_raw_fd(), &part, control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(more) => sent += more,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, until.as_deref_mut())?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next message.
    ///
    /// # Errors
    /// `TimedOut`; `UnexpectedEof` when the other end is gone; `InvalidData` for what is no message.
    pub(super) fn receive(&self, until: &mut Deadline) -> io::Result<Message> {
        self.receive_by(Some(until))
    }

    /// The next message, whenever it comes; `None` when the other end is gone.
    pub(crate) fn next(&self) -> Option<Message> {
        self.receive_by(None).ok()
    }

    fn receive_by(&self, mut until: Option<&mut Deadline>) -> io::Result<Message> {
        let mut message = Message::default();
        let mut header = [0; HEADER];
        self.fill(&mut header, &mut message.files, until.as_deref_mut())?;
        let length = u32::from_ne_bytes(header) as usize;
        if length > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        // Memory follows what comes, not what is announced.
        while message.bytes.len() < length {
            let begun = message.bytes.len();
            message.bytes.resize(length.min(begun + (1 << 16)), 0);
            self.fill(&mut message.bytes[begun..], &mut message.files, until.as_deref_mut())?;
        }
        Ok(message)
    }

    fn fill(
        &self,
        bytes: &mut [u8],
        files: &mut Vec<File>,
        mut until: Option<&mut Deadline>,
    ) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read(&mut bytes[filled..], files) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => filled += more,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN, until.as_deref_mut())?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&self, bytes: &mut [u8], files: &mut Vec<File>) -> nix::Result<usize> {
        let mut space = cmsg_space!([RawFd; MAX_FILES]);
        let mut parts = [IoSliceMut::new(bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
                files.extend(fds.into_iter().map(|fd| unsafe { File::from_raw_fd(fd) }));
            }
        }
        Ok(message.bytes)
    }

    fn wait(&self, event: PollFlags, until: Option<&mut Deadline>) -> io::Result<()> {
        let timeout = match until.map(Deadline::left) {
            None => PollTimeout::NONE,
            Some(None) => return Err(ErrorKind::TimedOut.into()),
            // Rounded up, or the last millisecond would be spent turning round.
            Some(Some(left)) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(self.0.as_fd(), event)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
