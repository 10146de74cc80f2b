//! A path that is walked once.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, openat, readlinkat, renameat, renameat2},
    sys::stat::Mode,
    unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat},
};

use super::{is_trusted, refused};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A folder that is open, and a name in it. Whatever happens to the path, it stays this folder.
#[derive(Debug)]
pub(crate) struct Place {
    folder: OwnedFd,
    name: OsString,
}

/// What becomes of the last component, when it is a symbolic link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// Nothing: what lies at the name is asked later.
    Kept,
    /// It is followed as those before it.
    Followed,
}

impl Place {
    /// The place that a file is written to.
    ///
    /// # Errors
    /// A folder that is not there or may not be entered, and a symbolic link on the way that is neither root's nor ours: a
    /// stranger would choose what is written.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Self::walk(path, Last::Kept)
    }

    pub(super) fn walk(path: &Path, last: Last) -> io::Result<Self> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Errno::EISDIR.into());
        }
        let mut way = Way::new(path)?;
        loop {
            let Some(next) = way.ahead.pop_front() else { return Err(Errno::EISDIR.into()) };
            let is_last = way.ahead.is_empty() && next != "..";
            if is_last && last == Last::Kept {
                return Ok(Self { folder: way.folder, name: next });
            }
            match way.step(&next)? {
                Step::Link(target) => way.turn(&target)?,
                Step::Absent if is_last => return Ok(Self { folder: way.folder, name: next }),
                Step::Absent => return Err(Errno::ENOENT.into()),
                Step::Thing(_) if is_last => return Ok(Self { folder: way.folder, name: next }),
                Step::Thing(folder) => way.folder = folder,
            }
        }
    }

    /// The same folder, another name.
    pub(super) fn sibling(&self, name: OsString) -> io::Result<Self> {
        Ok(Self { folder: self.folder.try_clone()?, name })
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// What lies there, if anything; a symbolic link is not followed.
    pub(super) fn metadata(&self) -> io::Result<Option<Metadata>> {
        match self.open(OFlag::O_PATH) {
            Ok(file) => file.metadata().map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens what lies there: no symbolic link, and without waiting for anybody.
    pub(super) fn open(&self, flags: OFlag) -> io::Result<File> {
        self.open_with(flags, Mode::empty())
    }

    /// Creates a file; there must be none.
    pub(super) fn create(&self, access: OFlag, mode: Mode) -> io::Result<File> {
        self.open_with(access | OFlag::O_CREAT | OFlag::O_EXCL, mode)
    }

    fn open_with(&self, flags: OFlag, mode: Mode) -> io::Result<File> {
        // Opening a FIFO waits for its other end unless told not to.
        let always = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        Ok(openat(&self.folder, self.name.as_os_str(), flags | always, mode)?.into())
    }

    /// Whether files can be made in the folder.
    pub(super) fn check_folder(&self) -> io::Result<()> {
        let rights = AccessFlags::W_OK | AccessFlags::X_OK;
        Ok(faccessat(&self.folder, ".", rights, AtFlags::AT_EACCESS)?)
    }

    /// Gives this name to what has another one in the same folder; what had it is replaced.
    pub(super) fn take_over(&self, from: &Self) -> io::Result<()> {
        Ok(renameat(&from.folder, from.name(), &self.folder, self.name())?)
    }

    /// The same, when there is nothing of this name.
    pub(super) fn take_if_free(&self, from: &Self) -> io::Result<()> {
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&from.folder, from.name(), &self.folder, self.name(), flags) {
            // A file system that cannot.
            Err(Errno::EINVAL | Errno::ENOSYS) => self.take_over(from),
            result => Ok(result?),
        }
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.folder, self.name(), UnlinkatFlags::NoRemoveDir)?)
    }
}

/// What a component of a path is.
enum Step {
    Thing(OwnedFd),
    Link(PathBuf),
    Absent,
}

struct Way {
    folder: OwnedFd,
    ahead: VecDeque<OsString>,
    links: usize,
}

impl Way {
    fn new(path: &Path) -> io::Result<Self> {
        let mut way = Self { folder: start(path)?, ahead: VecDeque::new(), links: 0 };
        way.ahead.extend(components(path));
        Ok(way)
    }

    fn step(&self, name: &OsStr) -> io::Result<Step> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found: File = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(found) => found.into(),
            Err(Errno::ENOENT) => return Ok(Step::Absent),
            Err(error) => return Err(error.into()),
        };
        let about = found.metadata()?;
        if !about.is_symlink() {
            return Ok(Step::Thing(found.into()));
        }
        if !is_trusted(about.uid()) {
            return Err(refused("a symbolic link on the way is another user's"));
        }
        // An empty name is the link that is open.
        Ok(Step::Link(readlinkat(&found, "")?.into()))
    }

    /// Goes on where a link leads.
    fn turn(&mut self, target: &Path) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP.into());
        }
        if target.is_absolute() {
            self.folder = start(target)?;
        }
        for name in components(target).into_iter().rev() {
            self.ahead.push_front(name);
        }
        Ok(())
    }
}

/// Where a path begins.
fn start(path: &Path) -> io::Result<OwnedFd> {
    let begin = if path.is_absolute() { "/" } else { "." };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(AT_FDCWD, begin, flags, Mode::empty())?)
}

fn components(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{create_dir, write},
        os::unix::fs::{lchown, symlink},
    };

    use super::{super::fixture::Folder, *};

    #[test]
    fn it_stays_where_it_was_found() {
        let folder = Folder::new("place");
        let (inner, moved) = (folder.join("inner"), folder.join("moved"));
        create_dir(&inner).unwrap();
        let place = Place::of(&inner.join("../inner/./file")).unwrap();
        std::fs::rename(&inner, &moved).unwrap();
        symlink("/", &inner).unwrap();
        place.create(OFlag::O_WRONLY, Mode::from_bits_truncate(0o600)).unwrap();
        assert!(moved.join("file").is_file());
        assert!(Place::of(&folder.join("gone/file")).is_err() && Place::of(Path::new("/")).is_err());
        assert!(Place::of(&folder.join("moved/")).is_err());
    }

    #[test]
    fn links_of_ours_are_followed_on_the_way() {
        let folder = Folder::new("links");
        create_dir(folder.join("real")).unwrap();
        symlink("real", folder.join("link")).unwrap();
        symlink(folder.join("link"), folder.join("far")).unwrap();
        symlink("round", folder.join("round")).unwrap();
        Place::of(&folder.join("far/file")).unwrap().create(OFlag::O_WRONLY, Mode::S_IRUSR).unwrap();
        assert!(folder.join("real/file").is_file());
        let round = Place::of(&folder.join("round/file")).unwrap_err();
        assert_eq!(round.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn links_of_strangers_are_not() {
        let folder = Folder::new("strangers");
        let link = folder.join("link");
        write(folder.join("file"), "").unwrap();
        symlink(".", &link).unwrap();
        // Only root can lay another's link; elsewhere the end-to-end tests do.
        if lchown(&link, Some(65_534), Some(65_534)).is_err() {
            return;
        }
        for last in [Last::Kept, Last::Followed] {
            let refused = Place::walk(&link.join("file"), last).unwrap_err();
            assert!(refused.to_string().contains("another user's"), "{refused}");
        }
        assert!(Place::walk(&link, Last::Followed).is_err() && Place::walk(&link, Last::Kept).is_ok());
    }
}
