//! Files that are read because somebody names them.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::{errno::Errno, fcntl::OFlag};

use super::{
    descriptor, is_trusted,
    place::{Last, Place},
    refused,
};

/// Opens a file for reading, without waiting for anybody: a regular file, or a descriptor that whoever started us has given
/// (`/dev/stdin`, `/dev/fd/63`), whatever that is.
///
/// # Errors
/// When it cannot be opened, or is something else: a FIFO or a device in a folder may have been laid there.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if let Some(given) = descriptor::named(path) {
        return given;
    }
    // A device may do something when it is opened.
    check(&path.metadata()?)?;
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    regular(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// Reads all of a file that [`open`] opens, if it has no more than `most` bytes.
///
/// # Errors
/// As [`open`]; a file that is larger; and for a text, bytes that are none.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(open(path)?, most)
}

/// The same for a text that is spoken of in messages: it is not read through a symbolic link that a stranger laid, or the
/// message would tell what only root may read.
///
/// # Errors
/// As [`read`]; a link on the way that is neither root's nor ours; and bytes that are no text.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let file = match descriptor::named(path) {
        Some(given) => given?,
        None => walked(path)?,
    };
    text(bounded(file, most)?)
}

/// The same for a text that may name further ones, with the user whose it is.
///
/// # Errors
/// As [`read_text`].
pub(crate) fn read_owned(path: &Path, most: u64) -> io::Result<(u32, String)> {
    let file = walked(path)?;
    Ok((file.metadata()?.uid(), text(bounded(file, most)?)?))
}

/// The same for a text that another file names: that file's owner chooses it, so it has to be the owner's own, unless the
/// owner is trusted.
///
/// # Errors
/// As [`read_text`], and a file of somebody else.
pub(crate) fn read_of(owner: u32, path: &Path, most: u64) -> io::Result<String> {
    let file = walked(path)?;
    if !is_trusted(owner) && file.metadata()?.uid() != owner {
        return Err(refused("it does not belong to the user who names it"));
    }
    text(bounded(file, most)?)
}

fn walked(path: &Path) -> io::Result<File> {
    let place = Place::walk(path, Last::Followed)?;
    if let Some(found) = place.metadata()? {
        check(&found)?;
    }
    regular(place.open(OFlag::O_RDONLY)?)
}

fn regular(file: File) -> io::Result<File> {
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(found: &Metadata) -> io::Result<()> {
    if found.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    if found.is_file() { Ok(()) } else { Err(refused("it is no regular file")) }
}

fn bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let limit = if most >> 20 == 0 { format!("{most} bytes") } else { format!("{} MiB", most >> 20) };
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {limit}, the most that is read"),
        ));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{create_dir, write},
        os::unix::fs::{chown, symlink},
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::{super::fixture::Folder, *};

    fn why<T: std::fmt::Debug>(result: io::Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let folder = Folder::new("inputs");
        let fifo = folder.join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        create_dir(folder.join("folder")).unwrap();
        for path in [&fifo, Path::new("/dev/zero")] {
            assert!(why(open(path)).contains("no regular file"));
            assert!(why(read_text(path, 9)).contains("no regular file"));
            assert!(why(read_of(0, path, 9)).contains("no regular file"));
        }
        assert!(why(open(&folder.join("folder"))).contains("directory"));
        assert!(why(read_text(&folder.join("folder"), 9)).contains("directory"));
        assert_eq!(read_text(&folder.join("gone"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_too_large_says_how_much_is_not() {
        let folder = Folder::new("sizes");
        let path = folder.join("file");
        write(&path, "123456789").unwrap();
        assert_eq!(read_text(&path, 9).unwrap(), "123456789");
        assert!(why(read_text(&path, 8)).contains("more than 8 bytes"));
        File::options().write(true).open(&path).unwrap().set_len(3 << 20).unwrap();
        assert!(why(read(&path, 2 << 20)).contains("more than 2 MiB"));
        write(&path, [0xff]).unwrap();
        assert!(why(read_text(&path, 9)).contains("UTF-8"));
    }

    #[test]
    fn a_strangers_file_names_the_strangers_own_alone() {
        let folder = Folder::new("named");
        let (ours, theirs, link) = (folder.join("ours"), folder.join("theirs"), folder.join("link"));
        write(&ours, "ours").unwrap();
        write(&theirs, "theirs").unwrap();
        symlink(&ours, &link).unwrap();
        let nobody = 65_534;
        assert!(why(read_of(nobody, &ours, 99)).contains("does not belong"));
        assert!(why(read_of(nobody, &link, 99)).contains("does not belong"));
        assert_eq!(read_of(super::super::user(), &link, 99).unwrap(), "ours");
        if chown(&theirs, Some(nobody), None).is_ok() {
            assert_eq!(read_of(nobody, &theirs, 99).unwrap(), "theirs");
        }
    }
}
