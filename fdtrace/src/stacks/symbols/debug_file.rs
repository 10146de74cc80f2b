//! Debug information in a file of its own: found by ourselves, because the libraries open whatever a name leads to.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    elf::Layout,
    file::reopen,
    module::{Module, hexadecimal, open_regular},
};

/// Where distributions put it.
const FOLDER: &str = "/usr/lib/debug";

/// Checksums of larger files are not taken.
const LARGEST_TO_SUM: u64 = 4 << 30;

/// The file with a module's debug information, by build-id, else by the link in the module's file.
///
/// The process's own root goes before ours: a container has the debug files of what is in it, if anybody has.
pub(super) fn find(module: &Module, layout: &Layout) -> Option<(File, Layout)> {
    let inside = module.reach.as_ref().map(|reach| reach.inside(Path::new("/")));
    let roots: Vec<PathBuf> = inside.into_iter().chain([PathBuf::from("/")]).collect();
    find_below(&roots, module, layout)
}

pub(super) fn find_below(roots: &[PathBuf], module: &Module, layout: &Layout) -> Option<(File, Layout)> {
    let by_build_id = layout.build_id.as_deref().into_iter().filter_map(by_build_id);
    let by_link = layout.debug_link.iter().flat_map(|(name, _)| by_link(&module.path, name));
    let paths: Vec<PathBuf> = by_build_id.chain(by_link).collect();
    let mut below = roots.iter().flat_map(|root| paths.iter().map(|path| root.join(relative(path))));
    below.find_map(|path| {
        let file = open_regular(&path)?;
        let found = Layout::read(&file)?;
        (found.has_debug_info && belongs(&file, &found, layout)).then_some((file, found))
    })
}

fn by_build_id(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let name = format!(".build-id/{first:02x}/{}.debug", hexadecimal(rest));
    (rest.len() > 1).then(|| Path::new(FOLDER).join(name))
}

/// Beside the file, in a folder there, and under the folder of all debug files.
fn by_link(module: &Path, name: &OsStr) -> Vec<PathBuf> {
    let is_plain = Path::new(name).file_name() == Some(name) && !name.as_bytes().contains(&b'/');
    let Some(folder) = module.parent().filter(|_| is_plain && module.is_absolute()) else {
        return Vec::new();
    };
    vec![
        folder.join(name),
        folder.join(".debug").join(name),
        Path::new(FOLDER).join(relative(folder)).join(name),
    ]
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Equal build-ids prove it; where one is missing, the checksum of the whole file does.
fn belongs(file: &File, found: &Layout, to: &Layout) -> bool {
    if let (Some(one), Some(other)) = (&found.build_id, &to.build_id) {
        return one == other;
    }
    to.debug_link.as_ref().is_some_and(|(_, wanted)| checksum(file) == Some(*wanted))
}

fn checksum(file: &File) -> Option<u32> {
    if file.metadata().ok()?.len() > LARGEST_TO_SUM {
        return None;
    }
    let mut reader = BufReader::with_capacity(1 << 20, reopen(file)?);
    let mut sum = crc32fast::Hasher::new();
    loop {
        let bytes = reader.fill_buf().ok()?;
        if bytes.is_empty() {
            return Some(sum.finalize());
        }
        sum.update(bytes);
        let length = bytes.len();
        reader.consume(length);
    }
}
