//! Paths of files, which the walk has the last names of.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use fdtrace_common::holder_walk::NAME_LEN;

use super::groups::Example;
use crate::{holders::HolderSnapshot, model::Kind};

/// Where paths can be asked for. Neither may touch the file itself: its file system may be hung.
pub trait Paths {
    /// The path of what a descriptor of a thread points to.
    fn of_descriptor(&mut self, thread: u32, fd: u32) -> Option<PathBuf>;
    /// The path of what is mapped there.
    fn of_mapping(&mut self, thread: u32, start: u64, end: u64) -> Option<PathBuf>;
}

/// Memory that several have together and that nobody can open (`shmem_zero_setup`, mm/shmem.c; `hugetlb_file_setup`,
/// fs/hugetlbfs/inode.c): its names are the kernel's own.
pub(super) fn anonymous(kind: Kind, raw: &[u8]) -> Option<&'static str> {
    match raw {
        b"dev/zero" if kind == Kind::Shm => Some("shared anonymous memory"),
        b"anon_hugepage" if kind == Kind::Shm => Some("anonymous huge pages"),
        _ => None,
    }
}

/// Makes names, and asks for one path of each directory.
pub(super) struct Namer<'a> {
    paths: &'a mut dyn Paths,
    directories: HashMap<(u64, u64), Option<PathBuf>>,
}

/// What the kernel puts behind the path of a file that has no name any more (`d_path`, fs/d_path.c).
const DELETED: &str = " (deleted)";

impl<'a> Namer<'a> {
    pub(super) fn new(paths: &'a mut dyn Paths) -> Self {
        Self { paths, directories: HashMap::new() }
    }

    /// The name of a handle, of which an example is known.
    pub(super) fn name(&mut self, snapshot: &HolderSnapshot, place: u32, example: Option<Example>) -> String {
        let handle = &snapshot.handles[place as usize];
        let raw = handle.raw_name(&snapshot.names);
        if let Some(name) = anonymous(handle.kind, raw) {
            return name.to_owned();
        }
        let has_path =
            matches!(handle.kind, Kind::Regular | Kind::Directory | Kind::Char | Kind::Block | Kind::Symlink)
                || handle.kind == Kind::Fifo && !raw.is_empty();
        if !has_path || handle.parent == 0 || snapshot.by_proc {
            return snapshot.name(place);
        }
        let name = String::from_utf8_lossy(raw).into_owned();
        // A name of this length may go on.
        let is_whole = raw.len() < NAME_LEN - 1 && name != "/";
        let directory = (handle.mount, handle.parent);
        if is_whole && let Some(Some(known)) = self.directories.get(&directory) {
            return known.join(&name).to_string_lossy().into_owned();
        }
        if example.is_none()
            && let Some(known) = snapshot.directories.get(&directory)
        {
            let known = Path::new(OsStr::from_bytes(known));
            // What a mount begins with is its own directory.
            let path = if name == "/" { known.to_path_buf() } else { known.join(&name) };
            return path.to_string_lossy().into_owned();
        }
        if is_whole && self.directories.contains_key(&directory) {
            return name;
        }
        let path = example.and_then(|example| self.ask(example));
        let path = path.map(|path| match path.to_string_lossy().strip_suffix(DELETED) {
            Some(whole) if handle.links == 0 => PathBuf::from(whole),
            _ => path,
        });
        if is_whole && let Some(path) = &path {
            let ends_so = path.file_name().is_some_and(|last| last.as_encoded_bytes() == raw);
            let parent = path.parent().filter(|_| ends_so).map(Path::to_path_buf);
            self.directories.insert(directory, parent);
        }
        path.map_or(name, |path| path.to_string_lossy().into_owned())
    }

    fn ask(&mut self, example: Example) -> Option<PathBuf> {
        match example {
            Example::Descriptor { thread, fd } => self.paths.of_descriptor(thread, fd),
            Example::Mapping { thread, start, end } => self.paths.of_mapping(thread, start, end),
        }
    }
}
