//! What a handle is. Whoever calls makes sure that the `struct file` lives, or that user space knows that it may not.

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_str_bytes, generated::bpf_probe_read_kernel},
    macros::map,
    maps::{Array, PerCpuArray},
};
use fdtrace_common::holder_walk::{FILE_FIXED, File, Header, NAME_LEN, tag};

use crate::{
    layout::at,
    read::{Meta, read, write},
};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const TCP_LISTEN: u8 = 10;

/// How many handles are remembered as told: a guess of how many are met again before others take their place.
const TOLD: u32 = 1 << 16;

/// The handles that user space has heard of, each in the place that its address gives. One that lost its place is told
/// again, which does no harm.
#[map]
static DESCRIBED: Array<u64> = Array::with_max_entries(TOLD, 0);

/// A record of 208 bytes is too much for a stack of 512; of one program each, for programs may preempt each other.
#[map]
static FILES: PerCpuArray<File> = PerCpuArray::with_max_entries(4, 0);

/// Which program describes.
#[derive(Clone, Copy)]
pub(crate) enum By {
    Tasks = 0,
    Descriptors = 1,
    Mappings = 2,
    Peek = 3,
}

/// A place in DESCRIBED that can be taken once all of an element's records are written.
pub(crate) struct Place(Option<*mut u64>);

impl Place {
    #[inline(always)]
    pub(crate) fn take(self, handle: u64) {
        if let Some(place) = self.0 {
            // SAFETY: the address of an element of an array map, which stays.
            unsafe { core::ptr::write_volatile(place, handle) };
        }
    }
}

/// Writes a [`File`] unless it was written before; `None` when there is no room.
#[inline(always)]
pub(crate) fn describe_once(meta: *const Meta, handle: u64, by: By) -> Option<Place> {
    // Structures lie at multiples of 8 and more; the multiplier spreads them (2^64 by the golden ratio).
    let place = (handle >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    let place = DESCRIBED.get_ptr_mut(place as u32 & (TOLD - 1));
    if let Some(place) = place
        // SAFETY: the address of an element of an array map, which stays.
        && unsafe { core::ptr::read_volatile(place) } == handle
    {
        return Some(Place(None));
    }
    describe(meta, handle, by).then_some(Place(place))
}

/// Writes a [`File`]; nothing for one that is being opened, and has no inode yet.
#[inline(always)]
pub(crate) fn describe(meta: *const Meta, handle: u64, by: By) -> bool {
    let Some(out) = FILES.get_ptr_mut(by as u32) else { return true };
    // SAFETY: the map's value is one `File`, used by one program only.
    let out = unsafe { &mut *out };
    out.inode = read(handle, at!(file_inode));
    if out.inode == 0 {
        return true;
    }
    out.handle = handle;
    describe_file(out);
    describe_inode(out);
    let socket = if out.inode_mode & S_IFMT == S_IFSOCK { out.private } else { 0 };
    let name = if socket != 0 { describe_socket(out, socket) } else { describe_entry(out) };
    // Padded to 8 bytes; the mask is for the verifier, and changes nothing but a full name's length, which is added.
    let name = (name + 7) & 0x78;
    let length = FILE_FIXED + if name > NAME_LEN { NAME_LEN } else { name };
    out.header = Header { tag: tag::FILE, length: length as u32 };
    write(meta, out, length)
}

#[inline(always)]
fn describe_file(out: &mut File) {
    let file = out.handle;
    out.mode = read(file, at!(file_mode));
    out.flags = read(file, at!(file_flags));
    out.count = read(file, at!(file_count));
    out.cred = read(file, at!(file_cred));
    out.private = read(file, at!(file_private));
    out.mount = read(file, at!(file_mount));
    out.parent = 0;
    out.family = 0;
    out.socket_type = 0;
    out.local_port = 0;
    out.remote_port = 0;
    out.state = 0;
    out.name_of_peer = 0;
    out.receive = 0;
    out.send = 0;
}

#[inline(always)]
fn describe_inode(out: &mut File) {
    let inode = out.inode;
    out.inode_mode = read(inode, at!(inode_mode));
    out.links = read(inode, at!(inode_links));
    out.ino = read(inode, at!(inode_ino));
    out.rdev = read(inode, at!(inode_rdev));
    out.size = read(inode, at!(inode_size));
    out.blocks = read(inode, at!(inode_blocks));
    let superblock: u64 = read(inode, at!(inode_sb));
    out.magic = read(superblock, at!(sb_magic));
    out.dev = read(superblock, at!(sb_dev));
    out.mount_flags = read(superblock, at!(sb_flags));
}

/// The name of the directory entry; says how many bytes it has.
#[inline(always)]
fn describe_entry(out: &mut File) -> usize {
    let dentry: u64 = read(out.handle, at!(file_dentry));
    out.parent = read(dentry, at!(dentry_parent));
    let name: u64 = read(dentry, at!(dentry_name));
    // SAFETY: a probe read takes any address; the buffer's length is its own.
    match unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut out.name) } {
        // A full buffer may be a name that goes on.
        Ok(name) if name.len() < NAME_LEN => name.len() + 1,
        Ok(_) => NAME_LEN,
        Err(_) => {
            out.name[0] = 0;
            1
        }
    }
}

/// A socket's addresses, or its name; says how many bytes that is.
#[inline(always)]
fn describe_socket(out: &mut File, socket: u64) -> usize {
    let sock: u64 = read(socket, at!(socket_sk));
    out.private = sock;
    out.socket_type = read(socket, at!(socket_type));
    out.family = read(sock, at!(sock_family));
    out.state = read(sock, at!(sock_state));
    queues(out, sock);
    match out.family {
        AF_INET => {
            ports(out, sock);
            out.name[..16].copy_from_slice(&wide(read(sock, at!(sock_saddr))));
            out.name[16..32].copy_from_slice(&wide(read(sock, at!(sock_daddr))));
            32
        }
        AF_INET6 => {
            ports(out, sock);
            out.name[..16].copy_from_slice(&read::<[u8; 16]>(sock, at!(sock_saddr6)));
            out.name[16..32].copy_from_slice(&read::<[u8; 16]>(sock, at!(sock_daddr6)));
            32
        }
        AF_UNIX => unix_name(out, sock),
        _ => 0,
    }
}

#[inline(always)]
fn wide(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[inline(always)]
fn ports(out: &mut File, sock: u64) {
    out.parent = read(sock, at!(sock_net));
    out.local_port = read(sock, at!(sock_num));
    out.remote_port = read(sock, at!(sock_dport));
}

/// As `ss` has them: of TCP by sequence numbers (`tcp_diag_get_info`, net/ipv4/tcp_diag.c), of others the memory that
/// the queues take.
#[inline(always)]
fn queues(out: &mut File, sock: u64) {
    if out.state == TCP_LISTEN {
        out.receive = read(sock, at!(sock_ack_backlog));
        out.send = read(sock, at!(sock_max_ack_backlog));
        return;
    }
    let protocol: u16 = read(sock, at!(sock_protocol));
    if protocol == IPPROTO_TCP && (out.family == AF_INET || out.family == AF_INET6) {
        let between = |from: u32, to: u32| {
            let bytes = to.wrapping_sub(from);
            // Neither is read under the socket's lock, and a FIN takes a number.
            if bytes > u32::MAX / 2 { 0 } else { bytes }
        };
        out.receive = between(read(sock, at!(tcp_copied)), read(sock, at!(tcp_received)));
        out.send = between(read(sock, at!(tcp_acknowledged)), read(sock, at!(tcp_written)));
        return;
    }
    out.receive = read(sock, at!(sock_receive_memory));
    let send: u32 = read(sock, at!(sock_send_memory));
    // `sk_wmem_alloc` counts from one (include/net/sock.h).
    out.send = send.saturating_sub(1);
}

/// The name that the socket was bound to, or that of its peer.
#[inline(always)]
fn unix_name(out: &mut File, sock: u64) -> usize {
    let peer: u64 = read(sock, at!(unix_peer));
    out.parent = peer;
    let mut address: u64 = read(sock, at!(unix_addr));
    if address == 0 {
        address = read(peer, at!(unix_addr));
        out.name_of_peer = 1;
    }
    if address == 0 {
        return 0;
    }
    // `sun_path` lies behind the two bytes of `sun_family`.
    let path = (address as *const u8).wrapping_add(at!(unix_name) as usize + 2);
    // What lies behind the name is not its own; the two bytes of `sun_family` count.
    let length: u32 = read(address, at!(unix_length));
    let length = length.saturating_sub(2);
    let length = if length > NAME_LEN as u32 { NAME_LEN as u32 } else { length };
    out.name = [0; NAME_LEN];
    // SAFETY: a probe read takes any address; the length is that of the buffer at most.
    unsafe { bpf_probe_read_kernel(out.name.as_mut_ptr().cast(), length, path.cast()) };
    length as usize
}
