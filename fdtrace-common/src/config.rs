//! What the loader decides before the programs are verified.
//!
//! One read-only global of the BPF object. The verifier knows its value, so a branch on it that is not taken costs
//! nothing, and a kernel that does not know a helper never sees the call to it. rustc emits no CO-RE relocations, so
//! offsets come this way as well, from the running kernel's BTF.

use core::mem::size_of;

use crate::wire::COMM_LEN;

/// A half-open range of kernel text.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
}

/// Byte offsets of the fields that the programs read, from BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.real_parent`
    pub task_parent: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `task_struct.stack`
    pub task_stack: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `files_struct.fdt`
    pub files_table: u32,
    /// `fdtable.max_fds`
    pub table_length: u32,
    /// `fdtable.fd`
    pub table_files: u32,
    /// `fdtable.open_fds`
    pub table_open: u32,
    /// `fdtable.close_on_exec`
    pub table_close: u32,
    /// `files_struct.count`
    pub files_count: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `signal_struct.rlim`
    pub signal_limits: u32,
    /// `task_struct.thread_pid`
    pub task_thread_pid: u32,
    /// `task_struct.group_leader`
    pub task_leader: u32,
    /// `pid.level`
    pub pid_level: u32,
    /// `pid.numbers`
    pub pid_numbers: u32,
    /// `pid_namespace.ns.inum`
    pub namespace_number: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `signal_struct.thread_head`
    pub signal_threads: u32,
    /// `task_struct.thread_node`
    pub task_thread_node: u32,
    /// `task_struct.start_time`
    pub task_start: u32,
    /// `linux_binprm.filename`
    pub bprm_filename: u32,
    /// The field of `pt_regs` with the system call's number (`orig_ax`, `syscallno`).
    pub regs_syscall: u32,
    /// The fields of `pt_regs` with its first five arguments.
    pub regs_arg: [u32; 5],
    /// The field of `pt_regs` with what it returns (`ax`, register 0).
    pub regs_return: u32,
    /// The fields of `pt_regs` with the instruction, stack and frame pointers.
    pub regs_instruction: u32,
    /// See above.
    pub regs_stack: u32,
    /// See above.
    pub regs_frame: u32,
    /// The field of `pt_regs` that tells 64-bit code by [`CODE_SEGMENT_64`]; absent where the kernel runs no other.
    pub regs_code_segment: u32,
    /// `vm_area_struct.vm_file`
    pub vma_file: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `cred.uid`
    pub cred_uid: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub css_cgroup: u32,
    /// `cgroup.level`
    pub cgroup_level: u32,
    /// `cgroup.ancestors` (6.1), an array of addresses
    pub cgroup_ancestors: u32,
    /// `cgroup.ancestor_ids` (before)
    pub cgroup_ancestor_ids: u32,
    /// `cgroup.kn`
    pub cgroup_node: u32,
    /// `kernfs_node.id`
    pub node_id: u32,
    /// `file.f_mode`
    pub file_mode: u32,
    /// `file.f_flags`
    pub file_flags: u32,
    /// `file.f_op`
    pub file_op: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.f_path.dentry`
    pub file_dentry: u32,
    /// `file.f_path`
    pub file_path: u32,
    /// `file.private_data`
    pub file_private: u32,
    /// `file.f_count`, or `file.f_ref` from 6.13 on
    pub file_count: u32,
    /// `file_operations.release`
    pub op_release: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `inode.i_rdev`
    pub inode_rdev: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_nlink`
    pub inode_links: u32,
    /// `inode.i_size`
    pub inode_size: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `super_block.s_magic`
    pub sb_magic: u32,
    /// `super_block.s_dev`
    pub sb_dev: u32,
    /// `dentry.d_name.name`
    pub dentry_name: u32,
    /// `dentry.d_parent`
    pub dentry_parent: u32,
    /// `dentry.d_hash.pprev`: 0 when it is in no directory
    pub dentry_hashed: u32,
    /// `file.f_path.mnt`
    pub file_mount: u32,
    /// `vfsmount.mnt_root`
    pub mount_root: u32,
    /// `mount.mnt`: a `vfsmount` lies in a `mount`
    pub mount_inner: u32,
    /// `mount.mnt_parent`
    pub mount_parent: u32,
    /// `mount.mnt_mountpoint`
    pub mount_point: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `socket.type`
    pub socket_type: u32,
    /// `sock.__sk_common.skc_family`
    pub sock_family: u32,
    /// `sock.__sk_common.skc_state`
    pub sock_state: u32,
    /// `sock.__sk_common.skc_num`
    pub sock_num: u32,
    /// `sock.__sk_common.skc_dport`
    pub sock_dport: u32,
    /// `sock.__sk_common.skc_rcv_saddr`
    pub sock_saddr: u32,
    /// `sock.__sk_common.skc_daddr`
    pub sock_daddr: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`
    pub sock_saddr6: u32,
    /// `sock.__sk_common.skc_v6_daddr`
    pub sock_daddr6: u32,
    /// `unix_sock.addr`
    pub unix_addr: u32,
    /// `unix_sock.peer`
    pub unix_peer: u32,
    /// `unix_address.name`
    pub unix_name: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `mm_struct.context.tlb_gen`
    pub mm_changes: u32,
    /// `mm_struct.start_stack`
    pub mm_stack: u32,
    /// `mm_struct.context.vdso`
    pub mm_vdso: u32,
    /// `mm_struct.end_code`
    pub mm_code_end: u32,
    /// `vm_area_struct.vm_start`
    pub vma_start: u32,
    /// `vm_area_struct.vm_end`
    pub vma_end: u32,
    /// `vm_area_struct.vm_flags`
    pub vma_flags: u32,
    /// `vm_area_struct.vm_pgoff`
    pub vma_page: u32,
    /// `vm_area_struct.vm_rb`, up to 6.0
    pub vma_node: u32,
    /// `mm_struct.mm_rb`, up to 6.0
    pub mm_nodes: u32,
    /// `mm_struct.mm_mt.ma_root`, from 6.1 on
    pub mm_tree: u32,
    /// `inode.i_mtime`: seconds
    pub inode_seconds: u32,
    /// `inode.i_mtime`: nanoseconds
    pub inode_nanoseconds: u32,
}

/// `__USER_CS` of x86: what `pt_regs.cs` is in 64-bit code.
pub const CODE_SEGMENT_64: u64 = 0x33;

/// An offset that this kernel does not have; what needs it is left out.
pub const ABSENT: u32 = u32::MAX;

/// `Config::emit`: every allocation and release goes through the ring.
pub const EMIT_STREAM: u8 = 0;
/// `Config::emit`: a handle that its own process closes before `min_age_ns` never leaves the kernel.
pub const EMIT_MIN_AGE: u8 = 1;
/// `Config::emit`: nothing of handles leaves the kernel. For measuring what the ring costs.
pub const EMIT_NOTHING: u8 = 2;

/// `Config::stacks`: none.
pub const STACKS_OFF: u8 = 0;
/// `Config::stacks`: user stacks only.
pub const STACKS_USER: u8 = 1;
/// `Config::stacks`: user and kernel stacks.
pub const STACKS_BOTH: u8 = 2;

/// `Config::unwind`: user stacks by frame pointers.
pub const UNWIND_FRAME_POINTERS: u8 = 0;
/// `Config::unwind`: user stacks by the programs' unwind tables.
pub const UNWIND_TABLES: u8 = 1;
/// `Config::unwind`: no user stacks.
pub const UNWIND_OFF: u8 = 2;

/// Everything that the loader tells the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Return addresses of slab allocations that make a handle (tracepoint backend); unused ones are empty.
    pub slab_callers: [Range; 4],
    /// Min-age filter: the age under which a closed handle is only counted, in ns.
    pub min_age_ns: u64,
    /// Only tasks below this cgroup v2 (its id), 0 for no filter.
    pub cgroup: u64,
    /// From `task_struct.stack` to the user's `pt_regs`, where `bpf_task_pt_regs` does not exist; 0 for unknown.
    pub regs_offset: u64,
    /// Bits of `task_struct.flags` that mean "not a user's thread" on this kernel.
    pub kernel_task_flags: u32,
    /// `file.f_mode` bits that keep a file out of file-nr on this kernel.
    pub unaccounted_modes: u32,
    /// Process id of the tracer.
    pub tracer: u32,
    /// Only tasks of this uid, if `filter_uid`.
    pub uid: u32,
    /// Depth of `cgroup` below the root.
    pub cgroup_level: u32,
    /// Number of the PID namespace whose process ids are meant; 0 for the first one.
    pub pid_namespace: u32,
    /// Ring bytes that wait to be read before the reader is woken.
    pub wakeup_bytes: u32,
    /// Numbers of the system calls that the programs distinguish.
    pub syscalls: Syscalls,
    /// Offsets of kernel fields.
    pub offsets: Offsets,
    /// Only tasks of this name, if its first byte is not 0.
    pub comm: [u8; COMM_LEN],
    /// [`EMIT_STREAM`], [`EMIT_MIN_AGE`] or [`EMIT_NOTHING`].
    pub emit: u8,
    /// [`STACKS_OFF`], [`STACKS_USER`] or [`STACKS_BOTH`].
    pub stacks: u8,
    /// Only processes in the TREE map.
    pub filter_tree: u8,
    /// A child of a process in the TREE map is added to it.
    pub follow: u8,
    /// `uid` is a filter.
    pub filter_uid: u8,
    /// The kernel has `bpf_get_current_task_btf` (5.11).
    pub has_task_btf: u8,
    /// The kernel has `bpf_task_pt_regs` (5.15).
    pub has_task_regs: u8,
    /// `sched_process_exit` says whether the whole group is dead (6.16).
    pub exit_tells_group: u8,
    /// `kmem_cache_free` names its cache (6.1).
    pub free_names_cache: u8,
    /// Slab frees run after a grace period, in a bystander (before `file_free_rcu` was removed).
    pub free_is_late: u8,
    /// `file_count` is a `file_ref_t`, which counts from 0 (6.13).
    pub count_from_zero: u8,
    /// A release can be skipped: the kernel preempts programs, or frees handles in interrupts.
    pub releases_can_be_missed: u8,
    /// The handle of an attach of a SysV segment is remembered until the system call returns (tracepoint backend).
    pub note_attach: u8,
    /// [`UNWIND_FRAME_POINTERS`], [`UNWIND_TABLES`] or [`UNWIND_OFF`].
    pub unwind: u8,
    /// The time of an inode is two fields, the second of 32 bits (6.11).
    pub inode_time_is_split: u8,
    /// A dump tells of the code that its stack points into: verifiers before 6.1 take minutes to see that it may.
    pub dump_code: u8,
    /// What is open when a program ends includes the descriptors that it acquired.
    pub acquired: u8,
    /// Who closes a handle is told, where that may decide something.
    pub closers: u8,
    /// Zero: it makes the size a multiple of eight.
    pub reserved: [u8; 6],
}

/// System call numbers that matter, by architecture.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syscalls {
    /// `open`; -1 where there is none.
    pub open: i32,
    /// `openat`
    pub openat: i32,
    /// `ioctl`
    pub ioctl: i32,
    /// `bpf`
    pub bpf: i32,
    /// `execve`
    pub execve: i32,
    /// `execveat`
    pub execveat: i32,
    /// `io_uring_enter`
    pub io_uring_enter: i32,
    /// `mmap`
    pub mmap: i32,
    /// `shmat`
    pub shmat: i32,
    /// `exit`
    pub exit: i32,
    /// `exit_group`
    pub exit_group: i32,
    /// `dup`
    pub dup: i32,
    /// `dup2`; -1 where there is none.
    pub dup2: i32,
    /// `dup3`
    pub dup3: i32,
    /// `fcntl`
    pub fcntl: i32,
    /// `recvmsg`
    pub recvmsg: i32,
    /// `recvmmsg`
    pub recvmmsg: i32,
    /// `pidfd_getfd`
    pub pidfd_getfd: i32,
    /// `close`
    pub close: i32,
    /// `close_range`
    pub close_range: i32,
}

// No padding: the loader hands the programs this structure as bytes.
const _: () = assert!(
    size_of::<Config>()
        == 4 * size_of::<Range>()
            + 3 * 8
            + 7 * 4
            + size_of::<Syscalls>()
            + size_of::<Offsets>()
            + COMM_LEN
            + 24
);
