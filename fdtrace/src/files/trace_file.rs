//! A trace, which is written while it comes. What others may have put there beforehand is never followed and never
//! trusted: a trace says what everybody on the machine does.

use std::{
    ffi::OsString,
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use nix::{fcntl::OFlag, sys::stat::Mode};

use super::{Place, refused, wrong};

const MODE: u32 = 0o600;

/// Where a trace lies, with its parts: the name itself for the newest, then `.1`, `.2` and so on, ever older.
#[derive(Debug)]
pub(crate) struct TraceFile(Place);

impl TraceFile {
    /// The place of a trace.
    ///
    /// # Errors
    /// As [`Place::of`].
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Place::of(path).map(Self)
    }

    /// Creates the file; nobody else may read it. With `force` a regular file of ours that is there already is emptied,
    /// which keeps neither its contents nor its permissions.
    ///
    /// # Errors
    /// When there is something already (`AlreadyExists`), and with `force` when that is a symbolic link, no regular file,
    /// another user's, or has a second name.
    pub(crate) fn create(&self, force: bool) -> io::Result<File> {
        match self.0.create(OFlag::O_WRONLY, Mode::from_bits_truncate(MODE)) {
            Err(error) if force && error.kind() == io::ErrorKind::AlreadyExists => self.empty(),
            result => result,
        }
    }

    /// The first of the parts behind the newest that is there already.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn older_part(&self, parts: u32) -> io::Result<Option<u32>> {
        for part in 1..parts {
            if self.part(part)?.metadata()?.is_some() {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// Renames the parts, so that each is one older and the one that would be number `parts` is gone, and creates the
    /// newest. Whatever has the name of a part is replaced.
    ///
    /// # Errors
    /// When a part cannot be renamed, or the file cannot be created.
    pub(crate) fn rotate(&self, parts: u32) -> io::Result<File> {
        for part in (1..parts).rev() {
            match self.part(part)?.take_over(&self.part(part - 1)?) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        self.create(parts < 2)
    }

    fn part(&self, part: u32) -> io::Result<Place> {
        let mut name: OsString = self.0.name().to_owned();
        if part > 0 {
            name.push(format!(".{part}"));
        }
        self.0.sibling(name)
    }

    fn empty(&self) -> io::Result<File> {
        // The kernel's answer to opening a link is ELOOP, whose text speaks of too many of them.
        if self.0.metadata()?.is_some_and(|found| found.is_symlink()) {
            return Err(refused("it is a symbolic link"));
        }
        let file = self.0.open(OFlag::O_WRONLY)?;
        if let Some(wrong) = wrong(&file.metadata()?) {
            return Err(refused(wrong));
        }
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.set_len(0)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{hard_link, read, rename, write},
        io::Write as _,
        os::unix::{
            fs::{MetadataExt as _, symlink},
            net::UnixListener,
        },
    };

    use super::{super::fixture::Folder, *};

    fn create(path: &Path, force: bool) -> io::Result<File> {
        TraceFile::at(path)?.create(force)
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_an_old_one_stays() {
        let folder = Folder::new("create");
        let path = folder.join("trace");
        let file = create(&path, false).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(create(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        write(&path, "old").unwrap();
        file.set_permissions(Permissions::from_mode(0o644)).unwrap();
        let file = create(&path, true).unwrap();
        assert_eq!((file.metadata().unwrap().mode() & 0o7777, file.metadata().unwrap().len()), (0o600, 0));
    }

    #[test]
    fn nothing_that_others_could_have_laid_there_is_written_through() {
        let folder = Folder::new("refuse");
        let target = folder.join("target");
        write(&target, "precious").unwrap();
        let (link, dangling, name) = (folder.join("link"), folder.join("dangling"), folder.join("name"));
        symlink(&target, &link).unwrap();
        symlink(folder.join("nowhere"), &dangling).unwrap();
        hard_link(&target, &name).unwrap();
        let socket = folder.join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [&link, &dangling, &name, &socket, &folder.join("")] {
            assert!(create(path, false).is_err(), "{}", path.display());
            assert!(create(path, true).is_err(), "{}", path.display());
        }
        assert_eq!(read(&target).unwrap(), b"precious");
        assert!(!folder.join("nowhere").exists());
        assert!(create(Path::new("/dev/null"), true).is_err());
    }

    #[test]
    fn parts_grow_older_and_the_oldest_goes() {
        let folder = Folder::new("rotate");
        std::fs::create_dir(folder.join("inner")).unwrap();
        let trace = TraceFile::at(&folder.join("inner/trace")).unwrap();
        trace.create(false).unwrap().write_all(b"0").unwrap();
        assert_eq!(trace.older_part(3).unwrap(), None);
        // Who owns the folder can put another one in its place.
        rename(folder.join("inner"), folder.join("moved")).unwrap();
        symlink("/proc", folder.join("inner")).unwrap();
        for turn in ["1", "2", "3"] {
            trace.rotate(3).unwrap().write_all(turn.as_bytes()).unwrap();
        }
        let name = |part| if part == 0 { "moved/trace".to_owned() } else { format!("moved/trace.{part}") };
        let contents = |part| read(folder.join(name(part))).map(|bytes| bytes[0]).ok();
        assert_eq!([0, 1, 2, 3].map(contents), [Some(b'3'), Some(b'2'), Some(b'1'), None]);
        assert_eq!(trace.older_part(3).unwrap(), Some(1));
        trace.rotate(1).unwrap();
        assert_eq!(read(folder.join("moved/trace")).unwrap(), b"");
    }
}
