//! A file that is written once, at the end: a report, a baseline.

use std::{
    fs::{File, Metadata, Permissions},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufWriter, Seek as _, Write as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::Mode,
};

use super::{Place, descriptor, is_trusted, refused, wrong};

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and there is no output.
    Stays,
    /// It is emptied now, and replaced at the end.
    Replaced,
}

/// Where a document goes. What is found at the path is checked when this is opened, and the path is not asked again.
#[derive(Debug)]
pub(crate) struct Output(Target);

#[derive(Debug)]
enum Target {
    /// A device, a pipe, or a descriptor that whoever started us has given.
    Stream(File),
    /// A file that gets its name when it is whole, and the file of an earlier run that has it now.
    Named { place: Place, earlier: Option<File>, existing: Existing },
}

impl Output {
    /// Opens an output. A file of an earlier run is emptied: nobody shall take it for that of a run that is cut off.
    ///
    /// # Errors
    /// What cannot be written; and a symbolic link, another user's file, one that has a second name, and a FIFO that nobody
    /// reads.
    pub(crate) fn open(path: &Path, existing: Existing) -> io::Result<Self> {
        if let Some(given) = descriptor::writable(path) {
            return Ok(Self(Target::Stream(given?)));
        }
        let place = Place::of(path)?;
        let Some(found) = place.metadata()? else {
            place.check_folder()?;
            return Ok(Self(Target::Named { place, earlier: None, existing }));
        };
        if existing == Existing::Stays {
            return Err(Errno::EEXIST.into());
        }
        if found.is_symlink() {
            return Err(refused("it is a symbolic link"));
        }
        if found.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        let file = place.open(OFlag::O_WRONLY).map_err(|error| unread(error, found.file_type().is_fifo()))?;
        if file.metadata()?.is_file() {
            return Ok(Self(earlier(place, file)?));
        }
        stream(file).map(Target::Stream).map(Self)
    }

    /// Writes the document. A file has all of it, or is as empty as it was.
    ///
    /// # Errors
    /// When it cannot be written, or what writes it fails.
    pub(crate) fn write<E: From<io::Error>>(
        self,
        write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.0 {
            Target::Stream(file) => fill(&file, write),
            Target::Named { place, earlier, existing } => match Beside::create(&place) {
                Ok(beside) => {
                    fill(&beside.file, write)?;
                    Ok(beside.take_name(&place, earlier.as_ref(), existing)?)
                }
                Err(why) => match earlier.filter(|earlier| can_only_be_filled(&why, &place, earlier)) {
                    Some(earlier) => fill(&earlier, write).inspect_err(|_| drop(earlier.set_len(0))),
                    None => Err(why.into()),
                },
            },
        }
    }
}

fn earlier(place: Place, file: File) -> io::Result<Target> {
    if let Some(wrong) = wrong(&file.metadata()?) {
        return Err(refused(wrong));
    }
    file.set_len(0)?;
    Ok(Target::Named { place, earlier: Some(file), existing: Existing::Replaced })
}

/// What is no file: a stranger's pipe is no place for what the machine does, and a disk is none for a report.
fn stream(file: File) -> io::Result<File> {
    let found = file.metadata()?;
    let (kind, owner) = (found.file_type(), found.uid());
    if kind.is_fifo() && !is_trusted(owner) {
        return Err(refused("it is another user's pipe"));
    }
    if !kind.is_fifo() && !kind.is_char_device() {
        return Err(refused("it is neither a file nor a pipe"));
    }
    let flags = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

/// The kernel says of a FIFO without a reader that there is no such device.
fn unread(error: io::Error, is_fifo: bool) -> io::Error {
    if is_fifo && error.raw_os_error() == Some(libc::ENXIO) {
        refused("nobody reads this pipe")
    } else {
        error
    }
}

fn fill<E: From<io::Error>>(
    file: &File,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = BufWriter::new(file);
    let written = write(&mut out).and_then(|()| Ok(out.flush()?));
    // What could not be written would be tried again when the buffer is dropped.
    let (_, _) = out.into_parts();
    written
}

/// A new file in the same folder, which is gone when it gets no other name.
struct Beside {
    file: File,
    place: Place,
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Usually it has got its name by now.
        drop(self.place.remove());
    }
}

impl Beside {
    fn create(place: &Place) -> io::Result<Self> {
        let random = RandomState::new().build_hasher().finish();
        let place = place.sibling(format!(".fdtrace-{random:016x}").into())?;
        Ok(Self { file: place.create(OFlag::O_RDWR, Mode::from_bits_truncate(0o666))?, place })
    }

    fn take_name(mut self, place: &Place, earlier: Option<&File>, existing: Existing) -> io::Result<()> {
        if let Some(earlier) = earlier {
            let mode = earlier.metadata()?.mode() & 0o777;
            self.file.set_permissions(Permissions::from_mode(mode))?;
        }
        let named = match existing {
            Existing::Stays => place.take_if_free(&self.place),
            Existing::Replaced => place.take_over(&self.place),
        };
        match (named, earlier) {
            (Err(why), Some(earlier)) if can_only_be_filled(&why, place, earlier) => self.copy_to(earlier),
            (named, _) => named,
        }
    }

    /// Half a document is none.
    fn copy_to(&mut self, mut earlier: &File) -> io::Result<()> {
        self.file.rewind()?;
        io::copy(&mut self.file, &mut earlier).map(drop).inspect_err(|_| drop(earlier.set_len(0)))
    }
}

/// A folder that lets nobody make files, or a file that is a mount of its own; and it still has its name.
fn can_only_be_filled(why: &io::Error, place: &Place, earlier: &File) -> bool {
    let is_so = matches!(why.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::EBUSY));
    let same = |found: Metadata| {
        earlier.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (found.dev(), found.ino()))
    };
    is_so && place.metadata().is_ok_and(|found| found.is_some_and(same))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, read_to_string},
        os::unix::{fs::symlink, net::UnixListener},
    };

    use super::{super::fixture::Folder, *};

    fn open(path: &Path) -> Output {
        Output::open(path, Existing::Replaced).unwrap()
    }

    fn say(text: &'static str) -> impl Fn(&mut BufWriter<&File>) -> io::Result<()> {
        move |out| out.write_all(text.as_bytes())
    }

    #[test]
    fn an_earlier_one_is_emptied_and_replaced_with_its_mode() {
        let folder = Folder::new("output");
        let path = folder.join("report");
        open(&path).write(say("first")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let output = open(&path);
        assert_eq!(read_to_string(&path).unwrap(), "", "it is of an earlier run");
        output.write(say("second")).unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        let error = Output::open(&path, Existing::Stays).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn what_a_command_lays_there_meanwhile_is_replaced_and_not_followed() {
        let folder = Folder::new("laid");
        let (path, precious) = (folder.join("report"), folder.join("precious"));
        fs::write(&precious, "precious").unwrap();
        let lay: [&dyn Fn() -> io::Result<()>; 2] =
            [&|| symlink(&precious, &path), &|| fs::hard_link(&precious, &path)];
        for lay in lay {
            let output = open(&path);
            drop(fs::remove_file(&path));
            lay().unwrap();
            output.write(say("report")).unwrap();
            assert_eq!(read_to_string(&path).unwrap(), "report");
            assert_eq!(read_to_string(&precious).unwrap(), "precious");
        }
        let output = open(&path);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(output.write(say("report")).unwrap_err().raw_os_error(), Some(libc::EISDIR));
        assert_eq!(fs::read_dir(folder.join("")).unwrap().count(), 2, "something is left over");
    }

    #[test]
    fn what_was_there_before_and_is_nobodys_report() {
        let folder = Folder::new("refused");
        let (precious, link, name) = (folder.join("precious"), folder.join("link"), folder.join("name"));
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, &link).unwrap();
        fs::hard_link(&precious, &name).unwrap();
        let (socket, fifo) = (folder.join("socket"), folder.join("fifo"));
        let _listener = UnixListener::bind(&socket).unwrap();
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for path in [&link, &name, &socket, &fifo, &folder.join("gone/report"), &folder.join("")] {
            assert!(Output::open(path, Existing::Replaced).is_err(), "{}", path.display());
        }
        let unread = Output::open(&fifo, Existing::Replaced).unwrap_err().to_string();
        assert!(unread.contains("nobody reads"), "{unread}");
        assert_eq!(read_to_string(&precious).unwrap(), "precious");
        open(Path::new("/dev/null")).write(say("gone")).unwrap();
        assert!(open(Path::new("/dev/full")).write(say("no room")).is_err());
    }

    #[test]
    fn half_a_document_is_none() {
        let folder = Folder::new("half");
        let path = folder.join("report");
        let half = |out: &mut BufWriter<&File>| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        };
        assert!(open(&path).write(half).is_err());
        assert!(!path.exists());
        open(&path).write(say("whole")).unwrap();
        assert!(open(&path).write(half).is_err());
        assert_eq!(read_to_string(&path).unwrap(), "");
        assert_eq!(fs::read_dir(folder.join("")).unwrap().count(), 1, "something is left over");
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_stays_with_whoever_has_it() {
        let folder = Folder::new("taken");
        let path = folder.join("report");
        let output = Output::open(&path, Existing::Stays).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert_eq!(output.write(say("ours")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read_to_string(&path).unwrap(), "theirs");
    }
}
