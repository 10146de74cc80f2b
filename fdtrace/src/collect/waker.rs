//! Wakes the collector: it waits for a descriptor, so a channel alone does not.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
};

/// The end that can be waited for.
pub(super) struct Waker(UnixStream);

/// The end that rings.
pub(super) struct Ringer(UnixStream);

pub(super) fn waker() -> io::Result<(Ringer, Waker)> {
    let (ringer, waker) = UnixStream::pair()?;
    ringer.set_nonblocking(true)?;
    waker.set_nonblocking(true)?;
    Ok((Ringer(ringer), Waker(waker)))
}

impl Ringer {
    pub(super) fn ring(&self) {
        // When there is no room it rings already.
        let _ = (&self.0).write(&[1]);
    }
}

impl Waker {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn silence(&self) {
        let mut rings = [0; 64];
        while (&self.0).read(&mut rings).is_ok_and(|read| read == rings.len()) {}
    }
}
