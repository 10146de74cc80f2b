//! Where a trace lies. What others may have put there beforehand is never followed and never trusted: a tracer runs as
//! root, and its trace says what everybody on the machine does.

use std::{
    fs::{File, OpenOptions, Permissions, rename, symlink_metadata},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

const MODE: u32 = 0o600;

/// Creates the file of a trace; nobody else may read it. With `force` a regular file of ours that is there already is
/// emptied, which keeps neither its contents nor its permissions.
///
/// # Errors
/// When there is something already (`AlreadyExists`), and with `force` when that is a symbolic link, no regular file,
/// another user's, or has a second name.
pub fn create(path: &Path, force: bool) -> io::Result<File> {
    match options().create_new(true).open(path) {
        Err(error) if force && error.kind() == io::ErrorKind::AlreadyExists => empty(path),
        result => result,
    }
}

/// The name of a trace's part: the path itself for the newest, then `.1`, `.2` and so on, ever older.
#[must_use]
pub fn rotated(path: &Path, part: u32) -> PathBuf {
    if part == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{part}"));
    name.into()
}

/// Renames the parts of a trace, so that each is one older and the one that would be number `parts` is gone, and creates
/// the newest. Whatever has the name of a part is replaced.
///
/// # Errors
/// When a part cannot be renamed, or the file cannot be created.
pub fn rotate(path: &Path, parts: u32) -> io::Result<File> {
    for part in (1..parts).rev() {
        let (from, to) = (rotated(path, part - 1), rotated(path, part));
        match rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    create(path, parts < 2)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Opening a FIFO waits for its reader unless told not to.
    options.write(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

fn empty(path: &Path) -> io::Result<File> {
    // The kernel's answer to opening a link is ELOOP, whose text speaks of too many of them.
    if symlink_metadata(path)?.is_symlink() {
        return Err(refused("it is a symbolic link"));
    }
    let file = options().open(path)?;
    let found = file.metadata()?;
    // SAFETY: the call only returns a number.
    let user = unsafe { libc::geteuid() };
    let wrong = if !found.is_file() {
        Some("it is no regular file")
    } else if found.uid() != user {
        Some("it is another user's")
    } else if found.nlink() != 1 {
        Some("it has another name too")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        return Err(refused(wrong));
    }
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.set_len(0)?;
    Ok(file)
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{create_dir, hard_link, read, remove_dir_all, write},
        io::Write as _,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("fdtrace-{name}-{}", std::process::id()));
            let _: io::Result<()> = remove_dir_all(&dir);
            create_dir(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _: io::Result<()> = remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_an_old_one_stays() {
        let dir = Dir::new("create");
        let path = dir.0.join("trace");
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
        let dir = Dir::new("refuse");
        let target = dir.0.join("target");
        write(&target, "precious").unwrap();
        let (link, dangling, name) = (dir.0.join("link"), dir.0.join("dangling"), dir.0.join("name"));
        symlink(&target, &link).unwrap();
        symlink(dir.0.join("nowhere"), &dangling).unwrap();
        hard_link(&target, &name).unwrap();
        let socket = dir.0.join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [&link, &dangling, &name, &socket, &dir.0] {
            assert!(create(path, false).is_err(), "{}", path.display());
            assert!(create(path, true).is_err(), "{}", path.display());
        }
        assert_eq!(read(&target).unwrap(), b"precious");
        assert!(!dir.0.join("nowhere").exists());
        assert!(create(Path::new("/dev/null"), true).is_err());
    }

    #[test]
    fn parts_grow_older_and_the_oldest_goes() {
        let dir = Dir::new("rotate");
        let path = dir.0.join("trace");
        create(&path, false).unwrap().write_all(b"0").unwrap();
        for turn in ["1", "2", "3"] {
            rotate(&path, 3).unwrap().write_all(turn.as_bytes()).unwrap();
        }
        let contents = |part| read(rotated(&path, part)).map(|bytes| bytes[0]).ok();
        assert_eq!([0, 1, 2, 3].map(contents), [Some(b'3'), Some(b'2'), Some(b'1'), None]);
        rotate(&path, 1).unwrap();
        assert_eq!(read(&path).unwrap(), b"");
    }
}
