//! What holds each handle, and what two walks saw of it.

use std::collections::HashSet;

use super::{HolderSnapshot, Link, Sightings};

/// By what a handle is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An entry of a table of descriptors.
    Descriptor,
    /// A mapping.
    Mapping,
    /// The segment whose own file it is.
    Segment,
    /// The queue of a socket.
    Queue,
    /// A ring, or a task that has registered the ring.
    Ring,
    /// A process that runs it.
    Execution,
    /// A BPF map or link.
    Bpf,
    /// Something out of sight.
    Unseen,
}

/// What a handle is known by: its address, and what another one at the same address would hardly have as well.
type Identity = (u64, u64, u64, u32);

impl HolderSnapshot {
    /// Calls `each` for everything that holds a handle.
    pub fn each_hold(&self, mut each: impl FnMut(u32, By)) {
        self.descriptors.iter().for_each(|held| each(held.handle, By::Descriptor));
        self.mappings.iter().for_each(|held| each(held.handle, By::Mapping));
        self.segments.iter().for_each(|held| each(held.handle, By::Segment));
        self.in_flight.iter().for_each(|held| each(held.handle, By::Queue));
        self.registered.iter().for_each(|held| each(held.handle, By::Ring));
        self.ring_descriptors.iter().for_each(|(_, ring)| each(*ring, By::Ring));
        self.linked.iter().for_each(|linked| {
            let by = match linked.link {
                Link::Bpf => By::Bpf,
                Link::Namespace => By::Segment,
                Link::Peer => By::Unseen,
            };
            each(linked.handle, by);
        });
        let executables = self.tasks.iter().filter_map(|task| self.place(task.executable));
        executables.for_each(|executable| each(executable, By::Execution));
    }

    /// Whether handles came or went during the walk, as far as their number says.
    pub(super) fn has_moved(&self) -> bool {
        self.counted.is_some_and(|counted| counted.min != counted.max)
    }

    /// The handles that are held and that file-nr counts; and how many of them the walk had open for itself.
    fn held(&self, own: u32) -> (HashSet<Identity>, u64) {
        let (mut held, mut of_walk) = (HashSet::new(), HashSet::new());
        let walks: HashSet<u32> =
            self.tasks.iter().filter(|task| task.parent == own).map(|task| task.tgid).collect();
        let is_own = |tgid: u32| tgid == own || walks.contains(&tgid);
        let own_part = self.tables.iter().filter(|table| is_own(table.tgid));
        let mut ours = vec![false; self.descriptors.len()];
        own_part.for_each(|table| ours[table.part.start as usize..table.part.end as usize].fill(true));
        let mut index = 0;
        self.each_hold(|place, by| {
            let is_ours = by == By::Descriptor && ours.get(index).copied().unwrap_or(false);
            index += 1;
            let Some(handle) = self.handles.get(place as usize).filter(|handle| handle.is_accounted()) else {
                return;
            };
            let identity = (handle.address, handle.ino, handle.private, handle.dev);
            if is_ours {
                of_walk.insert(identity)
            } else {
                held.insert(identity)
            };
        });
        let only_ours = of_walk.difference(&held).count() as u64;
        (held, only_ours)
    }

    /// Compares with a walk just before, which process `own` took as well.
    pub(super) fn compare(&mut self, before: &Self, own: u32) {
        let ((earlier, _), (now, only_ours)) = (before.held(own), self.held(own));
        let shared = earlier.intersection(&now).count() as u64;
        // What a walk opens for itself is another handle each time, and there as long as it goes.
        let (both, either) = (shared + only_ours, (earlier.len() + now.len()) as u64 - shared + only_ours);
        self.sightings = Some(Sightings { both, either });
        self.moving += before.moving;
        if let (Some(counted), Some(earlier)) = (&mut self.counted, before.counted) {
            counted.min = counted.min.min(earlier.min);
            counted.max = counted.max.max(earlier.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        holders::{
            Counted,
            fixture::{Scene, backing_file},
        },
        kernel::Exactness,
    };

    fn counted(min: u64, max: u64) -> Option<Counted> {
        Some(Counted { last: max, min, max, exactness: Exactness::FileNr, limit: 9 })
    }

    #[test]
    fn what_both_saw_and_what_either_saw() {
        let mut scene = Scene::default();
        let [stays, goes, comes, ran] = ["stays", "goes", "comes", "ran"].map(|name| scene.regular(name));
        let uncounted = scene.next();
        scene.file(backing_file(uncounted, b"behind"));
        let sampled = |descriptors: &[u64], executable: u64, range: (u64, u64)| {
            let mut scene = scene.clone();
            scene.task(fdtrace_common::holder_walk::Task {
                executable,
                ..crate::holders::fixture::task(1, "a")
            });
            scene.opens(1, descriptors).maps(1, &[stays, uncounted], 0);
            HolderSnapshot { counted: counted(range.0, range.1), ..scene.snapshot() }
        };
        let before = sampled(&[stays, goes], ran, (20, 22));
        let mut after = sampled(&[stays, comes], 0, (21, 25));
        after.compare(&before, 9);
        assert_eq!(after.sightings, Some(Sightings { both: 1, either: 4 }));
        assert_eq!(after.counted, counted(20, 25));
    }

    #[test]
    fn another_file_at_the_same_address_is_another_handle() {
        let of = |ino: u64| {
            let mut scene = Scene::default();
            let handle = scene.next();
            scene.file(fdtrace_common::holder_walk::File {
                ino,
                ..crate::holders::fixture::file(handle, b"f")
            });
            scene.process(1, "a").opens(1, &[handle]);
            scene.snapshot()
        };
        let (before, mut after) = (of(1), of(2));
        after.compare(&before, 9);
        assert_eq!(after.sightings, Some(Sightings { both: 0, either: 2 }));
        after.compare(&before, 1);
        assert_eq!(after.sightings, Some(Sightings { both: 1, either: 1 }), "what a walk opens for itself");
    }
}
