//! What a `struct file` is. It may be released while it is read, so every read is fault-tolerant.

use aya_ebpf::helpers::{bpf_probe_read_kernel_buf, bpf_probe_read_kernel_str_bytes};
use fdtrace_common::description::{Description, NAME_LEN};

use crate::kernel::{Ptr, file, inode, sock, socket, unix_sock};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFREG: u16 = 0o100_000;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Fills in all but the generation of the handle whose address is there.
#[inline(always)]
pub(crate) fn describe(out: &mut Description, inode: Ptr<inode>) {
    let file = Ptr::<file>::at(out.handle);
    out.mode = file.f_mode();
    out.flags = file.f_flags();
    out.count = file.f_count();
    out.release = file.f_op().release();
    describe_inode(out, inode);
    out.family = 0;
    out.name_of_peer = 0;
    out.name[0] = 0;
    out.name[1] = 0;
    if out.inode_mode & S_IFMT == S_IFSOCK {
        describe_socket(out, Ptr::at(file.private_data()));
    } else {
        let name = file.dentry().name();
        // SAFETY: a probe read takes any address; the buffer's length is its own.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut out.name) };
    }
}

#[inline(always)]
fn describe_inode(out: &mut Description, inode: Ptr<inode>) {
    out.inode_mode = inode.i_mode();
    out.rdev = inode.i_rdev();
    out.ino = inode.i_ino();
    let superblock = inode.i_sb();
    out.magic = superblock.s_magic();
    out.dev = superblock.s_dev();
}

/// Null for what is no socket.
#[inline(always)]
pub(crate) fn sock_of(file: Ptr<file>, inode: Ptr<inode>) -> Ptr<sock> {
    if inode.i_mode() & S_IFMT != S_IFSOCK {
        return Ptr::NULL;
    }
    Ptr::<socket>::at(file.private_data()).sk()
}

/// A regular file that no directory has an entry for.
#[inline(always)]
pub(crate) fn is_deleted(file: Ptr<file>, inode: Ptr<inode>) -> bool {
    let dentry = file.dentry();
    inode.i_mode() & S_IFMT == S_IFREG
        && inode.i_nlink() == 0
        // Memory that is a file was never in a directory.
        && dentry.d_parent() != dentry
}

#[inline(always)]
fn describe_socket(out: &mut Description, socket: Ptr<socket>) {
    let sock = socket.sk();
    out.socket_type = socket.kind();
    out.family = sock.family();
    out.socket_state = sock.state();
    match out.family {
        AF_INET => {
            describe_ports(out, sock);
            out.local[..4].copy_from_slice(&sock.rcv_saddr());
            out.remote[..4].copy_from_slice(&sock.daddr());
        }
        AF_INET6 => {
            describe_ports(out, sock);
            out.local = sock.v6_rcv_saddr();
            out.remote = sock.v6_daddr();
        }
        AF_UNIX => describe_unix(out, sock.cast()),
        _ => {}
    }
}

#[inline(always)]
fn describe_ports(out: &mut Description, sock: Ptr<sock>) {
    out.local_port = sock.num();
    out.remote_port = sock.dport();
}

/// The name that the socket was bound to, or that of its peer.
#[inline(always)]
fn describe_unix(out: &mut Description, sock: Ptr<unix_sock>) {
    let mut address = sock.addr();
    if address.is_null() {
        address = sock.peer().cast::<unix_sock>().addr();
        out.name_of_peer = 1;
    }
    if address.is_null() {
        return;
    }
    // `sun_path` lies behind the two bytes of `sun_family`.
    let path = address.name().skip(2).pointer();
    // SAFETY: a probe read takes any address; the buffer's length is its own.
    if unsafe { bpf_probe_read_kernel_buf(path, &mut out.name) }.is_err() {
        out.name[0] = 0;
    }
    out.name[NAME_LEN - 1] = 0;
}
