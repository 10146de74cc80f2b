//! The path of a file, from its directory entry up to the root of the mounts: what `d_path` does, where no program may call
//! that.

use aya_ebpf::helpers::bpf_probe_read_kernel_str_bytes;
use fdtrace_common::wire::OPEN_PATH_LEN;

use crate::kernel::{Ptr, dentry, file, mount, vfsmount};

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
    dentry: Ptr<dentry>,
    mount: Ptr<vfsmount>,
    /// What the names have taken.
    pub(super) bytes: u32,
    /// How it ended.
    pub(super) end: u8,
    reserved: [u8; 3],
}

#[inline(always)]
pub(super) fn begin(climb: &mut Climb, file: Ptr<file>) {
    climb.dentry = file.dentry();
    climb.mount = file.mnt();
    climb.bytes = 0;
    climb.end = 0;
}

/// The entry is in no directory: it was deleted, or never was in one.
#[inline(always)]
pub(super) fn is_deleted(dentry: Ptr<dentry>) -> bool {
    dentry::pprev().exists() && dentry.d_parent() != dentry && dentry.pprev() == 0
}

/// Takes one name, or leaves one mount; false at the end.
#[inline(always)]
pub(super) fn climb(climb: &mut Climb, path: &mut [u8; OPEN_PATH_LEN]) -> bool {
    if climb.dentry == climb.mount.mnt_root() {
        return leave_mount(climb);
    }
    let parent = climb.dentry.d_parent();
    if parent.is_null() || parent == climb.dentry {
        return false;
    }
    let at = climb.bytes as usize & (OPEN_PATH_LEN - 1);
    if at > OPEN_PATH_LEN - NAME {
        climb.end = CUT;
        return false;
    }
    let name = climb.dentry.name();
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
    let mount = climb.mount.around::<mount>(mount::mnt().offset());
    let above = mount.mnt_parent();
    if above.is_null() || above == mount {
        climb.end = AT_ROOT;
        return false;
    }
    climb.dentry = mount.mnt_mountpoint();
    climb.mount = above.mnt();
    true
}
