//! The numbers that writer and reader agree on.

use crate::stream::Stats;

/// The version of the format that this build writes, and the newest that it reads. From 2 on a frame has the runtime whose script
/// it is of, and a site's id is made of script frames; a reader of version 1 would take them for native ones.
pub const VERSION: u32 = 2;

/// The first bytes of a file. The line ends and the byte 0x1a show what a transfer as text has broken.
pub(super) const MAGIC: [u8; 8] = *b"\x89FDT\r\n\x1a\n";

/// Magic and version.
pub(super) const PREAMBLE: usize = MAGIC.len() + size_of::<u32>();

/// What a block is.
pub(super) mod kind {
    pub(crate) const HEADER: u8 = 1;
    pub(crate) const EVENTS: u8 = 2;
    pub(crate) const END: u8 = 3;
}

/// Bits of a block's flags.
pub(super) mod flag {
    /// All tables are empty at its start.
    pub(crate) const KEY: u8 = 1;
    /// Its bytes are not compressed.
    pub(crate) const STORED: u8 = 2;
}

/// Longest block that a reader takes, in bytes, compressed or not.
pub(super) const MAX_RAW: u32 = 16 << 20;
/// Longest header, in bytes of JSON.
pub(super) const MAX_HEADER: u32 = 1 << 20;
/// Bytes after which a writer ends a block.
pub(super) const BLOCK: usize = 256 << 10;
/// Uncompressed bytes after which a writer begins anew with empty tables: what a reader can lose to one wrong byte.
pub(super) const EPOCH: usize = 16 << 20;

/// Longest text that is kept, in bytes; more is cut off.
pub(super) const MAX_TEXT: usize = 4096;
/// Most frames of each half of a site that are kept.
pub(super) const MAX_FRAMES: usize = 512;
/// Most entries of each table between two blocks that begin anew; a writer begins anew at half of it.
pub(super) const MAX_ENTRIES: usize = 1 << 20;
/// Most bytes of text that the string table may have.
pub(super) const MAX_STRINGS: usize = 32 << 20;
/// Most bytes of text that the facts of one block may be made of.
pub(super) const MAX_SPOKEN: usize = 64 << 20;

/// How many of the last allocations a release can name by their age.
pub(super) const RECENT: usize = 1024;
/// [`RECENT`], as it stands before a slot.
pub(super) const RECENT_CODE: u64 = RECENT as u64;

/// A block's parts.
pub(super) mod column {
    pub(crate) const TAGS: usize = 0;
    pub(crate) const ALLOC_TIMES: usize = 1;
    pub(crate) const RELEASE_TIMES: usize = 2;
    pub(crate) const GROUPS: usize = 3;
    pub(crate) const SLOTS: usize = 4;
    pub(crate) const AGES: usize = 5;
    pub(crate) const TASKS: usize = 6;
    pub(crate) const ADDRESSES: usize = 7;
    pub(crate) const RECORDS: usize = 8;
}
/// How many parts a block has.
pub(super) const COLUMNS: usize = 9;

/// The tag of an allocation; bits below say more.
pub(super) const ALLOC: u8 = 0x80;
/// Bits of an allocation's tag.
pub(super) mod alloc {
    /// The kernel's table has it; its allocation was not seen.
    pub(crate) const FOUND: u8 = 1;
    /// Another thread than the group's last.
    pub(crate) const OTHER_THREAD: u8 = 2;
    /// The next slot, for a new address.
    pub(crate) const NEW_SLOT: u8 = 4;
    /// All of these.
    pub(crate) const ALL: u8 = FOUND | OTHER_THREAD | NEW_SLOT;
}

/// The tag of a release; the cause is in its three lowest bits.
pub(super) const RELEASE: u8 = 0xc0;
/// Bits of a release's tag, and the flags of a release in full.
pub(super) mod release {
    pub(crate) const CAUSE: u8 = 7;
    pub(crate) const NEVER_OPENED: u8 = 8;
    pub(crate) const UNACCOUNTED: u8 = 16;
    /// By another process than the one that allocated it.
    pub(crate) const OTHER_PROCESS: u8 = 32;
}

/// Tags of the records that have a length.
pub(super) mod record {
    pub(crate) const CALL: u8 = 1;
    pub(crate) const GROUP: u8 = 2;
    pub(crate) const STRING: u8 = 3;
    pub(crate) const USER_FRAME: u8 = 4;
    pub(crate) const KERNEL_FRAME: u8 = 5;
    pub(crate) const SITE_ID: u8 = 6;
    pub(crate) const RELEASE: u8 = 16;
    pub(crate) const MAPPED: u8 = 17;
    pub(crate) const FORK: u8 = 18;
    pub(crate) const EXEC: u8 = 19;
    pub(crate) const EXIT: u8 = 20;
    pub(crate) const FAILURE: u8 = 21;
    pub(crate) const GAP: u8 = 22;
    pub(crate) const FOUND_GONE: u8 = 23;
    pub(crate) const SHORT_LIVED: u8 = 24;
    pub(crate) const IDENTITY: u8 = 25;
    pub(crate) const SITE: u8 = 26;
    pub(crate) const BELONGS: u8 = 27;
    pub(crate) const DESCRIBED: u8 = 28;
    pub(crate) const EXISTING: u8 = 29;
    pub(crate) const SAMPLE: u8 = 30;
    pub(crate) const OPEN: u8 = 31;
    pub(crate) const CUT: u8 = 32;
    pub(crate) const ACQUIRED: u8 = 33;
}

/// Bits of a call's flags.
pub(super) mod call {
    pub(crate) const USER_STACK: u8 = 1;
    pub(crate) const KERNEL_STACK: u8 = 2;
    pub(crate) const KERNEL_TASK: u8 = 4;
    pub(crate) const SYSCALL: u8 = 8;
    pub(crate) const ACQUIRED: u8 = 16;
}

/// Bits of the flags of a descriptor that is open when its program ends.
pub(super) mod open {
    pub(crate) const AT_EXEC: u8 = 1;
    pub(crate) const CLOSE_ON_EXEC: u8 = 2;
    pub(crate) const DELETED: u8 = 4;
}

/// What differences are taken to. Writer and reader move it alike; it begins as zeros with every table that is empty.
#[derive(Clone, Copy, Default)]
pub(super) struct Bases {
    /// The time of the last event that has one.
    pub(super) time: u64,
    /// The last address of a handle that was written out.
    pub(super) address: u64,
    /// The process of the last group, or of the last record that names one.
    pub(super) process: u32,
    /// One more than the call of the last group.
    pub(super) call: u64,
    /// One more than the last call's name.
    pub(super) name: u64,
    /// Where the last handle was mapped.
    pub(super) mapping: u64,
    /// When the last image began that was named.
    pub(super) since: u64,
    /// The last sample.
    pub(super) sample: Stats,
}

/// The figures of a sample but for its time, in the order of the file: later versions have more.
pub(super) fn figures(stats: &mut Stats) -> [&mut u64; 23] {
    [
        &mut stats.allocated,
        &mut stats.never_opened,
        &mut stats.untraced_releases,
        &mut stats.own_allocations,
        &mut stats.lost_events,
        &mut stats.lost_handles,
        &mut stats.lost_stacks,
        &mut stats.missed_allocations,
        &mut stats.missed_releases,
        &mut stats.unsynced,
        &mut stats.phantoms,
        &mut stats.malformed,
        &mut stats.file_nr,
        &mut stats.own_descriptors,
        &mut stats.young,
        &mut stats.short_lived,
        &mut stats.short_lived_never_opened,
        &mut stats.missed_ends,
        &mut stats.lost_ends,
        &mut stats.unfollowed,
        &mut stats.cut_walks,
        &mut stats.unchecked,
        &mut stats.lost_descriptors,
    ]
}
