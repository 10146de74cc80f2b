//! What is found out beside the stream and becomes part of it.

use std::sync::Arc;

use super::Call;
use crate::model::{Identity, KernelFrame, Kind, Origin, UserFrame};

/// One program in one process: the process, and when it began to run that program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageKey {
    /// The process.
    pub tgid: u32,
    /// The time of the fork or exec that began it, `CLOCK_MONOTONIC` in ns; 0 when it was there before tracing.
    pub since: u64,
}

/// Something that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// What an image is.
    Identity(ImageKey, Arc<Identity>),
    /// A call site.
    Site(Arc<Site>),
    /// Handles that an image allocates by a call are of a site.
    Belongs {
        /// The image.
        image: ImageKey,
        /// The call.
        call: Call,
        /// The site's id.
        site: u64,
    },
    /// What a handle is.
    Described(Described),
    /// A handle that is pre-existing.
    Existing(Existing),
}

impl Site {
    /// Bytes of memory that one takes where it shares nothing with others.
    pub(crate) fn weight(&self) -> usize {
        let kernel = self.kernel.iter().map(|frame| size_of::<KernelFrame>() + frame.symbol.len());
        let user = self.user.frames.iter().map(|frame| frame.weight());
        size_of::<Self>() + kernel.chain(user).sum::<usize>()
    }
}

/// A place in programs that allocates handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Hash of the origin and the user stack by build-id and offset.
    pub id: u64,
    /// Which kernel path allocates.
    pub origin: Origin,
    /// The kernel's half of the stack, as it was first seen; innermost frame first.
    pub kernel: Vec<KernelFrame>,
    /// The process's half.
    pub user: UserStack,
}

/// A stack of a process, innermost frame first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserStack {
    /// The frames; stacks share them.
    pub frames: Vec<Arc<UserFrame>>,
    /// Whether the stack reaches the function that every thread or process begins with.
    pub complete: bool,
}

/// What a handle is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its address.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// What it is.
    pub kind: Kind,
    /// Its path, its peer, or what it is. Without a name and a descriptor, what was said before stays true.
    pub name: Option<Arc<str>>,
    /// A process with a descriptor for it, and the descriptor.
    pub descriptor: FdLookup,
}

/// A descriptor that points to a handle, if somebody looked for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FdLookup {
    /// Nobody has looked.
    #[default]
    NotYet,
    /// No process has one.
    Nothing,
    /// A process, and its descriptor.
    Found(u32, u32),
}

impl FdLookup {
    /// The process and its descriptor, if there is one.
    #[must_use]
    pub const fn found(self) -> Option<(u32, u32)> {
        match self {
            Self::Found(process, descriptor) => Some((process, descriptor)),
            Self::NotYet | Self::Nothing => None,
        }
    }
}

/// A handle that is pre-existing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its address.
    pub handle: u64,
    /// A process that holds it.
    pub tgid: u32,
    /// The holder's descriptor; `None` when a mapping holds it.
    pub fd: Option<u32>,
}

/// What the kernel side had counted at a moment, and the machine's own figures then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// When, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// Handles that the kernel side let into its table.
    pub allocated: u64,
    /// Of those gone, the ones that no open completed.
    pub never_opened: u64,
    /// Releases of handles that are not in the table.
    pub untraced_releases: u64,
    /// Handles that the tracer itself allocated.
    pub own_allocations: u64,
    /// Records that found no room in the ring.
    pub lost_events: u64,
    /// Handles that found no room in the table.
    pub lost_handles: u64,
    /// Stacks that could not be taken.
    pub lost_stacks: u64,
    /// Runs of the allocation's program that the kernel skipped.
    pub missed_allocations: u64,
    /// Runs of the release's program that the kernel skipped.
    pub missed_releases: u64,
    /// Runs that the kernel skipped of the programs that see processes come, change and go.
    pub missed_ends: u64,
    /// Records that found no room in the ring, of processes that came, changed or went, and of what was open then.
    pub lost_ends: u64,
    /// Processes that should be followed and are not.
    pub unfollowed: u64,
    /// Tables of descriptors that were too long to be walked to their end.
    pub cut_walks: u64,
    /// Descriptors that were acquired and found no room in the kernel's table.
    pub lost_descriptors: u64,
    /// Skipped runs after which an allocation may be missing.
    pub unsynced: u64,
    /// Skipped releases of which nobody knows yet whether they have left a handle that is gone.
    pub unchecked: u64,
    /// Addresses that were used again although no release was seen.
    pub phantoms: u64,
    /// Records that were no events.
    pub malformed: u64,
    /// `/proc/sys/fs/file-nr`: all handles of the system that are counted there.
    pub file_nr: u64,
    /// Descriptors of the tracer, which are among those.
    pub own_descriptors: u64,
    /// Short lives that the min-age filter has counted at sites of which nothing is known yet.
    pub short_lived: u64,
    /// Of those, the ones that no open completed.
    pub short_lived_never_opened: u64,
    /// Traced handles that are alive and too young for the min-age filter to speak of.
    pub young: u64,
}
