//! Files that are mapped as code, and how to get at them.

use std::{
    fs::{File, Metadata},
    ops::Range,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{model::UserFrame, stacks::reader::Reader};

/// A file that a process has mapped as code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// Its path as the process sees it, without what the kernel adds to that of a deleted file.
    pub path: Arc<Path>,
    /// The build-id of what is mapped, in hexadecimal.
    pub build_id: Option<Arc<str>>,
    /// The mapped inode, where it is known.
    pub file: Option<FileId>,
    /// The process, and one of its mappings of the file; without it, only the path leads there.
    pub reach: Option<Reach>,
}

/// An inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Its device, as `stat` has it.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// A way to a mapped file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reach {
    /// A process that maps it.
    pub pid: u32,
    /// The whole of one such mapping, as in `/proc/PID/maps`.
    pub range: Range<u64>,
}

/// What two modules have in common if they are the same code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    BuildId(Arc<str>),
    File(FileId),
    Mapping(Option<Reach>, Arc<Path>),
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Module {
    /// A frame in this module of which nothing more is known.
    pub(super) fn frame(&self, offset: u64) -> UserFrame {
        UserFrame {
            module: Some(self.path.to_string_lossy().into_owned()),
            build_id: self.build_id.as_deref().map(str::to_owned),
            offset,
            ..UserFrame::default()
        }
    }

    pub(super) fn identity(&self) -> Identity {
        match (&self.build_id, self.file) {
            (Some(build_id), _) => Identity::BuildId(Arc::clone(build_id)),
            (None, Some(file)) => Identity::File(file),
            (None, None) => Identity::Mapping(self.reach.clone(), Arc::clone(&self.path)),
        }
    }

    /// The same module, whichever process it is seen in.
    pub(super) fn without_reach(&self) -> Self {
        let anywhere = self.build_id.is_some() || self.file.is_some();
        Self { reach: self.reach.clone().filter(|_| !anywhere), ..self.clone() }
    }

    /// Opens what is mapped: not what has taken its path since, and not what another mount namespace has there.
    pub(in crate::stacks) fn open(&self, reader: &mut Reader) -> Option<File> {
        let mapped = self.reach.as_ref().map(Reach::map_file);
        let inside = self.reach.as_ref().map(|reach| reach.inside(&self.path));
        let exact =
            mapped.and_then(|path| open_regular(&path).filter(|file| self.has_build_id_of(file, reader)));
        exact.or_else(|| {
            let paths = [inside, Some(self.path.to_path_buf())];
            let mut files = paths.into_iter().flatten().filter_map(|path| open_regular(&path));
            files.find(|file| self.is(file, reader))
        })
    }

    /// The same module, known by what its open file says of itself.
    pub(in crate::stacks) fn identified_by(self, file: &File, reader: &mut Reader) -> Self {
        Self {
            build_id: build_id(file, reader).map(Into::into),
            file: file.metadata().ok().as_ref().map(FileId::of),
            ..self
        }
    }

    /// Whether an open file is the mapped one.
    fn is(&self, file: &File, reader: &mut Reader) -> bool {
        let same_inode = || file.metadata().is_ok_and(|metadata| Some(FileId::of(&metadata)) == self.file);
        if self.build_id.is_some() { self.has_build_id_of(file, reader) } else { same_inode() }
    }

    /// Also where no build-id is known, which rules nothing out.
    fn has_build_id_of(&self, file: &File, reader: &mut Reader) -> bool {
        self.build_id.as_deref().is_none_or(|wanted| build_id(file, reader).as_deref() == Some(wanted))
    }
}

impl Reach {
    /// The link to the mapped inode itself, also if it is deleted or of another mount namespace.
    pub(in crate::stacks) fn map_file(&self) -> PathBuf {
        let Range { start, end } = self.range;
        PathBuf::from(format!("/proc/{}/map_files/{start:x}-{end:x}", self.pid))
    }

    /// A path of the process, from outside.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        let mut inside = PathBuf::from(format!("/proc/{}/root", self.pid));
        inside.extend(path.components().skip(1));
        inside
    }
}

/// Opens a regular file, and nothing else: a FIFO would block, and a device do who knows what.
pub(in crate::stacks) fn open_regular(path: &Path) -> Option<File> {
    open_if_regular(path, 0)
}

/// The same, but not through a link that somebody may have laid there.
pub(super) fn open_no_link(path: &Path) -> Option<File> {
    open_if_regular(path, libc::O_NOFOLLOW)
}

fn open_if_regular(path: &Path, flags: i32) -> Option<File> {
    let place = File::options().read(true).custom_flags(libc::O_PATH | flags).open(path).ok()?;
    place.metadata().ok().filter(Metadata::is_file)?;
    File::open(path_of(&place)).ok()
}

/// A path that leads to an open file for as long as it is open.
pub(in crate::stacks) fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn build_id(file: &File, reader: &mut Reader) -> Option<String> {
    reader.identify(file, false)?.build_id.as_deref().map(hexadecimal)
}

pub(in crate::stacks) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
