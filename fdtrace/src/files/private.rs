//! A folder for a socket that one user may speak to.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AtFlags, OFlag, open},
    sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, mkdtemp, unlinkat},
};

/// Where it may be: in the first of these in which a folder can be made.
const PARENTS: [&str; 2] = ["/run", "/tmp"];

/// What the socket is called in it.
const SOCKET: &str = "scope";

/// A folder of ours, under a name that nobody has chosen, and a socket in it. Both go when this is dropped.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    path: PathBuf,
    folder: File,
}

impl PrivateFolder {
    /// Makes it; at first it is ours alone.
    ///
    /// # Errors
    /// When it can be made nowhere.
    pub(crate) fn create() -> io::Result<Self> {
        let make = |parent: &&str| mkdtemp(&Path::new(parent).join("fdtrace-XXXXXX"));
        let mut tries = PARENTS.iter().map(make);
        let first = tries.next().unwrap_or(Err(nix::Error::ENOENT));
        let path = first.or_else(|error| tries.find_map(Result::ok).ok_or(error))?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = open(&path, flags, Mode::empty())?.into();
        Ok(Self { path, folder })
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Lets in whom the socket, which has been made, is for. The folder stays ours: nobody can put something else in the
    /// socket's place.
    ///
    /// # Errors
    /// When its owner may not be changed.
    pub(crate) fn admit(&self, user: Option<(Uid, Gid)>) -> io::Result<()> {
        let rights = Mode::S_IRUSR | Mode::S_IWUSR;
        fchmodat(&self.folder, SOCKET, rights, FchmodatFlags::FollowSymlink)?;
        let Some((user, group)) = user else { return Ok(()) };
        fchownat(&self.folder, SOCKET, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        fchown(&self.folder, None, Some(group))?;
        Ok(fchmod(&self.folder, Mode::S_IRWXU | Mode::S_IXGRP)?)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // What is gone already need not be removed.
        let _ = unlinkat(&self.folder, SOCKET, UnlinkatFlags::NoRemoveDir);
        drop(std::fs::remove_dir(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::MetadataExt as _, net::UnixListener};

    use super::*;

    #[test]
    fn nothing_is_left_of_it_and_others_are_kept_out() -> io::Result<()> {
        let folder = PrivateFolder::create()?;
        let _listener = UnixListener::bind(folder.socket())?;
        folder.admit(None)?;
        let mode = |path: &Path| std::fs::metadata(path).map(|found| found.mode() & 0o777);
        assert_eq!((mode(&folder.path)?, mode(&folder.socket())?), (0o700, 0o600));
        let path = folder.path.clone();
        drop(folder);
        assert!(!path.exists());
        Ok(())
    }
}
