//! Directories of files that no process shows under a descriptor or a mapping: what is in flight or registered with a ring.
//! Their entries' parents are followed up to the root, from mount to mount (`prepend_path`, fs/d_path.c).

use std::io;

use super::{HolderSnapshot, Memory, memory::is_address};
use crate::kernel::PathLayout;

/// No path is deeper; this ends a walk through memory that is something else by now.
const DEEPEST: usize = 64;
/// Directories that are looked up; a name without its directory is a name still.
const MAX: usize = 4096;
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
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: &PathLayout,
) -> io::Result<()> {
    let mut climbs = begin(snapshot);
    let mut done: Vec<Climb> = Vec::new();
    for _ in 0..DEEPEST {
        if climbs.is_empty() {
            break;
        }
        climbs = step(memory, layout, climbs, &mut done)?;
    }
    snapshot.directories = done.into_iter().map(|climb| (climb.directory, path(&climb.names))).collect();
    Ok(())
}

fn begin(snapshot: &HolderSnapshot) -> Vec<Climb> {
    let in_flight = snapshot.in_flight.iter().map(|found| found.handle);
    let registered = snapshot.registered.iter().map(|found| found.handle);
    let mut directories: Vec<(u64, u64)> = in_flight
        .chain(registered)
        .filter_map(|place| snapshot.handles.get(place as usize))
        .filter(|handle| handle.family == 0 && is_address(handle.mount) && is_address(handle.parent))
        .map(|handle| (handle.mount, handle.parent))
        .collect();
    directories.sort_unstable();
    directories.dedup();
    directories.truncate(MAX);
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
    use fdtrace_common::holder_walk::File;

    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Scene, file, unix_socket};

    #[test]
    fn names_in_their_order() {
        assert_eq!(path(&[b"b".to_vec(), b"a".to_vec()]), b"/a/b");
        assert_eq!(path(&[]), b"/");
    }

    const LAYOUT: PathLayout = PathLayout {
        parent: 0x18,
        name: 0x28,
        root: 0,
        vfsmount: 0x20,
        mount_parent: 0x10,
        mountpoint: 0x18,
    };
    const MOUNT: u64 = KERNEL + 0x10_0000;
    const ENTRY: u64 = KERNEL + 0x20_0000;

    /// A mount, its root, and where it lies: `struct mount` begins 0x20 before the `vfsmount`.
    fn mount(memory: &mut Pages, number: u64, root: u64, parent: u64, mountpoint: u64) {
        let at = MOUNT + number * 0x1000;
        memory.word(at + 0x20, root).word(at + 0x10, MOUNT + parent * 0x1000).word(at + 0x18, mountpoint);
    }

    fn entry(memory: &mut Pages, number: u64, name: &str, parent: u64) -> u64 {
        let at = ENTRY + number * 0x1000;
        memory.word(at + 0x18, ENTRY + parent * 0x1000).word(at + 0x28, at + 0x40);
        memory.bytes(at + 0x40, name.as_bytes());
        at
    }

    /// The directory of a file in flight whose entry lies in this directory of this mount.
    fn directory(memory: &mut Pages, mount: u64, parent: u64) -> Option<String> {
        let mut scene = Scene::default();
        let handle = scene.next();
        let mount = MOUNT + mount * 0x1000 + 0x20;
        let sent = scene.file(File { mount, parent, ..file(handle, b"f") });
        let socket = scene.next();
        scene.file(unix_socket(socket, socket + 128));
        let mut snapshot = scene.sends(sent, socket).snapshot();
        find(&mut snapshot, memory, &LAYOUT).expect("memory");
        snapshot.directories.get(&(mount, parent)).map(|path| String::from_utf8_lossy(path).into_owned())
    }

    #[test]
    fn from_mount_to_mount() {
        let mut memory = Pages::default();
        let root = entry(&mut memory, 0, "/", 0);
        let srv = entry(&mut memory, 1, "srv", 0);
        let disk = entry(&mut memory, 2, "/", 2);
        let deep = entry(&mut memory, 3, "deep", 2);
        mount(&mut memory, 0, root, 0, root);
        mount(&mut memory, 1, disk, 0, srv);
        assert_eq!(directory(&mut memory, 1, deep).as_deref(), Some("/srv/deep"));
        assert_eq!(directory(&mut memory, 1, disk).as_deref(), Some("/srv"));
        assert_eq!(directory(&mut memory, 0, root).as_deref(), Some("/"));
    }

    #[test]
    fn entries_that_lead_round_or_nowhere_have_no_path() {
        let mut memory = Pages::default();
        let root = entry(&mut memory, 0, "/", 0);
        mount(&mut memory, 0, root, 0, root);
        let one = entry(&mut memory, 1, "one", 2);
        entry(&mut memory, 2, "two", 1);
        assert_eq!(directory(&mut memory, 0, one), None);
        let lost = entry(&mut memory, 3, "lost", 900);
        assert_eq!(directory(&mut memory, 0, lost), None);
        let nameless = entry(&mut memory, 4, "", 0);
        assert_eq!(directory(&mut memory, 0, nameless), None);
        assert!(memory.reads < 300, "{} reads", memory.reads);
    }
}
