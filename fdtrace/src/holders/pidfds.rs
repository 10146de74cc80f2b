//! Which process each pidfd is of. Its directory entry has no name; the kernel makes one up for whoever asks
//! (`pidfs_dname`, fs/pidfs.c).

use std::io;

use super::{
    Handle, HolderSnapshot, Memory,
    memory::{half, is_address},
};
use crate::kernel::PidLayout;

/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h)
const THREAD: u32 = libc::O_EXCL.cast_unsigned();
/// The name before 6.9, when pidfds were anonymous inodes as others.
const PIDFD: &[u8] = b"[pidfd]";

/// Gives each pidfd a name. Numbers are those of the first PID namespace.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn name(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: PidLayout,
) -> io::Result<()> {
    let found = pids(snapshot, memory, layout)?;
    let wanted: Vec<(u64, usize)> =
        found.iter().map(|(_, pid)| (pid.wrapping_add(layout.number), size_of::<u32>())).collect();
    for ((place, _), bytes) in found.into_iter().zip(memory.read(&wanted)?) {
        let number = bytes.as_deref().map_or(0, |bytes| half(bytes, 0));
        let handle = &mut snapshot.handles[place as usize];
        let what = if handle.flags & THREAD == 0 { "process" } else { "thread" };
        // The process may have ended, and has no number any more then.
        let name = if number == 0 { "pidfd".to_owned() } else { format!("pidfd of {what} {number}") };
        handle.rename(name.as_bytes(), &mut snapshot.names);
    }
    Ok(())
}

/// Each pidfd, and the `struct pid` that it is for.
fn pids(
    snapshot: &HolderSnapshot,
    memory: &mut impl Memory,
    layout: PidLayout,
) -> io::Result<Vec<(u32, u64)>> {
    let all = || (0..).zip(&snapshot.handles).filter(|(_, handle)| is_pidfd(handle, snapshot));
    let inodes: Vec<u64> = all().map(|(_, handle)| handle.inode.wrapping_add(layout.of_inode)).collect();
    let of_inodes = memory.words(&inodes)?;
    let pid = |((place, handle), of_inode): ((u32, &Handle), u64)| {
        (place, if handle.is_on_pidfs() { of_inode } else { handle.private })
    };
    Ok(all().zip(of_inodes).map(pid).filter(|(_, pid)| is_address(*pid)).collect())
}

fn is_pidfd(handle: &Handle, snapshot: &HolderSnapshot) -> bool {
    handle.is_on_pidfs()
        || handle.kind == crate::model::Kind::Anon && handle.raw_name(&snapshot.names) == PIDFD
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::File;

    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file};

    const LAYOUT: PidLayout = PidLayout { of_inode: 0x100, number: 0x40 };
    const PID_FS: u64 = 0x5049_4446;
    const ANON_INODE_FS: u64 = 0x0904_1934;
    const PID: u64 = KERNEL + 0x10_0000;

    fn named(file: &File, memory: &mut Pages) -> String {
        let mut records = Records::default();
        records.file(file);
        let mut snapshot = records.snapshot();
        name(&mut snapshot, memory, LAYOUT).expect("memory");
        snapshot.name(0)
    }

    fn on_pidfs() -> File {
        File { magic: PID_FS, inode: KERNEL + 0x8000, ..file(KERNEL + 256, b"/") }
    }

    #[test]
    fn by_its_inode_or_by_its_own_data() {
        let mut memory = Pages::default();
        memory.word(KERNEL + 0x8100, PID).word(PID + 0x40, 0xffff_ffff << 32 | 4711);
        assert_eq!(named(&on_pidfs(), &mut memory), "pidfd of process 4711");
        let of_thread = File { flags: THREAD, ..on_pidfs() };
        assert_eq!(named(&of_thread, &mut memory), "pidfd of thread 4711");
        let older = File { magic: ANON_INODE_FS, private: PID, ..file(KERNEL + 256, b"[pidfd]") };
        assert_eq!(named(&older, &mut memory), "pidfd of process 4711");
    }

    #[test]
    fn of_nobody_any_more() {
        let mut memory = Pages::default();
        memory.word(KERNEL + 0x8100, PID).word(PID + 0x40, 0);
        assert_eq!(named(&on_pidfs(), &mut memory), "pidfd");
    }

    #[test]
    fn others_keep_their_names() {
        let mut memory = Pages::default();
        memory.word(PID + 0x40, 4711);
        let lookalike = File { private: PID, ..file(KERNEL + 256, b"[pidfd]") };
        assert_eq!(named(&lookalike, &mut memory), "[pidfd]");
    }
}
