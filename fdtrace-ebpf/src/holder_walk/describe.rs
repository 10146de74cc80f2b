//! What a handle is. Whoever calls makes sure that the `struct file` lives, or that user space knows that it may not.

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_str_bytes, generated::bpf_probe_read_kernel},
    macros::map,
    maps::{Array, PerCpuArray},
};
use fdtrace_common::holder_walk::{FILE_FIXED, File, Header, NAME_LEN, tag};

use crate::{
    iterator::{Meta, write_part},
    kernel::{Ptr, file, inode, sock, socket, tcp_sock, unix_sock},
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

/// The handles that user space has heard of, each in the place that its address gives. One that lost its place is reported
/// again, which does no harm.
#[map]
static DESCRIBED: Array<u64> = Array::with_max_entries(TOLD, 0);

/// A record of 208 bytes is too much for a stack of 512; of one program each, for programs may preempt each other.
#[map]
static FILES: PerCpuArray<File> = PerCpuArray::with_max_entries(3, 0);

/// Which program describes.
#[derive(Clone, Copy)]
pub(crate) enum By {
    Tasks = 0,
    Descriptors = 1,
    Mappings = 2,
}

/// A place in DESCRIBED that can be taken once all of an element's records are written.
pub(crate) struct Place(Option<*mut u64>);

impl Place {
    #[inline(always)]
    pub(crate) fn take(self, file: Ptr<file>) {
        if let Some(place) = self.0 {
            // SAFETY: the address of an element of an array map, which stays.
            unsafe { core::ptr::write_volatile(place, file.address()) };
        }
    }
}

/// Writes a [`File`] unless it was written before; `None` when there is no room.
#[inline(always)]
pub(crate) fn describe_once(meta: *const Meta, file: Ptr<file>, by: By) -> Option<Place> {
    let handle = file.address();
    // Structures lie at multiples of 8 and more; the multiplier spreads them (2^64 by the golden ratio).
    let place = (handle >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    let place = DESCRIBED.get_ptr_mut(place as u32 & (TOLD - 1));
    if let Some(place) = place
        // SAFETY: the address of an element of an array map, which stays.
        && unsafe { core::ptr::read_volatile(place) } == handle
    {
        return Some(Place(None));
    }
    describe(meta, file, by).then_some(Place(place))
}

/// Writes a [`File`]; nothing for one that is being opened.
#[inline(always)]
fn describe(meta: *const Meta, file: Ptr<file>, by: By) -> bool {
    let Some(out) = FILES.get_ptr_mut(by as u32) else { return true };
    // SAFETY: the map's value is one `File`, used by one program only.
    let out = unsafe { &mut *out };
    let length = fill(out, file);
    length == 0 || write_part(meta, out, length)
}

/// Fills in a [`File`] and says how many bytes of it that takes: 0 for one that is being opened, and has no inode yet.
#[inline(always)]
pub(crate) fn fill(out: &mut File, file: Ptr<file>) -> usize {
    let inode = file.f_inode();
    if inode.is_null() {
        return 0;
    }
    describe_file(out, file);
    describe_inode(out, inode);
    let is_socket = out.inode_mode & S_IFMT == S_IFSOCK && out.private != 0;
    let name = if is_socket { describe_socket(out) } else { describe_entry(out, file) };
    // Padded to 8 bytes; the mask is for the verifier, and changes nothing but a full name's length, which is added.
    let name = (name + 7) & 0x78;
    let length = FILE_FIXED + if name > NAME_LEN { NAME_LEN } else { name };
    out.header = Header { tag: tag::FILE, length: length as u32 };
    length
}

#[inline(always)]
fn describe_file(out: &mut File, file: Ptr<file>) {
    out.handle = file.address();
    out.mode = file.f_mode();
    out.flags = file.f_flags();
    out.count = file.f_count();
    out.cred = file.f_cred();
    out.private = file.private_data();
    out.mount = file.mnt().address();
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
fn describe_inode(out: &mut File, inode: Ptr<inode>) {
    out.inode = inode.address();
    out.inode_mode = inode.i_mode();
    out.links = inode.i_nlink();
    out.ino = inode.i_ino();
    out.rdev = inode.i_rdev();
    out.size = inode.i_size();
    out.blocks = inode.i_blocks();
    let superblock = inode.i_sb();
    out.magic = superblock.s_magic();
    out.dev = superblock.s_dev();
    out.mount_flags = superblock.s_flags();
}

/// The name of the directory entry; says how many bytes it has.
#[inline(always)]
fn describe_entry(out: &mut File, file: Ptr<file>) -> usize {
    let dentry = file.dentry();
    out.parent = dentry.d_parent().address();
    let name = dentry.name();
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
fn describe_socket(out: &mut File) -> usize {
    let socket = Ptr::<socket>::at(out.private);
    let sock = socket.sk();
    out.private = sock.address();
    out.socket_type = socket.kind();
    out.family = sock.family();
    out.state = sock.state();
    queues(out, sock);
    match out.family {
        AF_INET => {
            ports(out, sock);
            out.name[..16].copy_from_slice(&wide(sock.rcv_saddr()));
            out.name[16..32].copy_from_slice(&wide(sock.daddr()));
            32
        }
        AF_INET6 => {
            ports(out, sock);
            out.name[..16].copy_from_slice(&sock.v6_rcv_saddr());
            out.name[16..32].copy_from_slice(&sock.v6_daddr());
            32
        }
        AF_UNIX => unix_name(out, sock.cast()),
        _ => 0,
    }
}

#[inline(always)]
fn wide(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[inline(always)]
fn ports(out: &mut File, sock: Ptr<sock>) {
    out.parent = sock.net();
    out.local_port = sock.num();
    out.remote_port = sock.dport();
}

/// As `ss` has them: of TCP by sequence numbers (`tcp_diag_get_info`, net/ipv4/tcp_diag.c), of others the memory that
/// the queues take.
#[inline(always)]
fn queues(out: &mut File, sock: Ptr<sock>) {
    if out.state == TCP_LISTEN {
        out.receive = sock.ack_backlog();
        out.send = sock.max_ack_backlog();
        return;
    }
    let protocol = sock.protocol();
    if protocol == IPPROTO_TCP && (out.family == AF_INET || out.family == AF_INET6) {
        let between = |from: u32, to: u32| {
            let bytes = to.wrapping_sub(from);
            // Neither is read under the socket's lock, and a FIN takes a number.
            if bytes > u32::MAX / 2 { 0 } else { bytes }
        };
        let tcp = sock.cast::<tcp_sock>();
        out.receive = between(tcp.copied_seq(), tcp.rcv_nxt());
        out.send = between(tcp.snd_una(), tcp.write_seq());
        return;
    }
    out.receive = sock.rmem_alloc();
    // `sk_wmem_alloc` counts from one (include/net/sock.h).
    out.send = sock.wmem_alloc().saturating_sub(1);
}

/// The name that the socket was bound to, or that of its peer.
#[inline(always)]
fn unix_name(out: &mut File, sock: Ptr<unix_sock>) -> usize {
    let peer = sock.peer();
    out.parent = peer.address();
    let mut address = sock.addr();
    if address.is_null() {
        address = peer.cast::<unix_sock>().addr();
        out.name_of_peer = 1;
    }
    if address.is_null() {
        return 0;
    }
    // `sun_path` lies behind the two bytes of `sun_family`.
    let path = address.name().skip(2).pointer();
    // What lies behind the name is not its own; the two bytes of `sun_family` count.
    let length = address.len().saturating_sub(2);
    let length = if length > NAME_LEN as u32 { NAME_LEN as u32 } else { length };
    out.name = [0; NAME_LEN];
    // SAFETY: a probe read takes any address; the length is that of the buffer at most.
    unsafe { bpf_probe_read_kernel(out.name.as_mut_ptr().cast(), length, path.cast()) };
    length as usize
}
