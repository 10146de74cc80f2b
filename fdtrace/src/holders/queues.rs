//! Handles in flight: those that are queued in unix sockets, to be received.
//!
//! Every such socket is found from a descriptor, a mapping, or a queue: a socket may itself be in flight, or wait in the
//! queue of a listener to be accepted. So nothing depends on network namespaces, nor on an iterator (5.15) that shows
//! one at a time. Nothing holds the queues still, so they are walked twice, and what both walks saw is kept.

use std::{
    collections::{BTreeSet, HashSet},
    io,
};

use super::{
    HolderSnapshot, InFlight, Memory,
    memory::{half, is_address, word},
};
use crate::kernel::QueueLayout;

/// `SCM_MAX_FD` (include/net/scm.h)
const MAX_PASSED: usize = 253;
/// No queue is longer than what its memory limit allows; this ends a walk through memory that is something else by now.
const MAX_BUFFERS: usize = 65_536;
/// `next`, `prev` and `qlen` of a `struct sk_buff_head`.
const HEAD: usize = 24;
const AF_UNIX: u8 = 1;

/// A handle's address, and the receiver's place.
type Seen = BTreeSet<(u64, u32)>;

/// A socket whose queue is to be walked.
#[derive(Clone, Copy)]
struct Socket {
    sock: u64,
    receiver: u32,
    /// Its queue holds connections, and other buffers belong to whoever sent them.
    listens: bool,
}

/// Finds all handles in flight, through sockets that are not in `done`.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: &QueueLayout,
    done: &mut HashSet<u64>,
) -> io::Result<()> {
    loop {
        let sockets = unix_sockets(snapshot, done);
        if sockets.is_empty() {
            return Ok(());
        }
        done.extend(sockets.iter().map(|socket| socket.sock));
        let Walk { seen: first, waiting, .. } = walk(memory, layout, sockets.clone())?;
        snapshot.waiting.extend(waiting);
        if first.is_empty() {
            continue;
        }
        let second = walk(memory, layout, sockets)?.seen;
        snapshot.moving += first.symmetric_difference(&second).count() as u64;
        let both: Vec<(u64, u32)> = first.intersection(&second).copied().collect();
        keep(snapshot, memory, &both)?;
    }
}

/// Sockets that were not looked into.
fn unix_sockets(snapshot: &HolderSnapshot, done: &HashSet<u64>) -> Vec<Socket> {
    (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| handle.family == AF_UNIX && is_address(handle.private))
        .filter(|(_, handle)| !done.contains(&handle.private))
        .map(|(receiver, handle)| Socket { sock: handle.private, receiver, listens: handle.is_listener() })
        .collect()
}

/// Puts the handles into the walk, each once for each receiver.
fn keep(snapshot: &mut HolderSnapshot, memory: &mut impl Memory, found: &[(u64, u32)]) -> io::Result<()> {
    snapshot.learn(memory, found.iter().map(|(address, _)| *address))?;
    for (address, receiver) in found {
        if let Some(handle) = snapshot.place(*address) {
            snapshot.in_flight.push(InFlight { handle, receiver: *receiver });
        }
    }
    Ok(())
}

/// Where a walk through a queue is.
struct Position {
    head: u64,
    next: u64,
    socket: Socket,
    left: usize,
}

/// What a walk has found, and where it has been.
struct Walk {
    seen: Seen,
    /// Sockets.
    sockets: HashSet<u64>,
    /// Sockets that wait to be accepted, and where.
    waiting: Vec<(u64, u32)>,
    /// Buffers: a queue that is something else by now may lead round.
    buffers: HashSet<u64>,
}

/// One walk through the queues of all sockets, side by side.
fn walk(memory: &mut impl Memory, layout: &QueueLayout, sockets: Vec<Socket>) -> io::Result<Walk> {
    let known = sockets.iter().map(|socket| socket.sock).collect();
    let mut walk = Walk { seen: Seen::new(), sockets: known, waiting: Vec::new(), buffers: HashSet::new() };
    let mut pending = sockets;
    while !pending.is_empty() {
        let mut positions = heads(memory, layout, &pending)?;
        pending.clear();
        while !positions.is_empty() {
            step(memory, layout, &mut positions, &mut walk, &mut pending)?;
        }
    }
    Ok(walk)
}

fn heads(memory: &mut impl Memory, layout: &QueueLayout, sockets: &[Socket]) -> io::Result<Vec<Position>> {
    let heads: Vec<(u64, usize)> =
        sockets.iter().map(|socket| (socket.sock.wrapping_add(layout.queue), HEAD)).collect();
    let found = memory.read(&heads)?;
    let length_at = usize::try_from(layout.length.wrapping_sub(layout.queue)).unwrap_or(HEAD);
    let positions = sockets.iter().zip(&found).filter_map(|(socket, bytes)| {
        let bytes = bytes.as_deref()?;
        let (head, next) = (socket.sock.wrapping_add(layout.queue), word(bytes, 0));
        let left = (half(bytes, length_at) as usize).min(MAX_BUFFERS);
        (left > 0 && next != head && is_address(next)).then_some(Position {
            head,
            next,
            socket: *socket,
            left,
        })
    });
    Ok(positions.collect())
}

/// Looks at the buffer where each walk is, and goes on to the next. Connections that wait to be accepted belong to the
/// listener until then.
fn step(
    memory: &mut impl Memory,
    layout: &QueueLayout,
    positions: &mut Vec<Position>,
    walk: &mut Walk,
    waiting: &mut Vec<Socket>,
) -> io::Result<()> {
    positions.retain(|position| walk.buffers.insert(position.next));
    let bytes = usize::try_from(layout.passed + 8).unwrap_or(0);
    let wanted: Vec<(u64, usize)> = positions.iter().map(|position| (position.next, bytes)).collect();
    let mut buffers = memory.read(&wanted)?.into_iter();
    let mut lists = Vec::new();
    positions.retain_mut(|position| {
        let Some(buffer) = buffers.next().flatten() else { return false };
        let list = word(&buffer, bytes - 8);
        if is_address(list) {
            lists.push((list, position.socket.receiver));
        }
        let sock = word(&buffer, usize::try_from(layout.buffer_sock).unwrap_or(0));
        if position.socket.listens && is_address(sock) && walk.sockets.insert(sock) {
            walk.waiting.push((sock, position.socket.receiver));
            waiting.push(Socket { sock, listens: false, ..position.socket });
        }
        position.next = word(&buffer, 0);
        position.left -= 1;
        position.left > 0 && position.next != position.head && is_address(position.next)
    });
    passed(memory, layout, &lists, &mut walk.seen)
}

/// The handles in each list.
fn passed(
    memory: &mut impl Memory,
    layout: &QueueLayout,
    lists: &[(u64, u32)],
    seen: &mut Seen,
) -> io::Result<()> {
    let files_at = usize::try_from(layout.files).unwrap_or(0);
    let most = |(list, _): &(u64, u32)| (*list, files_at + MAX_PASSED * 8);
    let mut found = memory.read(&lists.iter().map(most).collect::<Vec<_>>())?;
    exactly(memory, layout, lists, &mut found)?;
    for ((_, receiver), bytes) in lists.iter().zip(found) {
        let Some(bytes) = bytes else { continue };
        let files = (0..count(layout, &bytes)).map(|index| word(&bytes, files_at + index * 8));
        seen.extend(files.filter(|file| is_address(*file)).map(|file| (file, *receiver)));
    }
    Ok(())
}

/// A list is as long as it has files (`scm_fp_dup`, net/core/scm.c), and may lie at the end of what can be read.
fn exactly(
    memory: &mut impl Memory,
    layout: &QueueLayout,
    lists: &[(u64, u32)],
    found: &mut [Option<Vec<u8>>],
) -> io::Result<()> {
    let cut: Vec<usize> = (0..found.len()).filter(|place| found[*place].is_none()).collect();
    if cut.is_empty() {
        return Ok(());
    }
    let files_at = usize::try_from(layout.files).unwrap_or(0);
    let begins: Vec<(u64, usize)> = cut.iter().map(|place| (lists[*place].0, files_at)).collect();
    let lengths = memory.read(&begins)?;
    let length =
        |begin: &Option<Vec<u8>>| begin.as_deref().map_or(0, |begin| files_at + count(layout, begin) * 8);
    let wanted: Vec<(u64, usize)> =
        begins.iter().zip(&lengths).map(|((list, _), begin)| (*list, length(begin))).collect();
    for (place, bytes) in cut.into_iter().zip(memory.read(&wanted)?) {
        found[place] = bytes;
    }
    Ok(())
}

/// How many files a list has.
fn count(layout: &QueueLayout, list: &[u8]) -> usize {
    let count = half(list, usize::try_from(layout.count).unwrap_or(0)) & 0xffff;
    (count as usize).min(MAX_PASSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, unix_socket};

    const LAYOUT: QueueLayout =
        QueueLayout { queue: 0x80, length: 0x90, buffer_sock: 0x18, passed: 0x30, count: 0, files: 0x28 };
    const TCP_LISTEN: u8 = 10;

    fn sock(number: u64) -> u64 {
        KERNEL + 0x10_0000 + number * 0x1000
    }

    /// The queue of a socket: in each buffer files, and a socket that waits. Lists lie in pages of their own.
    fn queue(memory: &mut Pages, sock: u64, buffers: &[(&[u64], u64)]) {
        let head = sock + LAYOUT.queue;
        let buffer =
            |index: usize| if index < buffers.len() { sock + 0x200 + index as u64 * 0x100 } else { head };
        memory.word(head, buffer(0)).word(head + 16, buffers.len() as u64);
        for (index, (files, waits)) in buffers.iter().enumerate() {
            let list = sock + 0x100_0000 + index as u64 * 0x1000;
            let here = buffer(index);
            memory.word(here, buffer(index + 1)).word(here + LAYOUT.buffer_sock, *waits);
            if !files.is_empty() {
                memory.word(here + LAYOUT.passed, list).word(list, files.len() as u64);
                for (at, file) in (list + LAYOUT.files..).step_by(8).zip(*files) {
                    memory.word(at, *file);
                }
            }
        }
    }

    fn snapshot(sockets: &[(u64, u64)]) -> HolderSnapshot {
        let mut records = Records::default();
        sockets.iter().for_each(|(handle, sock)| _ = records.file(&unix_socket(*handle, *sock)));
        records.snapshot()
    }

    /// Pairs of a handle and its receiver, by address.
    fn found(snapshot: &HolderSnapshot) -> Vec<(u64, u64)> {
        let address = |place: u32| snapshot.handles[place as usize].address;
        snapshot.in_flight.iter().map(|found| (address(found.handle), address(found.receiver))).collect()
    }

    fn walk(snapshot: &mut HolderSnapshot, memory: &mut Pages) {
        find(snapshot, memory, &LAYOUT, &mut HashSet::new()).expect("memory");
    }

    #[test]
    fn files_in_one_queue() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        let files = [1, 2, 3].map(|number| memory.file(file(KERNEL + number * 256, b"f")));
        queue(&mut memory, sock(1), &[(&files[..2], 0), (&[], 0), (&files[2..], 0)]);
        walk(&mut snapshot, &mut memory);
        assert_eq!(found(&snapshot), files.map(|file| (file, KERNEL)));
        assert_eq!((snapshot.handles.len(), snapshot.moving), (4, 0));
    }

    #[test]
    fn a_socket_in_flight_carries_what_is_queued_in_it() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        let inner = memory.file(unix_socket(KERNEL + 256, sock(2)));
        let innermost = memory.file(unix_socket(KERNEL + 512, sock(3)));
        let file = memory.file(file(KERNEL + 768, b"f"));
        queue(&mut memory, sock(1), &[(&[inner], 0)]);
        queue(&mut memory, sock(2), &[(&[innermost], 0)]);
        // In itself as well.
        queue(&mut memory, sock(3), &[(&[file, innermost], 0)]);
        walk(&mut snapshot, &mut memory);
        let expected = [(inner, KERNEL), (innermost, inner), (innermost, innermost), (file, innermost)];
        assert_eq!(found(&snapshot), expected);
    }

    #[test]
    fn connections_that_wait_belong_to_the_listener() {
        let (mut memory, mut records) = (Pages::default(), Records::default());
        let listener =
            fdtrace_common::holder_walk::File { state: TCP_LISTEN, ..unix_socket(KERNEL, sock(1)) };
        let mut snapshot = records.file(&listener).snapshot();
        let file = memory.file(file(KERNEL + 256, b"f"));
        queue(&mut memory, sock(1), &[(&[], sock(2)), (&[], sock(3))]);
        queue(&mut memory, sock(2), &[]);
        queue(&mut memory, sock(3), &[(&[file], sock(1))]);
        walk(&mut snapshot, &mut memory);
        assert_eq!(found(&snapshot), [(file, KERNEL)]);
        assert_eq!(snapshot.waiting, [(sock(2), 0), (sock(3), 0)]);
    }

    #[test]
    fn buffers_of_others_than_listeners_belong_to_senders() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        let file = memory.file(file(KERNEL + 256, b"f"));
        queue(&mut memory, sock(1), &[(&[], sock(2))]);
        queue(&mut memory, sock(2), &[(&[file], 0)]);
        walk(&mut snapshot, &mut memory);
        assert_eq!(found(&snapshot), []);
    }

    #[test]
    fn a_queue_that_leads_nowhere_or_round_ends() {
        let ends = |next: u64| {
            let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
            let file = memory.file(file(KERNEL + 256, b"f"));
            queue(&mut memory, sock(1), &[(&[file], 0), (&[], 0)]);
            // The second leads elsewhere than back to the head, which claims to have a thousand.
            memory.word(sock(1) + 0x300, next).word(sock(1) + LAYOUT.length, 1000);
            walk(&mut snapshot, &mut memory);
            assert_eq!(found(&snapshot), [(file, KERNEL)], "{next:x}");
            memory.reads
        };
        for next in
            [sock(1) + 0x200, sock(1) + 0x300, 0, 1, 0x1234_5678, sock(9), u64::MAX, u64::MAX - 7, !0xfff]
        {
            assert!(ends(next) < 30, "{next:x}");
        }
    }

    #[test]
    fn no_list_has_more_than_253() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        let files: Vec<u64> =
            (1..=260).map(|number| memory.file(file(KERNEL + number * 256, b"f"))).collect();
        queue(&mut memory, sock(1), &[(&files, 0)]);
        walk(&mut snapshot, &mut memory);
        assert_eq!(snapshot.in_flight.len(), MAX_PASSED);
    }

    #[test]
    fn a_list_at_the_end_of_what_can_be_read() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        let file = memory.file(file(KERNEL + 256, b"f"));
        queue(&mut memory, sock(1), &[(&[file], 0)]);
        let list = sock(1) + 0x100_0000 + 0x1000 - LAYOUT.files - 8;
        memory.word(sock(1) + 0x200 + LAYOUT.passed, list).word(list, 1).word(list + LAYOUT.files, file);
        walk(&mut snapshot, &mut memory);
        assert_eq!(found(&snapshot), [(file, KERNEL)]);
    }

    #[test]
    fn what_only_one_walk_saw_is_moving() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        let files = [1, 2].map(|number| memory.file(file(KERNEL + number * 256, b"f")));
        queue(&mut memory, sock(1), &[(&files, 0)]);
        // The first walk over one buffer reads three times: heads, buffers, lists.
        memory.changes.push((4, sock(1) + 0x100_0000, 1));
        walk(&mut snapshot, &mut memory);
        assert_eq!((found(&snapshot), snapshot.moving), (vec![(files[0], KERNEL)], 1));
    }

    #[test]
    fn what_is_no_handle_any_more_is_left_out() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        queue(&mut memory, sock(1), &[(&[KERNEL + 256, 0, 77], 0)]);
        walk(&mut snapshot, &mut memory);
        assert_eq!((snapshot.handles.len(), snapshot.in_flight.len()), (1, 0));
    }

    #[test]
    fn a_socket_is_looked_into_once() {
        let (mut snapshot, mut memory) = (snapshot(&[(KERNEL, sock(1))]), Pages::default());
        let file = memory.file(file(KERNEL + 256, b"f"));
        queue(&mut memory, sock(1), &[(&[file], 0)]);
        let mut done = HashSet::new();
        for _ in 0..2 {
            find(&mut snapshot, &mut memory, &LAYOUT, &mut done).expect("memory");
        }
        assert_eq!(found(&snapshot), [(file, KERNEL)]);
    }
}
