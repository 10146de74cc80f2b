//! What each live handle is: one walk over HANDLES.
//!
//! A handle can be released while it is read, so every read is fault-tolerant, and the generation is compared again
//! afterwards: what is written is of one handle or not written.

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_probe_read_kernel_buf, bpf_probe_read_kernel_str_bytes, bpf_seq_write},
    macros::map,
    maps::PerCpuArray,
};
use fdtrace_common::{
    config::EMIT_MIN_AGE,
    iterators::{Description, NAME_LEN},
    wire::{Entry, state},
};

use super::descriptors::WANTED;
use crate::{
    config,
    task::{now, read},
};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFREG: u16 = 0o100_000;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `struct bpf_iter_meta`
#[repr(C)]
pub(super) struct Meta {
    pub(super) seq: *mut seq_file,
}

/// `struct bpf_iter__bpf_map_elem`
#[repr(C)]
pub(super) struct Context {
    pub(super) meta: *const Meta,
    map: u64,
    pub(super) key: *const u64,
    pub(super) value: *mut Entry,
}

/// Scratch of this iterator alone.
#[map]
static DESCRIPTION: PerCpuArray<Description> = PerCpuArray::with_max_entries(1, 0);

/// Writes a [`Description`] for each entry of HANDLES that has not been described, or whose name is wanted.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_describe(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, key, value) = unsafe { ((*ctx).meta, (*ctx).key, (*ctx).value) };
    if key.is_null() || value.is_null() {
        return 0;
    }
    // SAFETY: not null; the kernel holds the element while the program runs.
    let (handle, generation, described) =
        unsafe { (*key, (*value).generation, (*value).state & state::DESCRIBED != 0) };
    if (described || is_young(generation)) && WANTED.get_ptr(handle).is_none() {
        return 0;
    }
    let Some(scratch) = DESCRIPTION.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's value is one `Description`, used by this program only.
    let scratch = unsafe { &mut *scratch };
    scratch.handle = handle;
    scratch.generation = generation;
    let inode: u64 = read(handle, config::get!(offsets.file_inode));
    if inode == 0 {
        // It is being opened; the next walk will find it done.
        return 0;
    }
    describe(scratch, inode);
    // SAFETY: as above; a handle that was replaced meanwhile has another generation.
    if unsafe { core::ptr::read_volatile(&raw const (*value).generation) } != generation {
        return 0;
    }
    // SAFETY: the kernel's `meta` and `seq` are valid while the program runs; the length is the record's own.
    let written =
        unsafe { bpf_seq_write((*meta).seq, (&raw const *scratch).cast(), size_of::<Description>() as u32) };
    if written == 0 {
        // SAFETY: as above. When the buffer is full the kernel calls again for the same element.
        unsafe { (*value).state |= state::DESCRIBED };
    }
    0
}

/// User space has not heard of the handle yet, and may never.
#[inline(always)]
fn is_young(generation: u64) -> bool {
    config::get!(emit) == EMIT_MIN_AGE && now().wrapping_sub(generation) < config::get!(min_age_ns)
}

#[inline(always)]
pub(crate) fn describe(out: &mut Description, inode: u64) {
    let file = out.handle;
    out.mode = read(file, config::get!(offsets.file_mode));
    out.flags = read(file, config::get!(offsets.file_flags));
    out.count = read(file, config::get!(offsets.file_count));
    let operations: u64 = read(file, config::get!(offsets.file_op));
    out.release = read(operations, config::get!(offsets.op_release));
    describe_inode(out, inode);
    out.family = 0;
    out.name_of_peer = 0;
    out.name[0] = 0;
    out.name[1] = 0;
    if out.inode_mode & S_IFMT == S_IFSOCK {
        describe_socket(out, read(file, config::get!(offsets.file_private)));
    } else {
        let dentry: u64 = read(file, config::get!(offsets.file_dentry));
        let name: u64 = read(dentry, config::get!(offsets.dentry_name));
        // SAFETY: a probe read takes any address; the buffer's length is its own.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut out.name) };
    }
}

#[inline(always)]
fn describe_inode(out: &mut Description, inode: u64) {
    out.inode_mode = read(inode, config::get!(offsets.inode_mode));
    out.rdev = read(inode, config::get!(offsets.inode_rdev));
    out.ino = read(inode, config::get!(offsets.inode_ino));
    let superblock: u64 = read(inode, config::get!(offsets.inode_sb));
    out.magic = read(superblock, config::get!(offsets.sb_magic));
    out.dev = read(superblock, config::get!(offsets.sb_dev));
}

/// The `struct sock` of a socket; 0 for what is none.
#[inline(always)]
pub(crate) fn sock(file: u64, inode: u64) -> u64 {
    if read::<u16>(inode, config::get!(offsets.inode_mode)) & S_IFMT != S_IFSOCK {
        return 0;
    }
    read(read(file, config::get!(offsets.file_private)), config::get!(offsets.socket_sk))
}

/// A regular file that no directory has an entry for.
#[inline(always)]
pub(crate) fn is_deleted(file: u64, inode: u64) -> bool {
    let dentry: u64 = read(file, config::get!(offsets.file_dentry));
    read::<u16>(inode, config::get!(offsets.inode_mode)) & S_IFMT == S_IFREG
        && read::<u32>(inode, config::get!(offsets.inode_links)) == 0
        // Memory that is a file was never in a directory.
        && read::<u64>(dentry, config::get!(offsets.dentry_parent)) != dentry
}

#[inline(always)]
fn describe_socket(out: &mut Description, socket: u64) {
    let sock: u64 = read(socket, config::get!(offsets.socket_sk));
    out.socket_type = read(socket, config::get!(offsets.socket_type));
    out.family = read(sock, config::get!(offsets.sock_family));
    out.socket_state = read(sock, config::get!(offsets.sock_state));
    match out.family {
        AF_INET => {
            describe_ports(out, sock);
            out.local[..4].copy_from_slice(&read::<[u8; 4]>(sock, config::get!(offsets.sock_saddr)));
            out.remote[..4].copy_from_slice(&read::<[u8; 4]>(sock, config::get!(offsets.sock_daddr)));
        }
        AF_INET6 => {
            describe_ports(out, sock);
            out.local = read(sock, config::get!(offsets.sock_saddr6));
            out.remote = read(sock, config::get!(offsets.sock_daddr6));
        }
        AF_UNIX => describe_unix(out, sock),
        _ => {}
    }
}

#[inline(always)]
fn describe_ports(out: &mut Description, sock: u64) {
    out.local_port = read(sock, config::get!(offsets.sock_num));
    out.remote_port = read(sock, config::get!(offsets.sock_dport));
}

/// The name that the socket was bound to, or that of its peer.
#[inline(always)]
fn describe_unix(out: &mut Description, sock: u64) {
    let mut address: u64 = read(sock, config::get!(offsets.unix_addr));
    if address == 0 {
        let peer: u64 = read(sock, config::get!(offsets.unix_peer));
        address = read(peer, config::get!(offsets.unix_addr));
        out.name_of_peer = 1;
    }
    if address == 0 {
        return;
    }
    // `sun_path` lies behind the two bytes of `sun_family`.
    let path = (address as *const u8).wrapping_add(config::get!(offsets.unix_name) as usize + 2);
    // SAFETY: a probe read takes any address; the buffer's length is its own.
    if unsafe { bpf_probe_read_kernel_buf(path, &mut out.name) }.is_err() {
        out.name[0] = 0;
    }
    out.name[NAME_LEN - 1] = 0;
}
