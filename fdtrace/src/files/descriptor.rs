//! Names of descriptors: what whoever started fdtrace has opened for it.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, RawFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
};

/// A copy of the descriptor that a path names (`/dev/stdout`, `/dev/fd/63`, `/proc/self/fd/63`); nothing when it names none.
/// Opening the name instead would open a pipe's path, or a file from its beginning.
pub(super) fn named(path: &Path) -> Option<io::Result<File>> {
    let number = number(path)?;
    // SAFETY: a number that is no descriptor is refused by the kernel, and the borrowed one lives for this call only.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Some(borrowed.try_clone_to_owned().map(File::from))
}

/// The same, when it can be written.
pub(super) fn writable(path: &Path) -> Option<io::Result<File>> {
    let check = |file: File| {
        let flags = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
        match flags & OFlag::O_ACCMODE {
            OFlag::O_WRONLY | OFlag::O_RDWR => Ok(file),
            _ => Err(Errno::EBADF.into()),
        }
    };
    Some(named(path)?.and_then(check))
}

fn number(path: &Path) -> Option<RawFd> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        other => {
            let digits =
                ["/dev/fd/", "/proc/self/fd/"].iter().find_map(|folder| other.strip_prefix(folder))?;
            digits.parse().ok().filter(|number: &RawFd| *number >= 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_others() {
        let of = |path: &str| number(Path::new(path));
        assert_eq!([of("/dev/stdin"), of("/dev/fd/63"), of("/proc/self/fd/7")], [Some(0), Some(63), Some(7)]);
        assert_eq!([of("/dev/null"), of("/dev/fd/x"), of("/dev/fd/-1"), of("/proc/1/fd/7")], [None; 4]);
        assert!(named(Path::new("/dev/fd/9999")).unwrap().is_err());
    }
}
