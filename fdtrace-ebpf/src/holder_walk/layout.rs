//! Where the fields are that the iterators read: decided by the loader, from the kernel's BTF.

use fdtrace_common::holder_walk::Layout;

const ABSENT: u32 = u32::MAX;

/// Overwritten by the loader before the programs are verified; the name is part of the contract with it.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout {
    task_files: ABSENT,
    task_mm: ABSENT,
    task_io_uring: ABSENT,
    task_started: ABSENT,
    task_flags: ABSENT,
    task_comm: ABSENT,
    task_pid: ABSENT,
    task_signal: ABSENT,
    task_parent: ABSENT,
    task_cred: ABSENT,
    task_namespaces: ABSENT,
    signal_limits: ABSENT,
    signal_pids: ABSENT,
    pid_level: ABSENT,
    pid_numbers: ABSENT,
    namespaces_net: ABSENT,
    namespaces_ipc: ABSENT,
    namespaces_mount: ABSENT,
    pid_ns_number: ABSENT,
    net_ns_number: ABSENT,
    ipc_ns_number: ABSENT,
    mount_ns_number: ABSENT,
    mm_executable: ABSENT,
    files_table: ABSENT,
    table_close_on_exec: ABSENT,
    vma_file: ABSENT,
    vma_start: ABSENT,
    vma_end: ABSENT,
    vma_flags: ABSENT,
    file_inode: ABSENT,
    file_mode: ABSENT,
    file_flags: ABSENT,
    file_count: ABSENT,
    file_cred: ABSENT,
    file_private: ABSENT,
    file_mount: ABSENT,
    file_dentry: ABSENT,
    inode_mode: ABSENT,
    inode_links: ABSENT,
    inode_ino: ABSENT,
    inode_rdev: ABSENT,
    inode_size: ABSENT,
    inode_blocks: ABSENT,
    inode_sb: ABSENT,
    sb_magic: ABSENT,
    sb_dev: ABSENT,
    sb_flags: ABSENT,
    dentry_parent: ABSENT,
    dentry_name: ABSENT,
    socket_sk: ABSENT,
    socket_type: ABSENT,
    sock_family: ABSENT,
    sock_state: ABSENT,
    sock_num: ABSENT,
    sock_dport: ABSENT,
    sock_saddr: ABSENT,
    sock_daddr: ABSENT,
    sock_saddr6: ABSENT,
    sock_daddr6: ABSENT,
    sock_net: ABSENT,
    sock_protocol: ABSENT,
    sock_ack_backlog: ABSENT,
    sock_max_ack_backlog: ABSENT,
    sock_receive_memory: ABSENT,
    sock_send_memory: ABSENT,
    tcp_received: ABSENT,
    tcp_copied: ABSENT,
    tcp_written: ABSENT,
    tcp_acknowledged: ABSENT,
    unix_addr: ABSENT,
    unix_peer: ABSENT,
    unix_name: ABSENT,
    unix_length: ABSENT,
};

/// Reads one offset, for example `at!(file_mode)`.
///
/// Volatile, or the compiler would use the constants above; a plain load of a frozen map, which the verifier folds.
macro_rules! at {
    ($field:ident) => {
        // SAFETY: LAYOUT is a static of plain integers; every bit pattern that the loader writes is valid.
        unsafe { core::ptr::read_volatile(&raw const $crate::layout::storage().$field) }
    };
}
pub(crate) use at;

/// Where [`at`] reads.
#[inline(always)]
pub(crate) fn storage() -> &'static Layout {
    &LAYOUT
}
