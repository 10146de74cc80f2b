//! Directories of files that no process shows under a descriptor or a mapping: what is in flight or registered with a ring.
//! Their entries' parents are followed up to the root, from mount to mount (`prepend_path`, fs/d_path.c).

use std::io;

use super::{Census, Memory, memory::is_address};
use crate::kernel::PathLayout;

/// No path is deeper; this ends a walk through memory that is something else by now.
const DEEPEST: usize = 64;
/// Directories that are looked up; a name without its directory is a name still.
const MOST: usize = 4096;
/// `NAME_MAX`
const NAME_BYTES: usize = 255;

/// Where a walk up to the root is.
struct Climb {
    /// What it is for.
    directory: (u64, u64),
    mount: u64,
    entry: u64,
    /// Names, innermost first.
    names: Vec<Vec<u8>>,
}

/// Finds the directory of each handle that was found by following pointers.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(census: &mut Census, memory: &mut impl Memory, layout: &PathLayout) -> io::Result<()> {
    let mut climbs = begin(census);
    let mut done: Vec<Climb> = Vec::new();
    for _ in 0..DEEPEST {
        if climbs.is_empty() {
            break;
        }
        climbs = step(memory, layout, climbs, &mut done)?;
    }
    census.directories = done.into_iter().map(|climb| (climb.directory, path(&climb.names))).collect();
    Ok(())
}

fn begin(census: &Census) -> Vec<Climb> {
    let in_flight = census.in_flight.iter().map(|found| found.handle);
    let registered = census.registered.iter().map(|found| found.handle);
    let mut directories: Vec<(u64, u64)> = in_flight
        .chain(registered)
        .filter_map(|place| census.handles.get(place as usize))
        .filter(|handle| handle.family == 0 && is_address(handle.mount) && is_address(handle.parent))
        .map(|handle| (handle.mount, handle.parent))
        .collect();
    directories.sort_unstable();
    directories.dedup();
    directories.truncate(MOST);
    let climb = |directory: (u64, u64)| Climb {
        directory,
        mount: directory.0,
        entry: directory.1,
        names: Vec::new(),
    };
    directories.into_iter().map(climb).collect()
}

/// One step up for each; those that have arrived are done.
fn step(
    memory: &mut impl Memory,
    layout: &PathLayout,
    climbs: Vec<Climb>,
    done: &mut Vec<Climb>,
) -> io::Result<Vec<Climb>> {
    let words: Vec<u64> = climbs
        .iter()
        .flat_map(|climb| {
            let mount = climb.mount.wrapping_sub(layout.vfsmount);
            [
                climb.mount.wrapping_add(layout.root),
                mount.wrapping_add(layout.mount_parent),
                mount.wrapping_add(layout.mountpoint),
                climb.entry.wrapping_add(layout.parent),
                climb.entry.wrapping_add(layout.name),
            ]
        })
        .collect();
    let words = memory.words(&words)?;
    let names: Vec<(u64, usize)> = words.chunks_exact(5).map(|words| (words[4], NAME_BYTES + 1)).collect();
    let names = texts(memory, &names)?;
    let mut left = Vec::new();
    for ((mut climb, words), name) in climbs.into_iter().zip(words.chunks_exact(5)).zip(names) {
        let [root, mount_parent, mountpoint, parent, _] = [words[0], words[1], words[2], words[3], words[4]];
        let outer = mount_parent.wrapping_add(layout.vfsmount);
        if climb.entry == root && is_address(mount_parent) && outer != climb.mount {
            (climb.mount, climb.entry) = (outer, mountpoint);
            left.push(climb);
        } else if climb.entry == root || parent == climb.entry {
            done.push(climb);
        } else if is_address(parent) && !name.is_empty() {
            climb.names.push(name);
            climb.entry = parent;
            left.push(climb);
        }
    }
    Ok(left)
}

/// Texts up to their zero. A name may lie at the end of what can be read, so a shorter part is asked for as well.
fn texts(memory: &mut impl Memory, wanted: &[(u64, usize)]) -> io::Result<Vec<Vec<u8>>> {
    const SHORT: usize = 40;
    let both: Vec<(u64, usize)> =
        wanted.iter().flat_map(|(address, length)| [(*address, *length), (*address, SHORT)]).collect();
    let found = memory.read(&both)?;
    let text = |pair: &[Option<Vec<u8>>]| {
        let bytes = pair.iter().flatten().next().map_or(&[][..], Vec::as_slice);
        bytes.iter().position(|byte| *byte == 0).map_or_else(Vec::new, |end| bytes[..end].to_vec())
    };
    Ok(found.chunks_exact(2).map(text).collect())
}

fn path(names: &[Vec<u8>]) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_their_order() {
        assert_eq!(path(&[b"b".to_vec(), b"a".to_vec()]), b"/a/b");
        assert_eq!(path(&[]), b"/");
    }
}
