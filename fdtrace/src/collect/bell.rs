//! Wakes the collector: it waits for a descriptor, so a channel alone does not.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
};

/// The end that can be waited for.
pub(super) struct Bell(UnixStream);

/// The end that rings.
pub(super) struct Ringer(UnixStream);

pub(super) fn bell() -> io::Result<(Ringer, Bell)> {
    let (ringer, bell) = UnixStream::pair()?;
    ringer.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    Ok((Ringer(ringer), Bell(bell)))
}

impl Ringer {
    pub(super) fn ring(&self) {
        // When there is no room it rings already.
        let _ = (&self.0).write(&[1]);
    }
}

impl Bell {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn silence(&self) {
        let mut rings = [0; 64];
        while (&self.0).read(&mut rings).is_ok_and(|read| read == rings.len()) {}
    }
}
