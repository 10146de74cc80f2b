//! The fields of kernel structures that fdtrace reads, each written once.
//!
//! rustc emits no CO-RE relocations, so one object fits all kernels another way: the loader looks each field up in the
//! running kernel's BTF and writes where it found it into the read-only global [`FIELDS`](GLOBAL) of a BPF object. The
//! verifier knows that global's values, so a read of a field costs what a compiled-in offset costs.
//!
//! [`kernel_fields`](crate::kernel_fields) is the table. From a line of it come the field's [`Place`] in [`Fields`], its
//! [`Row`] for the loader, and in the BPF programs a method that reads it: `file.f_inode().i_ino()`.

/// The table. A line is `name: type = "path" | "path in other versions", presence;`
///
/// - `name` is the kernel's own, as far as it is unique in its structure;
/// - `type` is what BTF must say of its size. `Ptr<S>` points to a structure S; `Inside<S>` is an S that lies in the
///   structure, of which only the address is wanted; `Low<T>` is the low part of an integer that some kernels have wider;
/// - `path` goes through embedded structures, as C writes it: `rlim[7].rlim_cur`. Anonymous ones are not named;
/// - `presence` is one of [`Presence`]: `required`, or why a kernel may do without.
#[macro_export]
macro_rules! kernel_fields {
    ($with:ident) => {
        $with! {
            task_struct {
                flags: u32 = "flags", required;
                pid: u32 = "pid", required;
                tgid: u32 = "tgid", required;
                real_parent: Ptr<task_struct> = "real_parent", required;
                group_leader: Ptr<task_struct> = "group_leader", optional;
                comm: [u8; 16] = "comm", required;
                start_time: u64 = "start_time", required;
                start_boottime: u64 = "start_boottime", optional;
                exit_code: u32 = "exit_code", optional;
                stack: u64 = "stack", required;
                signal: Ptr<signal_struct> = "signal", required;
                thread_node: Inside<list_head> = "thread_node", required;
                thread_pid: Ptr<pid> = "thread_pid", required;
                cred: Ptr<cred> = "cred", optional;
                cgroups: Ptr<css_set> = "cgroups", config("CONFIG_CGROUPS");
                files: Ptr<files_struct> = "files", required;
                io_uring: u64 = "io_uring", config("CONFIG_IO_URING");
                mm: Ptr<mm_struct> = "mm", required;
                nsproxy: Ptr<nsproxy> = "nsproxy", optional;
                // The thread's own memory, as its C library has it.
                fsbase: u64 = "thread.fsbase", config("CONFIG_X86_64");
            }
            signal_struct {
                live: u32 = "live", required;
                thread_head: Inside<list_head> = "thread_head", required;
                // PIDTYPE_TGID
                tgid: Ptr<pid> = "pids[1]", required;
                // RLIMIT_NOFILE
                soft_limit: u64 = "rlim[7].rlim_cur", optional;
                hard_limit: u64 = "rlim[7].rlim_max", optional;
            }
            list_head {
                next: Ptr<list_head> = "next", required;
            }
            pid {
                level: u32 = "level", required;
                // One for each level, the outermost first.
                numbers: Inside<upid> = "numbers", required;
            }
            upid {
                nr: u32 = "nr", required;
                ns: Ptr<pid_namespace> = "ns", required;
            }
            nsproxy {
                net_ns: Ptr<net> = "net_ns", optional;
                ipc_ns: Ptr<ipc_namespace> = "ipc_ns", optional;
                mnt_ns: Ptr<mnt_namespace> = "mnt_ns", optional;
            }
            pid_namespace {
                inum: u32 = "ns.inum", optional;
            }
            net {
                inum: u32 = "ns.inum", optional;
            }
            ipc_namespace {
                inum: u32 = "ns.inum", config("CONFIG_IPC_NS");
            }
            mnt_namespace {
                inum: u32 = "ns.inum", optional;
            }
            cred {
                uid: u32 = "uid", optional;
            }
            css_set {
                dfl_cgrp: Ptr<cgroup> = "dfl_cgrp", config("CONFIG_CGROUPS");
            }
            cgroup {
                level: u32 = "level", config("CONFIG_CGROUPS");
                kn: Ptr<kernfs_node> = "kn", config("CONFIG_CGROUPS");
                ancestors: Inside<Ptr<cgroup>> = "ancestors", from(6, 1);
                ancestor_ids: Inside<u64> = "ancestor_ids", until(6, 1);
            }
            kernfs_node {
                id: u64 = "id", optional;
            }
            linux_binprm {
                filename: u64 = "filename", required;
                file: Ptr<file> = "file", required;
            }
            // x86_64 | aarch64
            pt_regs {
                syscall: Low<u32> = "orig_ax" | "syscallno", required;
                arg0: u64 = "di" | "regs[0]", required;
                arg1: u64 = "si" | "regs[1]", required;
                arg2: u64 = "dx" | "regs[2]", required;
                arg3: u64 = "r10" | "regs[3]", required;
                arg4: u64 = "r8" | "regs[4]", required;
                result: u64 = "ax" | "regs[0]", required;
                instruction: u64 = "ip" | "pc", required;
                stack: u64 = "sp", required;
                frame: u64 = "bp" | "regs[29]", required;
                // Tells 32-bit code; 8 bytes before 6.9.
                cs: Low<u16> = "cs", config("CONFIG_X86");
            }
            mm_struct {
                start_stack: u64 = "start_stack", optional;
                end_code: u64 = "end_code", optional;
                exe_file: Ptr<file> = "exe_file", optional;
                tlb_gen: u64 = "context.tlb_gen", config("CONFIG_X86");
                vdso: u64 = "context.vdso", optional;
                // A maple tree, and the red-black tree that it replaced.
                ma_root: u64 = "mm_mt.ma_root", from(6, 1);
                mm_rb: Ptr<rb_node> = "mm_rb.rb_node", until(6, 1);
            }
            vm_area_struct {
                vm_start: u64 = "vm_start", optional;
                vm_end: u64 = "vm_end", optional;
                vm_flags: u64 = "vm_flags", optional;
                vm_pgoff: u64 = "vm_pgoff", optional;
                vm_file: Ptr<file> = "vm_file", optional;
                vm_rb: Inside<rb_node> = "vm_rb", until(6, 1);
            }
            rb_node {
                rb_left: Ptr<rb_node> = "rb_left", required;
                rb_right: Ptr<rb_node> = "rb_right", required;
            }
            files_struct {
                count: u32 = "count", optional;
                fdt: Ptr<fdtable> = "fdt", optional;
            }
            fdtable {
                max_fds: u32 = "max_fds", optional;
                fd: Ptr<Ptr<file>> = "fd", optional;
                open_fds: Ptr<u64> = "open_fds", optional;
                close_on_exec: Ptr<u64> = "close_on_exec", optional;
            }
            file {
                f_mode: u32 = "f_mode", required;
                f_flags: u32 = "f_flags", required;
                // A `file_ref_t` since 6.13.
                f_count: u64 = "f_count" | "f_ref", optional;
                f_op: Ptr<file_operations> = "f_op", required;
                f_inode: Ptr<inode> = "f_inode", required;
                f_path: Inside<u8> = "f_path", required;
                dentry: Ptr<dentry> = "f_path.dentry", required;
                mnt: Ptr<vfsmount> = "f_path.mnt", optional;
                f_cred: u64 = "f_cred", optional;
                private_data: u64 = "private_data", required;
            }
            file_operations {
                release: u64 = "release", optional;
            }
            inode {
                i_mode: u16 = "i_mode", required;
                i_rdev: u32 = "i_rdev", optional;
                i_ino: u64 = "i_ino", required;
                i_nlink: u32 = "i_nlink", required;
                i_size: u64 = "i_size", optional;
                i_blocks: u64 = "i_blocks", optional;
                i_sb: Ptr<super_block> = "i_sb", required;
                // Two fields since 6.11; 6.7 put underscores before it.
                mtime_sec: u64 = "i_mtime_sec" | "i_mtime.tv_sec" | "__i_mtime.tv_sec", optional;
                mtime_nsec: Low<u32> = "i_mtime_nsec" | "i_mtime.tv_nsec" | "__i_mtime.tv_nsec", optional;
            }
            super_block {
                s_magic: u64 = "s_magic", optional;
                s_dev: u32 = "s_dev", optional;
                s_flags: u64 = "s_flags", optional;
            }
            dentry {
                name: u64 = "d_name.name", optional;
                d_parent: Ptr<dentry> = "d_parent", optional;
                // 0 for one that is in no directory.
                pprev: u64 = "d_hash.pprev", optional;
            }
            vfsmount {
                mnt_root: Ptr<dentry> = "mnt_root", optional;
            }
            mount {
                mnt: Inside<vfsmount> = "mnt", optional;
                mnt_parent: Ptr<mount> = "mnt_parent", optional;
                mnt_mountpoint: Ptr<dentry> = "mnt_mountpoint", optional;
            }
            socket {
                sk: Ptr<sock> = "sk", config("CONFIG_NET");
                // SOCK_*
                kind: u16 = "type", config("CONFIG_NET");
            }
            sock {
                family: u16 = "__sk_common.skc_family", config("CONFIG_NET");
                state: u8 = "__sk_common.skc_state", config("CONFIG_NET");
                num: u16 = "__sk_common.skc_num", config("CONFIG_NET");
                dport: u16 = "__sk_common.skc_dport", config("CONFIG_NET");
                rcv_saddr: [u8; 4] = "__sk_common.skc_rcv_saddr", config("CONFIG_NET");
                daddr: [u8; 4] = "__sk_common.skc_daddr", config("CONFIG_NET");
                v6_rcv_saddr: [u8; 16] = "__sk_common.skc_v6_rcv_saddr", config("CONFIG_IPV6");
                v6_daddr: [u8; 16] = "__sk_common.skc_v6_daddr", config("CONFIG_IPV6");
                net: u64 = "__sk_common.skc_net.net", config("CONFIG_NET_NS");
                protocol: u16 = "sk_protocol", config("CONFIG_NET");
                ack_backlog: u32 = "sk_ack_backlog", config("CONFIG_NET");
                max_ack_backlog: u32 = "sk_max_ack_backlog", config("CONFIG_NET");
                rmem_alloc: u32 = "sk_backlog.rmem_alloc", config("CONFIG_NET");
                wmem_alloc: u32 = "sk_wmem_alloc", config("CONFIG_NET");
            }
            tcp_sock {
                rcv_nxt: u32 = "rcv_nxt", config("CONFIG_INET");
                copied_seq: u32 = "copied_seq", config("CONFIG_INET");
                write_seq: u32 = "write_seq", config("CONFIG_INET");
                snd_una: u32 = "snd_una", config("CONFIG_INET");
            }
            unix_sock {
                addr: Ptr<unix_address> = "addr", config("CONFIG_UNIX");
                peer: Ptr<sock> = "peer", config("CONFIG_UNIX");
            }
            unix_address {
                len: u32 = "len", config("CONFIG_UNIX");
                // Its first two bytes are the address family.
                name: Inside<u8> = "name", config("CONFIG_UNIX");
            }
        }
    };
}

/// The name of the read-only global that the loader fills.
pub const GLOBAL: &str = "FIELDS";

/// Where a field lies in its structure: so many bytes behind its beginning.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u32);

impl Place {
    /// This kernel has no such field: it reads as zero. The largest number that a BPF instruction compares with.
    pub const ABSENT: Self = Self(u32::MAX >> 1);

    /// Whether this kernel has the field.
    #[must_use]
    pub const fn exists(self) -> bool {
        self.0 != Self::ABSENT.0
    }
}

/// What the loader has to know of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The structure's name.
    pub structure: &'static str,
    /// The field's in it; the first that the kernel has.
    pub paths: &'static [&'static str],
    /// What the programs take it for.
    pub size: Size,
    /// Whether each kernel has it.
    pub presence: Presence,
}

/// How many bytes a field may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Any number: only its address is wanted.
    Any,
    /// This many, or those of a wider integer.
    AtLeast(usize),
    /// This many.
    Exactly(usize),
}

impl Size {
    /// Whether a field of so many bytes can be read.
    #[must_use]
    pub const fn fits(self, bytes: usize) -> bool {
        match self {
            Self::Any => true,
            Self::AtLeast(wanted) => bytes >= wanted && bytes <= 8,
            Self::Exactly(wanted) => bytes == wanted,
        }
    }
}

impl core::fmt::Display for Size {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Any => formatter.write_str("any"),
            Self::AtLeast(bytes) => write!(formatter, "{bytes} or more"),
            Self::Exactly(bytes) => write!(formatter, "{bytes}"),
        }
    }
}

/// Which kernels have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// All; fdtrace does not run without it.
    Required,
    /// All that are known; fdtrace says less without it.
    Optional,
    /// Those from this version on.
    From(u8, u8),
    /// Those before this version.
    Until(u8, u8),
    /// Those that are built with an option.
    Config(&'static str),
}

/// Places of fields, by structure.
pub mod places {
    use super::Place;

    macro_rules! places {
        ($($structure:ident { $($field:ident: $type:ty = $($path:literal)|+, $presence:ident $(($($detail:literal),+))?;)* })*) => {$(
            #[doc = concat!("`struct ", stringify!($structure), "`")]
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $structure {
                $(#[doc = concat!($("`", $path, "` "),+)] pub $field: Place,)*
            }

            impl $structure {
                pub(super) const ABSENT: Self = Self { $($field: Place::ABSENT),* };
            }
        )*};
    }
    kernel_fields!(places);
}

macro_rules! fields {
    ($($structure:ident { $($fields:tt)* })*) => {
        /// Where the fields lie: the value of the global.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Fields {
            $(#[doc = concat!("`struct ", stringify!($structure), "`")] pub $structure: places::$structure,)*
        }

        impl Fields {
            /// A kernel without any.
            pub const ABSENT: Self = Self { $($structure: places::$structure::ABSENT),* };
        }
    };
}
kernel_fields!(fields);

impl Fields {
    /// The places of the rows of [`TABLE`], in its order.
    #[must_use]
    pub const fn new(places: [Place; TABLE.len()]) -> Self {
        // SAFETY: `Fields` is `repr(C)`, made of as many places in the same order.
        unsafe { core::mem::transmute(places) }
    }
}

pub use rows::TABLE;

/// What the types of the table mean here: how many bytes a field has.
mod rows {
    use super::{Presence, Row, Size, places::*};
    use core::marker::PhantomData;

    trait Field {
        const SIZE: Size;
    }

    struct Ptr<S>(PhantomData<S>);
    struct Inside<S>(PhantomData<S>);
    struct Low<T>(PhantomData<T>);

    impl<S> Field for Ptr<S> {
        const SIZE: Size = Size::Exactly(8);
    }

    impl<S> Field for Inside<S> {
        const SIZE: Size = Size::Any;
    }

    impl<T> Field for Low<T> {
        const SIZE: Size = Size::AtLeast(size_of::<T>());
    }

    macro_rules! exactly {
        ($($type:ty),*) => {$(
            impl Field for $type {
                const SIZE: Size = Size::Exactly(size_of::<$type>());
            }
        )*};
    }
    exactly!(u8, u16, u32, u64, [u8; 4], [u8; 16]);

    macro_rules! presence {
        (required) => {
            Presence::Required
        };
        (optional) => {
            Presence::Optional
        };
        (from ($major:literal, $minor:literal)) => {
            Presence::From($major, $minor)
        };
        (until ($major:literal, $minor:literal)) => {
            Presence::Until($major, $minor)
        };
        (config ($option:literal)) => {
            Presence::Config($option)
        };
    }

    macro_rules! rows {
        ($($structure:ident { $($field:ident: $type:ty = $($path:literal)|+, $presence:ident $(($($detail:literal),+))?;)* })*) => {
            /// The table, for the loader.
            pub const TABLE: &[Row] = &[$($(Row {
                structure: stringify!($structure),
                paths: &[$($path),+],
                size: <$type as Field>::SIZE,
                presence: presence!($presence $(($($detail),+))?),
            },)*)*];
        };
    }
    kernel_fields!(rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_place_of_its_field() {
        let mut places = [Place::ABSENT; TABLE.len()];
        for (row, place) in TABLE.iter().zip(&mut places) {
            if (row.structure, row.paths[0]) == ("inode", "i_ino") {
                *place = Place(64);
            }
        }
        let fields = Fields::new(places);
        assert_eq!(fields.inode.i_ino, Place(64));
        assert_eq!(Fields { inode: Fields::ABSENT.inode, ..fields }, Fields::ABSENT);
    }

    #[test]
    fn a_size_is_the_tables_or_a_wider_integers() {
        assert!(Size::Exactly(4).fits(4) && !Size::Exactly(4).fits(8) && !Size::Exactly(8).fits(4));
        assert!(Size::AtLeast(4).fits(8) && !Size::AtLeast(4).fits(2) && !Size::AtLeast(4).fits(16));
        assert!(Size::Any.fits(0));
    }
}
