//! The path of a file, from its directory entry up to the root of the mounts: what `d_path` does, where no program may call
//! that.

use aya_ebpf::helpers::bpf_probe_read_kernel_str_bytes;
use fdtrace_common::{config::ABSENT, wire::OPEN_PATH_LEN};

use crate::{config, task::read};

/// The most steps: names, and mounts on the way.
pub(super) const MAX_STEPS: u32 = 32;

/// The longest name that is taken; a longer one is cut.
const NAME: usize = 64;

/// `OpenWhat::path_end`: at the root of the mounts.
const AT_ROOT: u8 = 1;
/// `OpenWhat::path_end`: there was no room for more.
const CUT: u8 = 2;

/// How far up it has come.
#[repr(C)]
pub(super) struct Climb {
    dentry: u64,
    /// A `vfsmount`.
    mount: u64,
    /// What the names have taken.
    pub(super) bytes: u32,
    /// How it ended.
    pub(super) end: u8,
    reserved: [u8; 3],
}

#[inline(always)]
pub(super) fn begin(climb: &mut Climb, file: u64) {
    climb.dentry = read(file, config::get!(offsets.file_dentry));
    climb.mount = read(file, config::get!(offsets.file_mount));
    climb.bytes = 0;
    climb.end = 0;
}

/// The entry is in no directory: it was deleted, or never was in one.
#[inline(always)]
pub(super) fn is_deleted(dentry: u64) -> bool {
    let parent: u64 = read(dentry, config::get!(offsets.dentry_parent));
    config::get!(offsets.dentry_hashed) != ABSENT
        && parent != dentry
        && read::<u64>(dentry, config::get!(offsets.dentry_hashed)) == 0
}

/// Takes one name, or leaves one mount; false at the end.
#[inline(always)]
pub(super) fn climb(climb: &mut Climb, path: &mut [u8; OPEN_PATH_LEN]) -> bool {
    let root: u64 = read(climb.mount, config::get!(offsets.mount_root));
    if climb.dentry == root {
        return leave_mount(climb);
    }
    let parent: u64 = read(climb.dentry, config::get!(offsets.dentry_parent));
    if parent == 0 || parent == climb.dentry {
        return false;
    }
    let at = climb.bytes as usize & (OPEN_PATH_LEN - 1);
    if at > OPEN_PATH_LEN - NAME {
        climb.end = CUT;
        return false;
    }
    let name: u64 = read(climb.dentry, config::get!(offsets.dentry_name));
    // SAFETY: `NAME` bytes fit behind `at`; a probe read takes any address.
    let taken = unsafe {
        let room = core::slice::from_raw_parts_mut(path.as_mut_ptr().add(at), NAME);
        bpf_probe_read_kernel_str_bytes(name as *const u8, room).map_or(0, |name| name.len() as u32 + 1)
    };
    climb.bytes += taken & (2 * NAME as u32 - 1);
    climb.dentry = parent;
    true
}

/// From the root of a mounted file system to where it is mounted.
#[inline(always)]
fn leave_mount(climb: &mut Climb) -> bool {
    let inner = u64::from(config::get!(offsets.mount_inner));
    let mount = climb.mount.wrapping_sub(inner);
    let above: u64 = read(mount, config::get!(offsets.mount_parent));
    if above == 0 || above == mount {
        climb.end = AT_ROOT;
        return false;
    }
    climb.dentry = read(mount, config::get!(offsets.mount_point));
    climb.mount = above.wrapping_add(inner);
    true
}
