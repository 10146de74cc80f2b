//! Where the fields are, for the iterators and for whoever follows pointers in user space.

use fdtrace_common::holder_walk::Layout;

use crate::kernel::{btf::KernelTypes, error::Result};

/// How many bytes lie before the number in a namespace, as `/proc/PID/ns` shows it.
fn number(types: &mut KernelTypes, namespace: &str) -> u32 {
    types.offset(namespace, "ns.inum").unwrap_or(u32::MAX)
}

/// The offsets of the iterators.
///
/// # Errors
/// Without a field that no walk can do without.
pub(super) fn of_iterators(types: &mut KernelTypes) -> Result<Layout> {
    let file_dentry = types.require("file", "f_path.dentry")?;
    let needed = Layout {
        task_files: types.require("task_struct", "files")?,
        task_mm: types.require("task_struct", "mm")?,
        task_flags: types.require("task_struct", "flags")?,
        task_comm: types.require("task_struct", "comm")?,
        task_pid: types.require("task_struct", "thread_pid")?,
        task_signal: types.require("task_struct", "signal")?,
        signal_pids: types.require("signal_struct", "pids")?,
        pid_level: types.require("pid", "level")?,
        pid_numbers: types.require("pid", "numbers")?,
        file_inode: types.require("file", "f_inode")?,
        file_mode: types.require("file", "f_mode")?,
        file_flags: types.require("file", "f_flags")?,
        file_private: types.require("file", "private_data")?,
        file_dentry,
        inode_mode: types.require("inode", "i_mode")?,
        inode_ino: types.require("inode", "i_ino")?,
        inode_sb: types.require("inode", "i_sb")?,
        ..Layout::default()
    };
    let mut of = |structure: &str, field: &str| types.offset(structure, field).unwrap_or(u32::MAX);
    let needed = Layout {
        task_io_uring: of("task_struct", "io_uring"),
        task_started: match of("task_struct", "start_boottime") {
            u32::MAX => of("task_struct", "real_start_time"),
            offset => offset,
        },
        task_parent: of("task_struct", "real_parent"),
        task_cred: of("task_struct", "cred"),
        task_namespaces: of("task_struct", "nsproxy"),
        signal_limits: of("signal_struct", "rlim"),
        namespaces_net: of("nsproxy", "net_ns"),
        namespaces_ipc: of("nsproxy", "ipc_ns"),
        namespaces_mount: of("nsproxy", "mnt_ns"),
        mm_executable: of("mm_struct", "exe_file"),
        files_table: of("files_struct", "fdt"),
        table_close_on_exec: of("fdtable", "close_on_exec"),
        vma_file: of("vm_area_struct", "vm_file"),
        vma_start: of("vm_area_struct", "vm_start"),
        vma_end: of("vm_area_struct", "vm_end"),
        vma_flags: of("vm_area_struct", "vm_flags"),
        file_cred: of("file", "f_cred"),
        file_mount: of("file", "f_path.mnt"),
        // 6.13 replaced the counter by a `file_ref_t`, whose only field is the counter.
        file_count: match of("file", "f_count") {
            u32::MAX => of("file", "f_ref"),
            offset => offset,
        },
        inode_links: of("inode", "__i_nlink"),
        inode_rdev: of("inode", "i_rdev"),
        inode_size: of("inode", "i_size"),
        inode_blocks: of("inode", "i_blocks"),
        sb_magic: of("super_block", "s_magic"),
        sb_dev: of("super_block", "s_dev"),
        sb_flags: of("super_block", "s_flags"),
        dentry_parent: of("dentry", "d_parent"),
        dentry_name: of("dentry", "d_name.name"),
        ..needed
    };
    let sockets = Layout {
        socket_sk: of("socket", "sk"),
        socket_type: of("socket", "type"),
        sock_family: of("sock", "__sk_common.skc_family"),
        sock_state: of("sock", "__sk_common.skc_state"),
        sock_num: of("sock", "__sk_common.skc_num"),
        sock_dport: of("sock", "__sk_common.skc_dport"),
        sock_saddr: of("sock", "__sk_common.skc_rcv_saddr"),
        sock_daddr: of("sock", "__sk_common.skc_daddr"),
        sock_saddr6: of("sock", "__sk_common.skc_v6_rcv_saddr"),
        sock_daddr6: of("sock", "__sk_common.skc_v6_daddr"),
        sock_net: of("sock", "__sk_common.skc_net.net"),
        sock_protocol: of("sock", "sk_protocol"),
        sock_ack_backlog: of("sock", "sk_ack_backlog"),
        sock_max_ack_backlog: of("sock", "sk_max_ack_backlog"),
        sock_receive_memory: of("sock", "sk_backlog.rmem_alloc"),
        sock_send_memory: of("sock", "sk_wmem_alloc"),
        tcp_received: of("tcp_sock", "rcv_nxt"),
        tcp_copied: of("tcp_sock", "copied_seq"),
        tcp_written: of("tcp_sock", "write_seq"),
        tcp_acknowledged: of("tcp_sock", "snd_una"),
        unix_addr: of("unix_sock", "addr"),
        unix_peer: of("unix_sock", "peer"),
        unix_name: of("unix_address", "name"),
        unix_length: of("unix_address", "len"),
        ..needed
    };
    Ok(Layout {
        pid_ns_number: number(types, "pid_namespace"),
        net_ns_number: number(types, "net"),
        ipc_ns_number: number(types, "ipc_namespace"),
        mount_ns_number: number(types, "mnt_namespace"),
        ..sockets
    })
}

/// What lies in the receive queue of a unix socket, and how to get from one to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLayout {
    /// `sock.sk_receive_queue`, a list with its head; `next` comes first in it and in `sk_buff`.
    pub queue: u64,
    /// `sock.sk_receive_queue.qlen`
    pub length: u64,
    /// `sk_buff.sk`: in the queue of a listener, the socket that waits to be accepted.
    pub buffer_sock: u64,
    /// `scm_fp_list *` in `sk_buff.cb`
    pub passed: u64,
    /// `scm_fp_list.count`, 16 bits
    pub count: u64,
    /// `scm_fp_list.fp`, an array of `struct file *`
    pub files: u64,
}

/// How the files that a ring has registered are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingTable {
    /// `io_ring_ctx.nr_user_files`, and `io_ring_ctx.file_table.files`: addresses with marks in the lowest 3 bits
    /// (5.15 to 6.12, and 5.10 as it is maintained).
    Flat {
        /// Where the number is, 32 bits.
        length: u64,
        /// Where the address of the array is.
        files: u64,
    },
    /// `io_ring_ctx.file_table.data`: nodes, each with a file (from 6.13 on).
    Nodes {
        /// Where the number is, 32 bits.
        length: u64,
        /// Where the address of the array of addresses is.
        nodes: u64,
        /// `io_rsrc_node.file_ptr`
        file: u64,
    },
}

/// Layouts of what no iterator shows; each that the kernel does not have as this build knows it is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chase {
    /// Of unix sockets.
    pub queue: Option<QueueLayout>,
    /// Of rings.
    pub ring: Option<RingTable>,
    /// `io_uring_task.registered_rings`, 16 addresses of handles (5.18).
    pub ring_descriptors: Option<u64>,
    /// Of attaches of SysV segments.
    pub segment: Option<SegmentLayout>,
    /// `percpu_counter.count` and `percpu_counter.counters`.
    pub counter: Option<(u64, u64)>,
    /// Of the other ends of sockets and terminals.
    pub peer: PeerLayout,
    /// From a socket's memory to its file.
    pub socket: Option<SocketLayout>,
    /// Of IPC namespaces.
    pub namespace: Option<NamespaceLayout>,
    /// Of the requests of rings.
    pub requests: Option<RequestLayout>,
    /// Of BPF maps and links.
    pub bpf: Option<BpfLayout>,
    /// Of the counters of users.
    pub user: UserLayout,
    /// Of paths.
    pub path: Option<PathLayout>,
    /// Of pidfds.
    pub pid: Option<PidLayout>,
    /// Red-black tree of an address space, where no iterator shows mappings (before 5.12).
    pub tree: Option<TreeLayout>,
}

/// `struct shm_file_data` (ipc/shm.c), the private data of an attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentLayout {
    /// `shm_file_data.id`
    pub id: u64,
    /// `shm_file_data.ns`
    pub namespace: u64,
    /// `shm_file_data.file`
    pub file: u64,
    /// `ipc_namespace.ns.inum`, 32 bits: the number that `/proc/PID/ns/ipc` shows.
    pub number: u64,
}

/// How to get to the other end; each part may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLayout {
    /// `sock.sk_socket`, which a socket has no more once it is closed.
    pub socket: Option<u64>,
    /// `tty_file_private.tty` behind a file's private data, and `tty_struct.link`, the other side of a pseudo terminal.
    pub terminal: Option<(u64, u64)>,
}

/// Where the counters of users are; each that the kernel does not have as this build knows it is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLayout {
    /// `fsnotify_group.inotify_data.ucounts`, `ucounts.uid`, `ucounts.ucount`, and the bytes of a counter.
    pub inotify: Option<(u64, u64, u64, u64)>,
    /// `pipe_inode_info.user`, `user_struct.uid`, `user_struct.pipe_bufs`
    pub pipe: Option<(u64, u64, u64)>,
    /// `eventpoll.user`, `user_struct.uid`, `user_struct.epoll_watches`
    pub epoll: Option<(u64, u64, u64)>,
}

/// How an entry of a directory leads to the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathLayout {
    /// `dentry.d_parent`
    pub parent: u64,
    /// `dentry.d_name.name`
    pub name: u64,
    /// `vfsmount.mnt_root`
    pub root: u64,
    /// `mount.mnt`: a `vfsmount` lies in a `mount`.
    pub vfsmount: u64,
    /// `mount.mnt_parent`
    pub mount_parent: u64,
    /// `mount.mnt_mountpoint`
    pub mountpoint: u64,
}

/// From a `struct sock` to its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketLayout {
    /// `sock.sk_socket`
    pub of_sock: u64,
    /// `socket.file`
    pub file: u64,
}

/// From a descriptor of an IPC namespace to its segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceLayout {
    /// `inode.i_private`: the `ns_common` of an inode on nsfs.
    pub of_inode: u64,
    /// `ipc_namespace.ns`, a `ns_common`.
    pub common: u64,
    /// `ns_common.inum`
    pub number: u64,
    /// `ns_common.ops`
    pub operations: u64,
    /// `proc_ns_operations.name`
    pub name: u64,
    /// `ipc_namespace.ids[IPC_SHM_IDS].ipcs_idr.idr_rt.xa_head`
    pub head: u64,
    /// `xa_node.slots`
    pub slots: u64,
    /// `shmid_kernel.shm_perm.id`
    pub id: u64,
    /// `shmid_kernel.shm_perm.key`
    pub key: u64,
    /// `shmid_kernel.shm_file`
    pub file: u64,
    /// `shmid_kernel.shm_nattch`
    pub attaches: u64,
    /// `shmid_kernel.shm_segsz`
    pub size: u64,
}

/// How many requests a ring has taken in, and how many answers it has given: 32 bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLayout {
    /// `io_ring_ctx.cached_sq_head`
    pub submitted: u64,
    /// `io_ring_ctx.cached_cq_tail`
    pub completed: u64,
}

/// What BPF maps and links keep open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpfLayout {
    /// `bpf_map.map_type`, 32 bits
    pub map_type: u64,
    /// `bpf_map.max_entries`, 32 bits
    pub map_entries: u64,
    /// `bpf_array.ptrs`, whose map comes first in it.
    pub array: u64,
    /// `bpf_event_entry.perf_file`
    pub entry_file: u64,
    /// `bpf_link.type`, 32 bits, and `bpf_perf_link.perf_file`, whose link comes first in it (5.15).
    pub link: Option<(u64, u64)>,
}

/// What a pidfd is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidLayout {
    /// `inode.i_private`: a `struct pid`, of an inode on pidfs (6.9).
    pub of_inode: u64,
    /// `pid.numbers[0].nr`, 32 bits: its number in the first PID namespace.
    pub number: u64,
}

/// Mappings as a red-black tree (up to 6.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeLayout {
    /// `mm_struct.mm_rb.rb_node`
    pub root: u64,
    /// `vm_area_struct.vm_rb`; `rb_right` lies 8 behind, `rb_left` 16.
    pub node: u64,
    /// `vm_area_struct.vm_file`
    pub file: u64,
    /// `vm_area_struct.vm_start`
    pub start: u64,
    /// `vm_area_struct.vm_end`
    pub end: u64,
    /// `vm_area_struct.vm_flags`
    pub flags: u64,
}

/// How many addresses `io_uring_task.registered_rings` has (`IO_RINGFD_REG_MAX`, include/linux/io_uring_types.h).
pub const RING_DESCRIPTORS: usize = 16;

/// Looks up what this kernel has.
pub(super) fn of_pointers(types: &mut KernelTypes) -> Chase {
    Chase {
        queue: queue(types),
        ring: ring(types),
        ring_descriptors: at(types, "io_uring_task", "registered_rings"),
        segment: segment(types),
        counter: at(types, "percpu_counter", "count").zip(at(types, "percpu_counter", "counters")),
        peer: PeerLayout {
            socket: at(types, "sock", "sk_socket"),
            terminal: at(types, "tty_file_private", "tty").zip(at(types, "tty_struct", "link")),
        },
        user: user(types),
        path: path(types),
        socket: socket(types),
        bpf: bpf(types),
        namespace: namespace(types),
        requests: requests(types),
        pid: pid(types),
        tree: tree(types),
    }
}

fn at(types: &mut KernelTypes, structure: &str, field: &str) -> Option<u64> {
    types.offset(structure, field).map(u64::from)
}

fn queue(types: &mut KernelTypes) -> Option<QueueLayout> {
    Some(QueueLayout {
        queue: at(types, "sock", "sk_receive_queue")?,
        length: at(types, "sock", "sk_receive_queue.qlen")?,
        buffer_sock: at(types, "sk_buff", "sk")?,
        passed: at(types, "sk_buff", "cb")? + at(types, "unix_skb_parms", "fp")?,
        count: at(types, "scm_fp_list", "count")?,
        files: at(types, "scm_fp_list", "fp")?,
    })
}

fn ring(types: &mut KernelTypes) -> Option<RingTable> {
    let table = at(types, "io_ring_ctx", "file_table")?;
    if let Some(data) = at(types, "io_file_table", "data") {
        return Some(RingTable::Nodes {
            length: table + data + at(types, "io_rsrc_data", "nr")?,
            nodes: table + data + at(types, "io_rsrc_data", "nodes")?,
            file: at(types, "io_rsrc_node", "file_ptr")?,
        });
    }
    // Before 5.15 the table had two levels.
    let flat = types.pointer_depth("io_file_table", "files")? == 1 && types.size("io_fixed_file")? == 8;
    flat.then_some(RingTable::Flat {
        length: at(types, "io_ring_ctx", "nr_user_files")?,
        files: table + at(types, "io_file_table", "files")?,
    })
}

fn segment(types: &mut KernelTypes) -> Option<SegmentLayout> {
    Some(SegmentLayout {
        id: at(types, "shm_file_data", "id")?,
        namespace: at(types, "shm_file_data", "ns")?,
        file: at(types, "shm_file_data", "file")?,
        number: at(types, "ipc_namespace", "ns.inum")?,
    })
}

fn user(types: &mut KernelTypes) -> UserLayout {
    UserLayout { inotify: inotify(types), pipe: pipe(types), epoll: epoll(types) }
}

/// A counter had 32 bits up to 5.13; those of inotify are the ninth and the tenth.
fn inotify(types: &mut KernelTypes) -> Option<(u64, u64, u64, u64)> {
    const COUNTERS: u64 = 10;
    let counts = at(types, "ucounts", "ucount")?;
    let bytes = if types.size("ucounts")? - counts >= COUNTERS * 8 { 8 } else { 4 };
    Some((at(types, "fsnotify_group", "inotify_data.ucounts")?, at(types, "ucounts", "uid")?, counts, bytes))
}

fn pipe(types: &mut KernelTypes) -> Option<(u64, u64, u64)> {
    let user = at(types, "pipe_inode_info", "user")?;
    Some((user, at(types, "user_struct", "uid")?, at(types, "user_struct", "pipe_bufs")?))
}

/// From 5.16 on a sum of what the CPUs have, whose common part is near enough.
fn epoll(types: &mut KernelTypes) -> Option<(u64, u64, u64)> {
    let watches = match at(types, "user_struct", "epoll_watches.count") {
        Some(watches) => watches,
        None => at(types, "user_struct", "epoll_watches")?,
    };
    Some((at(types, "eventpoll", "user")?, at(types, "user_struct", "uid")?, watches))
}

fn path(types: &mut KernelTypes) -> Option<PathLayout> {
    Some(PathLayout {
        parent: at(types, "dentry", "d_parent")?,
        name: at(types, "dentry", "d_name.name")?,
        root: at(types, "vfsmount", "mnt_root")?,
        vfsmount: at(types, "mount", "mnt")?,
        mount_parent: at(types, "mount", "mnt_parent")?,
        mountpoint: at(types, "mount", "mnt_mountpoint")?,
    })
}

fn socket(types: &mut KernelTypes) -> Option<SocketLayout> {
    Some(SocketLayout { of_sock: at(types, "sock", "sk_socket")?, file: at(types, "socket", "file")? })
}

fn namespace(types: &mut KernelTypes) -> Option<NamespaceLayout> {
    /// `IPC_SHM_IDS` (ipc/util.h)
    const SEGMENTS: u64 = 2;
    let ids = at(types, "ipc_namespace", "ids")? + SEGMENTS * types.size("ipc_ids")?;
    let head =
        at(types, "ipc_ids", "ipcs_idr")? + at(types, "idr", "idr_rt")? + at(types, "xarray", "xa_head")?;
    let permissions = at(types, "shmid_kernel", "shm_perm")?;
    Some(NamespaceLayout {
        of_inode: at(types, "inode", "i_private")?,
        common: at(types, "ipc_namespace", "ns")?,
        number: at(types, "ns_common", "inum")?,
        operations: at(types, "ns_common", "ops")?,
        name: at(types, "proc_ns_operations", "name")?,
        head: ids + head,
        slots: at(types, "xa_node", "slots")?,
        id: permissions + at(types, "kern_ipc_perm", "id")?,
        key: permissions + at(types, "kern_ipc_perm", "key")?,
        file: at(types, "shmid_kernel", "shm_file")?,
        attaches: at(types, "shmid_kernel", "shm_nattch")?,
        size: at(types, "shmid_kernel", "shm_segsz")?,
    })
}

fn requests(types: &mut KernelTypes) -> Option<RequestLayout> {
    Some(RequestLayout {
        submitted: at(types, "io_ring_ctx", "cached_sq_head")?,
        completed: at(types, "io_ring_ctx", "cached_cq_tail")?,
    })
}

fn bpf(types: &mut KernelTypes) -> Option<BpfLayout> {
    Some(BpfLayout {
        map_type: at(types, "bpf_map", "map_type")?,
        map_entries: at(types, "bpf_map", "max_entries")?,
        array: at(types, "bpf_array", "ptrs")?,
        entry_file: at(types, "bpf_event_entry", "perf_file")?,
        link: at(types, "bpf_link", "type").zip(at(types, "bpf_perf_link", "perf_file")),
    })
}

fn pid(types: &mut KernelTypes) -> Option<PidLayout> {
    Some(PidLayout {
        of_inode: at(types, "inode", "i_private")?,
        number: at(types, "pid", "numbers")? + at(types, "upid", "nr")?,
    })
}

fn tree(types: &mut KernelTypes) -> Option<TreeLayout> {
    Some(TreeLayout {
        root: at(types, "mm_struct", "mm_rb")?,
        node: at(types, "vm_area_struct", "vm_rb")?,
        file: at(types, "vm_area_struct", "vm_file")?,
        start: at(types, "vm_area_struct", "vm_start")?,
        end: at(types, "vm_area_struct", "vm_end")?,
        flags: at(types, "vm_area_struct", "vm_flags")?,
    })
}
