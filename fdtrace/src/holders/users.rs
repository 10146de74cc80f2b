//! What the kernel counts for each user, beside handles: watches, instances, pages of pipes. Every handle of such a kind
//! leads to the counter of the user that it was made for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{Handle, HolderSnapshot, Memory, memory::is_address};
use crate::{kernel::UserLayout, model::Kind};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// Instances of inotify.
    InotifyInstances,
    /// Watches of inotify.
    InotifyWatches,
    /// Pages that pipes may take.
    PipePages,
    /// Descriptors that epoll instances watch.
    EpollWatches,
}

/// A user's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserCount {
    /// What is counted.
    pub counter: Counter,
    /// The user.
    pub uid: u32,
    /// How many there are.
    pub count: u64,
}

/// `UCOUNT_INOTIFY_INSTANCES` and `UCOUNT_INOTIFY_WATCHES` (include/linux/user_namespace.h, the same since 5.6).
const INSTANCES: u64 = 8;
const WATCHES: u64 = 9;

/// Finds them.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: &UserLayout,
) -> io::Result<()> {
    let mut found = Vec::new();
    if let Some((user, uid, counts, bytes)) = layout.inotify {
        let owners =
            owners(snapshot, memory, user, |handle, name| handle.kind == Kind::Anon && name == b"inotify")?;
        let at = |index: u64| counts + index * bytes;
        let counters = [(Counter::InotifyInstances, at(INSTANCES)), (Counter::InotifyWatches, at(WATCHES))];
        read(memory, &owners, uid, &counters, bytes, &mut found)?;
    }
    if let Some((user, uid, count)) = layout.pipe {
        let owners = owners(snapshot, memory, user, |handle, _| handle.kind == Kind::Fifo)?;
        read(memory, &owners, uid, &[(Counter::PipePages, count)], 8, &mut found)?;
    }
    if let Some((user, uid, count)) = layout.epoll {
        let is_epoll = |handle: &Handle, name: &[u8]| handle.kind == Kind::Anon && name == b"[eventpoll]";
        let owners = owners(snapshot, memory, user, is_epoll)?;
        read(memory, &owners, uid, &[(Counter::EpollWatches, count)], 8, &mut found)?;
    }
    // A user has a counter in each user namespace: the largest is the nearest to the limit.
    let mut most: BTreeMap<(Counter, u32), u64> = BTreeMap::new();
    for UserCount { counter, uid, count } in found {
        let most = most.entry((counter, uid)).or_default();
        *most = count.max(*most);
    }
    snapshot.users =
        most.into_iter().map(|((counter, uid), count)| UserCount { counter, uid, count }).collect();
    Ok(())
}

/// The addresses of the structures that count. Handles with the same credentials have the same, so one of them is asked.
fn owners(
    snapshot: &HolderSnapshot,
    memory: &mut impl Memory,
    user: u64,
    is_one: impl Fn(&Handle, &[u8]) -> bool,
) -> io::Result<Vec<u64>> {
    let mut asked = BTreeMap::new();
    for handle in snapshot.handles.iter().filter(|handle| is_address(handle.private)) {
        if is_one(handle, handle.raw_name(&snapshot.names)) {
            asked.entry(handle.cred).or_insert(handle.private.wrapping_add(user));
        }
    }
    let addresses: Vec<u64> = asked.into_values().collect();
    let owners: BTreeSet<u64> =
        memory.words(&addresses)?.into_iter().filter(|owner| is_address(*owner)).collect();
    Ok(owners.into_iter().collect())
}

/// Each owner's user and counters, which have so many bytes.
fn read(
    memory: &mut impl Memory,
    owners: &[u64],
    uid: u64,
    counters: &[(Counter, u64)],
    bytes: u64,
    found: &mut Vec<UserCount>,
) -> io::Result<()> {
    let at = |offset: u64| -> Vec<u64> { owners.iter().map(|owner| owner.wrapping_add(offset)).collect() };
    let half = u64::from(u32::MAX);
    let uids = memory.words(&at(uid))?;
    for (counter, offset) in counters {
        for (uid, count) in uids.iter().zip(memory.words(&at(*offset))?) {
            let count = if bytes == 4 { count & half } else { count };
            // Counters of this CPU or that may be behind others: the sum is not below 0.
            let count = if count > i64::MAX as u64 { 0 } else { count };
            let uid = u32::try_from(uid & half).unwrap_or(u32::MAX);
            found.push(UserCount { counter: *counter, uid, count });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::File;

    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, ring};

    const LAYOUT: UserLayout =
        UserLayout { inotify: Some((0x10, 0x18, 0x20, 8)), pipe: Some((0x70, 0x30, 0x20)), epoll: None };

    #[test]
    fn counters_of_users() {
        let inotify = |number: u64, cred: u64| {
            let anonymous = ring(KERNEL + number * 256, KERNEL + 0x10_0000 + number * 256);
            let mut found = File { cred, ..anonymous };
            crate::holders::fixture::rename(&mut found, b"inotify");
            found
        };
        let pipe = File {
            inode_mode: 0o010_600,
            private: KERNEL + 0x30_0000,
            cred: 5,
            ..file(KERNEL + 0x8000, b"")
        };
        let (mut records, mut memory) = (Records::default(), Pages::default());
        let all = [inotify(1, 7), inotify(2, 7), inotify(3, 8), pipe];
        all.iter().for_each(|file| _ = records.file(file));
        let user = |number: u64| KERNEL + 0x20_0000 + number * 4096;
        for (file, owner) in [(&all[0], 1), (&all[2], 2)] {
            memory.word(file.private + 0x10, user(owner));
        }
        memory.word(pipe.private + 0x70, user(3));
        for (number, uid, instances, watches) in [(1, 1000, 90, 4000), (2, 1001, 3, 5)] {
            memory.word(user(number) + 0x18, uid | 7 << 32).word(user(number) + 0x20 + 64, instances);
            memory.word(user(number) + 0x20 + 72, watches);
        }
        memory.word(user(3) + 0x30, 1000).word(user(3) + 0x20, 16_000);
        let mut snapshot = records.snapshot();
        find(&mut snapshot, &mut memory, &LAYOUT).expect("memory");
        let count = |counter, uid, count| UserCount { counter, uid, count };
        let expected = [
            count(Counter::InotifyInstances, 1000, 90),
            count(Counter::InotifyInstances, 1001, 3),
            count(Counter::InotifyWatches, 1000, 4000),
            count(Counter::InotifyWatches, 1001, 5),
            count(Counter::PipePages, 1000, 16_000),
        ];
        assert_eq!(snapshot.users, expected);
    }
}
