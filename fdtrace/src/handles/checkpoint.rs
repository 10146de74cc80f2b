//! All that a fold knows, as the shortest stream that says so: for a trace file that begins in the midst of things.

use std::{collections::HashMap, sync::Arc};

use super::{Fold, Group, GroupId, Image, ImageId};
use crate::{
    model::Kind,
    stream::{Acquired, Alloc, Described, Event, Existing, Fact, Leaving, Mapped},
};

impl Fold {
    /// Events after which another fold knows the same live handles.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<Event> {
        let mut by_image: HashMap<ImageId, Vec<(u64, super::Handle)>> = HashMap::new();
        for (address, handle) in self.table().iter() {
            by_image.entry(self.group_at(handle.group).image).or_default().push((address, handle));
        }
        let mut images: Vec<ImageId> = by_image.keys().copied().collect();
        // What a process runs now comes after all that it ran before.
        images.sort_by_key(|id| (!self.image(*id).ended, self.image(*id).key.since));
        let mut events: Vec<Event> =
            self.sites().iter().filter_map(|(_, sums)| site(sums.site.as_ref()?)).collect();
        for id in images {
            self.checkpoint_image(self.image(id), &by_image[&id], &mut events);
        }
        for (address, handle) in self.table().iter() {
            self.checkpoint_details(address, handle, &mut events);
        }
        events.push(Event::Sample(Box::new(*self.stats())));
        events
    }

    fn checkpoint_image(&self, image: &Image, handles: &[(u64, super::Handle)], events: &mut Vec<Event>) {
        let (time, tgid) = (image.key.since, image.key.tgid);
        if time > 0 {
            let comm = image.comm.unwrap_or_default();
            events.push(Event::Exec { time, tgid, comm, path: image.path.clone().unwrap_or_default() });
        }
        let mut reported: Vec<GroupId> = Vec::new();
        for (address, handle) in handles {
            let group = self.group_at(handle.group);
            events.push(self.allocation(*address, *handle, tgid, group));
            if !group.existing && !reported.contains(&handle.group) {
                reported.push(handle.group);
                events.extend(belongs(image, group));
            }
        }
        if let Some(identity) = &image.identity {
            events.push(fact(Fact::Identity(image.key, Arc::clone(identity))));
        }
        if image.ended {
            events.push(Event::Exit { time, tgid, how: Leaving::default() });
        }
    }

    fn allocation(&self, handle: u64, known: super::Handle, tgid: u32, group: &Group) -> Event {
        if group.existing {
            return fact(Fact::Existing(Existing { handle, tgid, fd: None }));
        }
        let super::Handle { generation, tid, .. } = known;
        let alloc = Alloc { handle, generation, tgid, tid, call: group.call };
        match self.repeated_by(handle) {
            Some(of) => Event::Acquired(Acquired { alloc, of }),
            None => Event::Alloc(alloc),
        }
    }

    fn checkpoint_details(&self, address: u64, handle: super::Handle, events: &mut Vec<Event>) {
        let detail = self.details().get(address).cloned().unwrap_or_default();
        if let Some(mapping) = &detail.mapping {
            let group = self.group_at(mapping.group);
            events.push(Event::Mapped(Mapped {
                handle: address,
                generation: handle.generation,
                time: handle.generation,
                tgid: mapping.tgid,
                tid: mapping.tgid,
                address: mapping.address,
                length: mapping.length,
                inode: 0,
                call: group.call,
            }));
            events.extend(belongs(self.image(group.image), group));
        }
        if handle.kind != 0 {
            events.push(fact(Fact::Described(Described {
                handle: address,
                generation: handle.generation,
                kind: Kind::from_number(handle.kind),
                name: detail.name,
                descriptor: detail.descriptor,
            })));
        }
    }
}

fn belongs(image: &Image, group: &Group) -> Option<Event> {
    Some(fact(Fact::Belongs { image: image.key, call: group.call, site: group.site? }))
}

fn site(site: &Arc<crate::stream::Site>) -> Option<Event> {
    Some(fact(Fact::Site(Arc::clone(site))))
}

fn fact(fact: Fact) -> Event {
    Event::Fact(Box::new(fact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        handles::Snapshot,
        stream::{Call, Cause, FdLookup, ImageKey, Release},
    };

    #[test]
    fn another_fold_knows_the_same() {
        let call = |user_stack| Call { user_stack, ..Call::default() };
        let alloc = |handle, generation, tgid, stack| {
            Event::Alloc(Alloc { handle, generation, tgid, tid: tgid + 1, call: call(stack) })
        };
        let exec = |time, tgid| Event::Exec {
            time,
            tgid,
            comm: *b"program\0\0\0\0\0\0\0\0\0",
            path: b"/bin/program".to_vec(),
        };
        let place = |tgid, since, stack, site| {
            fact(Fact::Belongs { image: ImageKey { tgid, since }, call: call(stack), site })
        };
        let mapped = Mapped {
            handle: 16,
            generation: 12,
            time: 13,
            tgid: 6,
            tid: 6,
            address: 4096,
            length: 1,
            inode: 0,
            call: call(9),
        };
        let described = Described {
            handle: 16,
            generation: 12,
            kind: Kind::Regular,
            name: Some("/x".into()),
            descriptor: FdLookup::Found(5, 3),
        };
        let mut one = Fold::default();
        let events = [
            fact(Fact::Existing(Existing { handle: 80, tgid: 4, fd: None })),
            alloc(8, 10, 5, 1),
            place(5, 0, 1, 71),
            exec(11, 5),
            alloc(16, 12, 5, 1),
            place(5, 11, 1, 72),
            Event::Mapped(mapped),
            fact(Fact::Described(described)),
            alloc(24, 14, 5, 2),
            Event::Release(Release {
                handle: 24,
                generation: 14,
                time: 15,
                tgid: 5,
                cause: Cause::Close,
                never_opened: false,
                unaccounted: false,
            }),
            exec(20, 7),
            alloc(32, 21, 7, 3),
            Event::Exit { time: 22, tgid: 7, how: Leaving::default() },
        ];
        events.into_iter().for_each(|event| one.apply(event));
        let mut other = Fold::default();
        one.checkpoint().into_iter().for_each(|event| other.apply(event));
        let summary = |fold: &Fold| {
            let snapshot = Snapshot::of(fold, 100, 0);
            let mut groups: Vec<_> = snapshot
                .groups
                .iter()
                .map(|group| {
                    (group.image, group.site, group.call, group.aged, group.kinds, group.oldest.clone())
                })
                .collect();
            groups.sort_by_key(|group| (group.0, group.2.user_stack));
            let mapped: Vec<_> = snapshot.groups.iter().flat_map(|group| group.mapped_by.clone()).collect();
            (groups, mapped, snapshot.existing.live(), snapshot.existing_by.len())
        };
        assert_eq!(summary(&one), summary(&other));
        assert_eq!(other.table().len(), 4);
    }
}
