//! The loader's decisions, as constants that the verifier knows.

use fdtrace_common::config::{ABSENT, Config, Offsets, Range, Syscalls};

/// Overwritten by the loader before the programs are verified; the name is part of the contract with it.
#[unsafe(no_mangle)]
static CONFIG: Config = Config {
    slab_callers: [Range { start: 0, end: 0 }; 4],
    min_age_ns: 0,
    cgroup: 0,
    regs_offset: 0,
    kernel_task_flags: 0,
    unaccounted_modes: 0,
    tracer: 0,
    uid: 0,
    cgroup_level: 0,
    wakeup_bytes: 0,
    syscalls: Syscalls {
        open: 0,
        openat: 0,
        ioctl: 0,
        bpf: 0,
        execve: 0,
        execveat: 0,
        io_uring_enter: 0,
        mmap: 0,
        shmat: 0,
        reserved: 0,
    },
    offsets: NO_OFFSETS,
    comm: [0; 16],
    emit: 0,
    stacks: 0,
    filter_tree: 0,
    follow: 0,
    filter_uid: 0,
    has_task_btf: 0,
    has_task_regs: 0,
    exit_tells_group: 0,
    free_names_cache: 0,
    free_is_late: 0,
    count_from_zero: 0,
    releases_can_be_missed: 0,
    note_attach: 0,
    unwind: 0,
    inode_time_is_split: 0,
    window_code: 0,
};

const NO_OFFSETS: Offsets = Offsets {
    task_flags: ABSENT,
    task_pid: ABSENT,
    task_tgid: ABSENT,
    task_comm: ABSENT,
    task_signal: ABSENT,
    task_stack: ABSENT,
    task_files: ABSENT,
    files_table: ABSENT,
    table_length: ABSENT,
    table_files: ABSENT,
    signal_live: ABSENT,
    bprm_filename: ABSENT,
    regs_syscall: ABSENT,
    regs_arg: [ABSENT; 5],
    regs_return: ABSENT,
    regs_instruction: ABSENT,
    regs_stack: ABSENT,
    regs_frame: ABSENT,
    regs_code_segment: ABSENT,
    vma_file: ABSENT,
    task_cred: ABSENT,
    cred_uid: ABSENT,
    task_cgroups: ABSENT,
    css_cgroup: ABSENT,
    cgroup_level: ABSENT,
    cgroup_ancestors: ABSENT,
    cgroup_ancestor_ids: ABSENT,
    cgroup_node: ABSENT,
    node_id: ABSENT,
    file_mode: ABSENT,
    file_flags: ABSENT,
    file_op: ABSENT,
    file_inode: ABSENT,
    file_dentry: ABSENT,
    file_path: ABSENT,
    file_private: ABSENT,
    file_count: ABSENT,
    op_release: ABSENT,
    inode_mode: ABSENT,
    inode_rdev: ABSENT,
    inode_ino: ABSENT,
    inode_size: ABSENT,
    inode_sb: ABSENT,
    sb_magic: ABSENT,
    sb_dev: ABSENT,
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
    unix_addr: ABSENT,
    unix_peer: ABSENT,
    unix_name: ABSENT,
    task_mm: ABSENT,
    mm_changes: ABSENT,
    mm_stack: ABSENT,
    mm_vdso: ABSENT,
    vma_start: ABSENT,
    vma_end: ABSENT,
    vma_flags: ABSENT,
    vma_page: ABSENT,
    vma_node: ABSENT,
    mm_nodes: ABSENT,
    mm_tree: ABSENT,
    inode_seconds: ABSENT,
    inode_nanoseconds: ABSENT,
};

/// Reads one field of the configuration, for example `get!(offsets.file_mode)`.
///
/// Volatile, or the compiler would use the zeros above; a plain load of a frozen map, which the verifier folds.
macro_rules! get {
    ($($field:tt)+) => {
        // SAFETY: CONFIG is a static of plain integers; every bit pattern that the loader writes is valid.
        unsafe { core::ptr::read_volatile(&raw const $crate::config::storage().$($field)+) }
    };
}
pub(crate) use get;

/// Where [`get`] reads.
#[inline(always)]
pub(crate) fn storage() -> &'static Config {
    &CONFIG
}
