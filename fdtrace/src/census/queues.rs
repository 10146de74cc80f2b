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
    Census, InFlight, Memory,
    memory::{half, is_address, word},
};
use crate::kernel::QueueLayout;

/// `SCM_MAX_FD` (include/net/scm.h)
const MOST_PASSED: usize = 253;
/// No queue is longer than what its memory limit allows; this ends a walk through memory that is something else by now.
const MOST_BUFFERS: usize = 65_536;
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
    census: &mut Census,
    memory: &mut impl Memory,
    layout: &QueueLayout,
    done: &mut HashSet<u64>,
) -> io::Result<()> {
    loop {
        let sockets = unix_sockets(census, done);
        if sockets.is_empty() {
            return Ok(());
        }
        done.extend(sockets.iter().map(|socket| socket.sock));
        let first = walk(memory, layout, sockets.clone())?;
        if first.is_empty() {
            continue;
        }
        let second = walk(memory, layout, sockets)?;
        census.moving += first.symmetric_difference(&second).count() as u64;
        let both: Vec<(u64, u32)> = first.intersection(&second).copied().collect();
        keep(census, memory, &both)?;
    }
}

/// Sockets that were not looked into.
fn unix_sockets(census: &Census, done: &HashSet<u64>) -> Vec<Socket> {
    (0..)
        .zip(&census.handles)
        .filter(|(_, handle)| handle.family == AF_UNIX && is_address(handle.private))
        .filter(|(_, handle)| !done.contains(&handle.private))
        .map(|(receiver, handle)| Socket { sock: handle.private, receiver, listens: handle.is_listener() })
        .collect()
}

/// Puts the handles into the census, each once for each receiver.
fn keep(census: &mut Census, memory: &mut impl Memory, found: &[(u64, u32)]) -> io::Result<()> {
    let unknown: Vec<u64> = found
        .iter()
        .map(|(address, _)| *address)
        .filter(|address| census.place(*address).is_none())
        .collect();
    for file in memory.describe(&unknown)? {
        census.add(&file);
    }
    for (address, receiver) in found {
        if let Some(handle) = census.place(*address) {
            census.in_flight.push(InFlight { handle, receiver: *receiver });
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

/// One walk through the queues of all sockets, side by side.
fn walk(memory: &mut impl Memory, layout: &QueueLayout, sockets: Vec<Socket>) -> io::Result<Seen> {
    let mut seen = Seen::new();
    let mut known: HashSet<u64> = sockets.iter().map(|socket| socket.sock).collect();
    let mut pending = sockets;
    while !pending.is_empty() {
        let mut positions = heads(memory, layout, &pending)?;
        let mut waiting = Vec::new();
        while !positions.is_empty() {
            step(memory, layout, &mut positions, &mut seen, &mut waiting)?;
        }
        // Connections that wait to be accepted belong to the listener until then.
        pending = waiting.into_iter().filter(|socket: &Socket| known.insert(socket.sock)).collect();
    }
    Ok(seen)
}

fn heads(memory: &mut impl Memory, layout: &QueueLayout, sockets: &[Socket]) -> io::Result<Vec<Position>> {
    let heads: Vec<(u64, usize)> = sockets.iter().map(|socket| (socket.sock + layout.queue, 24)).collect();
    let found = memory.read(&heads)?;
    let length_at = usize::try_from(layout.length - layout.queue).unwrap_or(0);
    let positions = sockets.iter().zip(&found).filter_map(|(socket, bytes)| {
        let bytes = bytes.as_deref()?;
        let (head, next) = (socket.sock + layout.queue, word(bytes, 0));
        let left = (half(bytes, length_at) as usize).min(MOST_BUFFERS);
        (left > 0 && next != head && is_address(next)).then_some(Position {
            head,
            next,
            socket: *socket,
            left,
        })
    });
    Ok(positions.collect())
}

/// Looks at the buffer where each walk is, and goes on to the next.
fn step(
    memory: &mut impl Memory,
    layout: &QueueLayout,
    positions: &mut Vec<Position>,
    seen: &mut Seen,
    waiting: &mut Vec<Socket>,
) -> io::Result<()> {
    let bytes = usize::try_from(layout.passed + 8).unwrap_or(0);
    let wanted: Vec<(u64, usize)> = positions.iter().map(|position| (position.next, bytes)).collect();
    let buffers = memory.read(&wanted)?;
    let mut lists = Vec::new();
    let mut at = 0;
    positions.retain_mut(|position| {
        let buffer = buffers[at].as_deref();
        at += 1;
        let Some(buffer) = buffer else { return false };
        let list = word(buffer, bytes - 8);
        if is_address(list) {
            lists.push((list, position.socket.receiver));
        }
        let sock = word(buffer, usize::try_from(layout.buffer_sock).unwrap_or(0));
        if position.socket.listens && is_address(sock) {
            waiting.push(Socket { sock, listens: false, ..position.socket });
        }
        position.next = word(buffer, 0);
        position.left -= 1;
        position.left > 0 && position.next != position.head && is_address(position.next)
    });
    passed(memory, layout, &lists, seen)
}

/// The handles in each list.
fn passed(
    memory: &mut impl Memory,
    layout: &QueueLayout,
    lists: &[(u64, u32)],
    seen: &mut Seen,
) -> io::Result<()> {
    let files_at = usize::try_from(layout.files).unwrap_or(0);
    let wanted: Vec<(u64, usize)> =
        lists.iter().map(|(list, _)| (*list, files_at + MOST_PASSED * 8)).collect();
    for ((_, receiver), bytes) in lists.iter().zip(memory.read(&wanted)?) {
        let Some(bytes) = bytes else { continue };
        let count = (half(&bytes, usize::try_from(layout.count).unwrap_or(0)) & 0xffff) as usize;
        let files = (0..count.min(MOST_PASSED)).map(|index| word(&bytes, files_at + index * 8));
        seen.extend(files.filter(|file| is_address(*file)).map(|file| (file, *receiver)));
    }
    Ok(())
}
