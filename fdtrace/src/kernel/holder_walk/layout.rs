//! Where the fields are that user space reads itself, following pointers to what no iterator shows.

use fdtrace_common::fields::Size;

use crate::kernel::btf::KernelTypes;

/// Each structure is what one of these walks has to know. A line is `name: size = "structure.path"`; of a sum the first
/// structure has the second one in memory that it gives away. Without one of its fields the walk is not done.
macro_rules! layouts {
    ($($(#[$doc:meta])* $layout:ident { $($(#[$more:meta])* $name:ident: $size:tt = $($path:literal)=>+;)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $layout {
            $(#[doc = concat!($("`", $path, "` "),+)] $(#[$more])* pub $name: u64,)+
        }

        impl $layout {
            fn find(types: &mut KernelTypes) -> Option<Self> {
                Some(Self { $($name: sum(types, &[$($path),+], size!($size))?,)+ })
            }
        }
    )+};
}

macro_rules! size {
    (any) => {
        Size::Any
    };
    ($bytes:literal) => {
        Size::Exactly($bytes)
    };
}

layouts! {
    /// What lies in the receive queue of a unix socket, and how to get from one to the next.
    QueueLayout {
        /// A list with its head; `next` comes first in it and in `sk_buff`.
        queue: any = "sock.sk_receive_queue";
        length: 4 = "sock.sk_receive_queue.qlen";
        /// In the queue of a listener, the socket that waits to be accepted.
        buffer_sock: 8 = "sk_buff.sk";
        passed: 8 = "sk_buff.cb" => "unix_skb_parms.fp";
        count: 2 = "scm_fp_list.count";
        /// An array of `struct file *`.
        files: any = "scm_fp_list.fp";
    }
    /// `struct shm_file_data` (ipc/shm.c), the private data of an attach.
    SegmentLayout {
        id: 4 = "shm_file_data.id";
        namespace: 8 = "shm_file_data.ns";
        file: 8 = "shm_file_data.file";
        /// The number that `/proc/PID/ns/ipc` shows.
        number: 4 = "ipc_namespace.ns.inum";
    }
    /// How an entry of a directory leads to the root.
    PathLayout {
        parent: 8 = "dentry.d_parent";
        name: 8 = "dentry.d_name.name";
        root: 8 = "vfsmount.mnt_root";
        /// A `vfsmount` lies in a `mount`.
        vfsmount: any = "mount.mnt";
        mount_parent: 8 = "mount.mnt_parent";
        mountpoint: 8 = "mount.mnt_mountpoint";
    }
    /// From a `struct sock` to its file.
    SocketLayout {
        of_sock: 8 = "sock.sk_socket";
        file: 8 = "socket.file";
    }
    /// From a descriptor of an IPC namespace to its segments.
    NamespaceLayout {
        /// The `ns_common` of an inode on nsfs.
        of_inode: 8 = "inode.i_private";
        common: any = "ipc_namespace.ns";
        number: 4 = "ns_common.inum";
        operations: 8 = "ns_common.ops";
        name: 8 = "proc_ns_operations.name";
        /// 2 is `IPC_SHM_IDS` (ipc/util.h).
        head: 8 = "ipc_namespace.ids[2].ipcs_idr.idr_rt.xa_head";
        slots: any = "xa_node.slots";
        id: 4 = "shmid_kernel.shm_perm.id";
        key: 4 = "shmid_kernel.shm_perm.key";
        file: 8 = "shmid_kernel.shm_file";
        attaches: 8 = "shmid_kernel.shm_nattch";
        size: 8 = "shmid_kernel.shm_segsz";
    }
    /// How many requests a ring has taken in, and how many answers it has given.
    RequestLayout {
        submitted: 4 = "io_ring_ctx.cached_sq_head";
        completed: 4 = "io_ring_ctx.cached_cq_tail";
    }
    /// What a pidfd is of.
    PidLayout {
        /// A `struct pid`, of an inode on pidfs (6.9).
        of_inode: 8 = "inode.i_private";
        /// Its number in the first PID namespace.
        number: 4 = "pid.numbers[0].nr";
    }
    /// Mappings as a red-black tree (up to 6.0).
    TreeLayout {
        root: 8 = "mm_struct.mm_rb.rb_node";
        /// `rb_right` lies 8 behind, `rb_left` 16.
        node: any = "vm_area_struct.vm_rb";
        file: 8 = "vm_area_struct.vm_file";
        start: 8 = "vm_area_struct.vm_start";
        end: 8 = "vm_area_struct.vm_end";
        flags: 8 = "vm_area_struct.vm_flags";
    }
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

/// How many addresses `io_uring_task.registered_rings` has (`IO_RINGFD_REG_MAX`, include/linux/io_uring_types.h).
pub const RING_DESCRIPTORS: usize = 16;

/// Looks up what this kernel has.
pub(super) fn of_pointers(types: &mut KernelTypes) -> Chase {
    Chase {
        queue: QueueLayout::find(types),
        ring: ring(types),
        ring_descriptors: at(types, "io_uring_task.registered_rings"),
        segment: SegmentLayout::find(types),
        counter: at(types, "percpu_counter.count").zip(at(types, "percpu_counter.counters")),
        peer: PeerLayout {
            socket: at(types, "sock.sk_socket"),
            terminal: at(types, "tty_file_private.tty").zip(at(types, "tty_struct.link")),
        },
        user: UserLayout { inotify: inotify(types), pipe: pipe(types), epoll: epoll(types) },
        path: PathLayout::find(types),
        socket: SocketLayout::find(types),
        bpf: bpf(types),
        namespace: NamespaceLayout::find(types),
        requests: RequestLayout::find(types),
        pid: PidLayout::find(types),
        tree: TreeLayout::find(types),
    }
}

fn at(types: &mut KernelTypes, path: &str) -> Option<u64> {
    sum(types, &[path], Size::Any)
}

/// The sum of the offsets of some fields, if the last one has a size that can be read.
fn sum(types: &mut KernelTypes, paths: &[&str], size: Size) -> Option<u64> {
    let (mut offset, mut bytes) = (0, 0);
    for path in paths {
        let (structure, path) = path.split_once('.')?;
        let field = types.field(structure, path)?;
        (offset, bytes) = (offset + u64::from(field.offset), field.bytes);
    }
    size.fits(bytes).then_some(offset)
}

fn ring(types: &mut KernelTypes) -> Option<RingTable> {
    if let Some(nodes) = at(types, "io_ring_ctx.file_table.data.nodes") {
        return Some(RingTable::Nodes {
            length: at(types, "io_ring_ctx.file_table.data.nr")?,
            nodes,
            file: at(types, "io_rsrc_node.file_ptr")?,
        });
    }
    // Before 5.15 the table had two levels.
    let flat = types.pointer_depth("io_file_table", "files")? == 1 && types.size("io_fixed_file")? == 8;
    flat.then_some(RingTable::Flat {
        length: at(types, "io_ring_ctx.nr_user_files")?,
        files: at(types, "io_ring_ctx.file_table.files")?,
    })
}

/// A counter had 32 bits up to 5.13; those of inotify are the ninth and the tenth.
fn inotify(types: &mut KernelTypes) -> Option<(u64, u64, u64, u64)> {
    let counts = at(types, "ucounts.ucount")?;
    let bytes = at(types, "ucounts.ucount[1]")? - counts;
    Some((at(types, "fsnotify_group.inotify_data.ucounts")?, at(types, "ucounts.uid")?, counts, bytes))
}

fn pipe(types: &mut KernelTypes) -> Option<(u64, u64, u64)> {
    let user = at(types, "pipe_inode_info.user")?;
    Some((user, at(types, "user_struct.uid")?, at(types, "user_struct.pipe_bufs")?))
}

/// From 5.16 on a sum of what the CPUs have, whose common part is near enough.
fn epoll(types: &mut KernelTypes) -> Option<(u64, u64, u64)> {
    let watches =
        at(types, "user_struct.epoll_watches.count").or_else(|| at(types, "user_struct.epoll_watches"))?;
    Some((at(types, "eventpoll.user")?, at(types, "user_struct.uid")?, watches))
}

fn bpf(types: &mut KernelTypes) -> Option<BpfLayout> {
    Some(BpfLayout {
        map_type: at(types, "bpf_map.map_type")?,
        map_entries: at(types, "bpf_map.max_entries")?,
        array: at(types, "bpf_array.ptrs")?,
        entry_file: at(types, "bpf_event_entry.perf_file")?,
        link: at(types, "bpf_link.type").zip(at(types, "bpf_perf_link.perf_file")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_what_the_walks_follow() {
        let mut types = KernelTypes::open().expect("the build machine's kernel has BTF");
        let found = of_pointers(&mut types);
        assert!(found.queue.is_some() && found.ring.is_some() && found.requests.is_some(), "{found:#?}");
        assert!(found.segment.is_some() && found.namespace.is_some(), "{found:#?}");
        assert!(found.path.is_some() && found.socket.is_some() && found.pid.is_some(), "{found:#?}");
        assert!(found.bpf.is_some() && found.user.inotify.is_some(), "{found:#?}");
    }

    #[test]
    fn a_field_of_another_size_is_not_followed() {
        let mut types = KernelTypes::open().expect("the build machine's kernel has BTF");
        assert!(sum(&mut types, &["scm_fp_list.count"], Size::Exactly(2)).is_some());
        assert!(sum(&mut types, &["scm_fp_list.count"], Size::Exactly(4)).is_none());
        assert!(sum(&mut types, &["scm_fp_list.no_such_field"], Size::Any).is_none());
    }
}
