//! What leads to the other end of a handle, where its own structures do not say: which side of which pseudo terminal it
//! is, and which unix sockets outlived their peers.

use std::{collections::HashSet, io};

use super::{HolderSnapshot, Memory, Terminal, mark, memory::is_address};
use crate::{kernel::PeerLayout, model::Kind};

const AF_UNIX: u8 = 1;
/// The bits of the minor number in a device as the kernel keeps it (`MINORBITS`).
const MINOR_BITS: u32 = 20;
/// Devices of these major numbers may be pseudo terminals: `/dev/tty` and `/dev/ptmx`, and from 136 on what lies in
/// `/dev/pts` (Documentation/admin-guide/devices.txt).
const MAJORS: [std::ops::RangeInclusive<u32>; 2] = [5..=5, 136..=143];
/// `/dev/ptmx`
const MASTER: u32 = 5 << MINOR_BITS | 2;

/// Finds them.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: PeerLayout,
) -> io::Result<()> {
    if let Some((tty, link)) = layout.terminal {
        terminals(snapshot, memory, tty, link)?;
    }
    if let Some(socket) = layout.socket {
        outlived(snapshot, memory, socket)?;
    }
    Ok(())
}

fn terminals(snapshot: &mut HolderSnapshot, memory: &mut impl Memory, tty: u64, link: u64) -> io::Result<()> {
    let is_terminal = |device: u32| MAJORS.iter().any(|majors| majors.contains(&(device >> MINOR_BITS)));
    let handles: Vec<(u32, u64)> = (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| handle.kind == Kind::Char && is_terminal(handle.rdev))
        .filter(|(_, handle)| is_address(handle.private))
        .map(|(place, handle)| (place, handle.private.wrapping_add(tty)))
        .collect();
    let addresses: Vec<u64> = handles.iter().map(|(_, address)| *address).collect();
    let ttys = memory.words(&addresses)?;
    let links: Vec<u64> = ttys.iter().map(|tty| tty.wrapping_add(link)).collect();
    let links = memory.words(&links)?;
    for ((handle, _), (own, other)) in handles.into_iter().zip(ttys.into_iter().zip(links)) {
        // The console has no other side.
        if is_address(own) && is_address(other) {
            let is_slave = snapshot.handles[handle as usize].rdev != MASTER;
            snapshot.terminals.push(Terminal { handle, own, other, is_slave });
        }
    }
    Ok(())
}

/// A socket keeps the memory of its peer, which no file leads to any more once that is closed.
fn outlived(snapshot: &mut HolderSnapshot, memory: &mut impl Memory, socket: u64) -> io::Result<()> {
    let is_unix = |handle: &&super::Handle| handle.family == AF_UNIX && is_address(handle.parent);
    let known: HashSet<u64> = snapshot.handles.iter().filter(is_unix).map(|handle| handle.private).collect();
    let waiting: HashSet<u64> = snapshot.waiting.iter().map(|(sock, _)| *sock).collect();
    let (places, addresses): (Vec<u32>, Vec<u64>) = (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| is_unix(handle))
        .filter(|(_, handle)| !known.contains(&handle.parent) && !waiting.contains(&handle.parent))
        .map(|(place, handle)| (place, handle.parent.wrapping_add(socket)))
        .unzip();
    let wanted: Vec<(u64, usize)> = addresses.into_iter().map(|address| (address, 8)).collect();
    for (place, found) in places.into_iter().zip(memory.read(&wanted)?) {
        if found.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
            snapshot.handles[place as usize].marks |= mark::OUTLIVED;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::File;

    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, unix_socket};

    const LAYOUT: PeerLayout = PeerLayout { socket: Some(0x18), terminal: Some((0, 0x40)) };

    #[test]
    fn both_sides_of_a_terminal() {
        let device = |number: u64, rdev: u32| {
            let private = KERNEL + 0x10_0000 + number * 64;
            File { private, rdev, inode_mode: 0o020_600, ..file(KERNEL + number * 256, b"tty") }
        };
        let (master, slave) = (device(1, 5 << 20 | 2), device(2, 136 << 20 | 7));
        let others = [device(3, 5 << 20 | 1), device(4, 1 << 20 | 3), device(5, 136 << 20)];
        let mut records = Records::default();
        [master, slave].iter().chain(&others).for_each(|file| _ = records.file(file));
        let (mut snapshot, mut memory) = (records.snapshot(), Pages::default());
        let (one, other) = (KERNEL + 0x20_0000, KERNEL + 0x20_1000);
        memory.word(master.private, one).word(slave.private, other);
        memory.word(one + 0x40, other).word(other + 0x40, one);
        // A console has no other side, and what is no terminal is not asked.
        memory.word(others[0].private, one + 0x2000).word(one + 0x2040, 0).word(others[1].private, one);
        find(&mut snapshot, &mut memory, LAYOUT).expect("memory");
        let side = |handle, own, other, is_slave| Terminal { handle, own, other, is_slave };
        assert_eq!(snapshot.terminals, [side(0, one, other, false), side(1, other, one, true)]);
    }

    #[test]
    fn sockets_that_outlived_their_peers() {
        let sock = |number: u64| KERNEL + 0x10_0000 + number * 256;
        let socket = |number: u64, peer: u64| File {
            parent: peer,
            ..unix_socket(KERNEL + number * 256, sock(number))
        };
        let (mut records, mut memory) = (Records::default(), Pages::default());
        // A pair; one whose peer is closed, one whose peer is elsewhere, one that waits, and one that cannot be read.
        for (number, peer) in [(1, sock(2)), (2, sock(1)), (3, sock(8)), (4, sock(9)), (5, sock(10))] {
            records.file(&socket(number, peer));
        }
        records.file(&socket(6, KERNEL + 0x99_0000)).file(&socket(7, 0));
        memory.word(sock(8) + 0x18, 0).word(sock(9) + 0x18, KERNEL + 0x30_0000).word(sock(10) + 0x18, 0);
        let mut snapshot = records.snapshot();
        snapshot.waiting = vec![(sock(10), 0)];
        find(&mut snapshot, &mut memory, LAYOUT).expect("memory");
        let outlived: Vec<bool> =
            snapshot.handles.iter().map(|handle| handle.marks & mark::OUTLIVED != 0).collect();
        assert_eq!(outlived, [false, false, true, false, false, false, false]);
    }
}
