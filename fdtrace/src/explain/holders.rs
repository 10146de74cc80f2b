//! What keeps each handle alive.

use crate::holders::{By, Handle, HolderSnapshot};
use crate::model::Holder;

/// A number for each holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerHolder([u64; Holder::ALL.len()]);

impl PerHolder {
    /// The number of one.
    #[must_use]
    pub const fn of(&self, holder: Holder) -> u64 {
        self.0[holder as usize]
    }

    /// Adds to one.
    pub const fn add(&mut self, holder: Holder, count: u64) {
        self.0[holder as usize] += count;
    }

    /// Each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Holder, u64)> + '_ {
        Holder::ALL.into_iter().map(|holder| (holder, self.of(holder)))
    }
}

/// All holders of each handle, and [`UNCOUNTED`].
pub(super) struct Attribution(Vec<u16>);

/// file-nr does not count the handle.
const UNCOUNTED: u16 = 1 << Holder::ALL.len();

impl Attribution {
    pub(super) fn of(snapshot: &HolderSnapshot) -> Self {
        let uncounted = |handle: &Handle| if handle.is_accounted() { 0 } else { UNCOUNTED };
        let mut all = Self(snapshot.handles.iter().map(uncounted).collect());
        snapshot.each_hold(|handle, by| {
            let holder = match by {
                By::Descriptor => Holder::Descriptor,
                By::Mapping => mapping_holder(snapshot, handle),
                By::Segment => Holder::ShmSegment,
                By::Queue => Holder::ScmRights,
                By::Ring => Holder::IoUring,
                By::Execution => Holder::Executable,
                By::Bpf => Holder::Bpf,
                By::Unseen => Holder::Unknown,
            };
            all.note(handle, holder);
        });
        // What lies behind a file is held as that one is.
        for (behind, above) in &snapshot.behind {
            if let Some(holder) = all.first(*above) {
                all.note(*behind, holder);
            }
        }
        all
    }

    fn note(&mut self, handle: u32, holder: Holder) {
        if let Some(holders) = self.0.get_mut(handle as usize) {
            *holders |= holder.bit();
        }
    }

    /// The holder under which a handle counts; `None` for one that nothing was seen to hold any more.
    pub(super) fn first(&self, handle: u32) -> Option<Holder> {
        let holders = *self.0.get(handle as usize)?;
        Holder::ALL.into_iter().find(|holder| holders & holder.bit() != 0)
    }

    /// Whether it was let go while its holder was read a second time: then it is none of those that are there.
    pub(super) fn is_held(&self, handle: u32) -> bool {
        self.first(handle).is_some()
    }

    /// Whether file-nr does not count it.
    pub(super) fn is_uncounted(&self, handle: u32) -> bool {
        self.0.get(handle as usize).is_some_and(|holders| holders & UNCOUNTED != 0)
    }

    /// Whether no descriptor of any process points to it, nor to the file above it.
    pub(super) fn is_without_descriptor(&self, handle: u32) -> bool {
        self.first(handle).is_some_and(|holder| holder != Holder::Descriptor)
    }

    /// Whether no descriptor of any process points to it, and file-nr counts it.
    pub(super) fn is_hidden(&self, handle: u32) -> bool {
        !self.is_uncounted(handle) && self.is_without_descriptor(handle)
    }

    /// Handles by their first holders: all, and those that file-nr does not count.
    pub(super) fn totals(&self) -> (PerHolder, PerHolder) {
        let (mut all, mut uncounted) = (PerHolder::default(), PerHolder::default());
        for place in 0..u32::try_from(self.0.len()).unwrap_or(u32::MAX) {
            if let Some(holder) = self.first(place) {
                all.add(holder, 1);
                uncounted.add(holder, u64::from(self.is_uncounted(place)));
            }
        }
        (all, uncounted)
    }
}

/// How a mapping holds its file.
pub(super) fn mapping_holder(snapshot: &HolderSnapshot, handle: u32) -> Holder {
    if snapshot.handles[handle as usize].is_attach() { Holder::ShmAttach } else { Holder::Mapping }
}
