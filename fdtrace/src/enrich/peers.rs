//! Which sockets have a peer that has not hung up. TCP has that in the socket's state; a socket in the family of Unix is
//! ESTABLISHED for ever, and the kernel's socket diagnostics say whether its peer is there.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use fdtrace_common::description::Description;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

/// `AF_UNIX`; `AF_INET` and `AF_INET6`; `SOCK_STREAM`.
const UNIX: u16 = 1;
const INTERNET: [u16; 2] = [2, 10];
const STREAM: u16 = 1;
/// `TCP_ESTABLISHED`, which is the state of a connected socket in other families too.
const ESTABLISHED: u8 = 1;

/// Those of some sockets that have a peer, by address and generation.
pub(super) fn connected(sockets: &[Description]) -> Vec<(u64, u64)> {
    // Without an answer nobody is known to have a peer.
    let unix = match sockets.iter().any(|socket| socket.family == UNIX) {
        true => with_peers().unwrap_or_default(),
        false => HashSet::new(),
    };
    let has_peer = |socket: &&Description| match socket.family {
        UNIX => u32::try_from(socket.ino).is_ok_and(|inode| unix.contains(&inode)),
        family => {
            INTERNET.contains(&family) && socket.socket_type == STREAM && socket.socket_state == ESTABLISHED
        }
    };
    sockets.iter().filter(has_peer).map(|socket| (socket.handle, socket.generation)).collect()
}

/// Longest answer that is read at once; the kernel's are shorter.
const ANSWER: usize = 1 << 16;
/// An answer that does not come is not waited for.
const TIMEOUT: nix::sys::time::TimeVal = nix::sys::time::TimeVal::new(1, 0);

/// Inodes of the Unix sockets of this network namespace whose peer is open.
fn with_peers() -> io::Result<HashSet<u32>> {
    let kernel: OwnedFd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TIMEOUT)?;
    send(kernel.as_raw_fd(), &question(), MsgFlags::empty())?;
    let (mut found, mut buffer) = (HashSet::new(), vec![0; ANSWER]);
    loop {
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if length == 0 || read(&buffer[..length], &mut found) {
            return Ok(found);
        }
    }
}

/// `SOCK_DIAG_BY_FAMILY` (include/uapi/linux/sock_diag.h)
const BY_FAMILY: u16 = 20;
/// `UDIAG_SHOW_PEER` and `UNIX_DIAG_PEER` (include/uapi/linux/unix_diag.h)
const SHOW_PEER: u32 = 4;
const PEER: u16 = 2;
/// Length of `struct nlmsghdr` and of `struct unix_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// A dump of all that are connected: `struct nlmsghdr` and `struct unix_diag_req`.
fn question() -> Vec<u8> {
    const LENGTH: u32 = 40;
    // `NLM_F_DUMP | NLM_F_REQUEST`
    let flags = 0x301_u16;
    let header =
        [LENGTH.to_ne_bytes().to_vec(), BY_FAMILY.to_ne_bytes().to_vec(), flags.to_ne_bytes().to_vec()];
    let numbers = [1, 0].map(u32::to_ne_bytes).concat();
    let states = 1u32 << ESTABLISHED;
    let rest = [states, 0, SHOW_PEER, 0, 0].map(u32::to_ne_bytes).concat();
    [header.concat(), numbers, vec![1, 0, 0, 0], rest].concat()
}

/// Reads some messages; says whether the last one was among them.
fn read(mut messages: &[u8], found: &mut HashSet<u32>) -> bool {
    while let Some((length, kind)) = number(messages, 0).zip(short(messages, 4)) {
        let length = length as usize;
        if kind != BY_FAMILY || length < HEADER || length > messages.len() {
            return true;
        }
        let message = &messages[HEADER..length];
        if let Some(inode) = number(message, 4).filter(|_| peer(message).is_some_and(|peer| peer != 0)) {
            found.insert(inode);
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// The inode of the peer; 0 when it was closed.
fn peer(message: &[u8]) -> Option<u32> {
    let mut attributes = message.get(MESSAGE..)?;
    loop {
        let (length, kind) = (usize::from(short(attributes, 0)?), short(attributes, 2)?);
        if kind == PEER {
            return number(attributes, 4);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        os::{
            fd::AsFd,
            unix::{fs::MetadataExt as _, net::UnixStream},
        },
        path::PathBuf,
    };

    use super::*;

    fn inode(socket: &impl AsFd) -> u32 {
        let path = PathBuf::from(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd()));
        let inode = std::fs::metadata(path).expect("a socket").ino();
        u32::try_from(inode).expect("a small number")
    }

    #[test]
    fn the_kernel_says_which_peers_are_there() {
        let Ok(all) = with_peers() else { return };
        assert!(!all.contains(&0));
        let (kept, _peer) = UnixStream::pair().expect("sockets");
        let (left, gone) = UnixStream::pair().expect("sockets");
        drop(gone);
        let found = with_peers().expect("an answer");
        assert!(found.contains(&inode(&kept)) && !found.contains(&inode(&left)));
    }

    #[test]
    fn whatever_the_answer_is() {
        let mut found = HashSet::new();
        let message = |attributes: &[u8]| {
            let length = u32::try_from(HEADER + MESSAGE + attributes.len()).expect("short");
            let header = [length.to_ne_bytes(), [20, 0, 0, 0], [0; 4], [0; 4]].concat();
            [header, vec![1, 1, 1, 0], 7u32.to_ne_bytes().to_vec(), vec![0; 8], attributes.to_vec()].concat()
        };
        let peer = |inode: u8| [8, 0, 2, 0, inode, 0, 0, 0];
        assert!(!read(&message(&peer(0)), &mut found) && found.is_empty());
        assert!(!read(&message(&[]), &mut found) && found.is_empty());
        assert!(!read(&message(&[&[0, 0, 9, 0][..], &peer(5)].concat()), &mut found));
        assert_eq!(found, HashSet::from([7]));
        let whole = [message(&peer(1)), message(&peer(2))].concat();
        for end in 0..whole.len() {
            read(&whole[..end], &mut HashSet::new());
        }
        assert!(read(&[16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut found), "the end");
    }
}
