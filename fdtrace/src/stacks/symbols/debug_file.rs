//! Debug information in a file of its own: found by ourselves, because the libraries open whatever a name leads to.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::module::{Module, hexadecimal, open_regular};
use crate::stacks::reader::{Identity, Reader};

/// Where distributions put it.
const FOLDER: &str = "/usr/lib/debug";

/// Checksums of larger files are not taken.
const LARGEST_TO_SUM: u64 = 4 << 30;

/// The file with a module's debug information, by build-id, else by the link in the module's file.
///
/// The process's own root goes before ours: a container has the debug files of what is in it, if anybody has.
pub(super) fn find(module: &Module, identity: &Identity, reader: &mut Reader) -> Option<File> {
    let inside = module.reach.as_ref().map(|reach| reach.inside(Path::new("/")));
    let roots: Vec<PathBuf> = inside.into_iter().chain([PathBuf::from("/")]).collect();
    find_below(&roots, module, identity, reader)
}

pub(super) fn find_below(
    roots: &[PathBuf],
    module: &Module,
    identity: &Identity,
    reader: &mut Reader,
) -> Option<File> {
    let by_build_id = identity.build_id.as_deref().into_iter().filter_map(by_build_id);
    let link = identity.debug_link.as_ref().map(|(name, _)| OsStr::from_bytes(name));
    let by_link = link.into_iter().flat_map(|name| by_link(&module.path, name));
    let paths: Vec<PathBuf> = by_build_id.chain(by_link).collect();
    let mut below = roots.iter().flat_map(|root| paths.iter().map(|path| root.join(relative(path))));
    below.find_map(|path| open_regular(&path).filter(|file| belongs(file, identity, reader)))
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
fn belongs(file: &File, to: &Identity, reader: &mut Reader) -> bool {
    let Some(found) = reader.identify(file, false).filter(|found| found.has_debug_info) else { return false };
    match (&found.build_id, &to.build_id) {
        (Some(one), Some(other)) => one == other,
        _ => to.debug_link.as_ref().is_some_and(|(_, wanted)| sum(file, reader) == Some(*wanted)),
    }
}

fn sum(file: &File, reader: &mut Reader) -> Option<u32> {
    let is_small = file.metadata().is_ok_and(|metadata| metadata.len() <= LARGEST_TO_SUM);
    if is_small { reader.identify(file, true)?.sum } else { None }
}
