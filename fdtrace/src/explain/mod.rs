//! Why file-nr and lsof disagree: a walk as an answer.
//!
//! [`holders`] counts each handle once, under what keeps it alive; [`processes`] says what belongs to which process, and
//! [`references`] who holds what; [`assemble`] gathers what each process holds, [`groups`] what is hidden, by the [`keys`]
//! of handles that are alike, and [`ordinary`] which of it every program has that runs; [`process_groups`] gathers processes that belong together; [`peers`] says who is at the other end; [`kept`] says what keeps one handle alive, [`join`] by a trace who allocated
//! what; [`residual`] is what is left over. Nothing here knows a kernel: names that a walk does not have come through
//! [`Paths`].

mod assemble;
pub(crate) mod document;
mod focus;
mod groups;
mod holders;
mod join;
mod kept;
mod keys;
mod ordinary;
mod paths;
mod peers;
mod process_groups;
mod processes;
mod references;
mod residual;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use assemble::Process;
pub use focus::{Focus, SocketState};
pub use groups::{Group, HiddenGroup, Sharer};
pub use holders::PerHolder;
pub use join::{Maker, Makers, MakingSite, Traced, TracedHandle, makers};
pub use kept::{By, Kept, Reference, Wanted, kept, of_file, wanted};
pub use paths::Paths;
pub use peers::{End, Peer};
pub use process_groups::{ProcessGroup, process_groups};
pub use processes::Limit;
pub use residual::{Around, Residual};

use crate::{
    holders::{Handle, HolderSnapshot, Segment, Unreadable},
    kernel::Exactness,
    model::Kind,
};
use holders::Attribution;
use keys::Keys;
use paths::Namer;
use processes::Processes;

/// What the kernel says of the number of handles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileNr {
    /// Handles, at the end of the walk.
    pub allocated: u64,
    /// There were at least so many during the walk.
    pub min: u64,
    /// There were at most so many.
    pub max: u64,
    /// The kernel's number follows every handle; else the range is as wide as it may be wrong.
    pub exact: bool,
    /// The kernel's counter was summed, because file-nr is not exact.
    pub summed: bool,
    /// `fs.file-max`
    pub limit: u64,
}

/// Handles of files that have no name any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// How many.
    pub handles: u64,
    /// What the files take; a file that two handles share counts once.
    pub bytes: u64,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// What the kernel says; `None` where it says nothing.
    pub file_nr: Option<FileNr>,
    /// Handles that were found.
    pub total: u64,
    /// Those that file-nr counts.
    pub accounted: u64,
    /// Those that file-nr counts and to which no descriptor of any process points.
    pub hidden: u64,
    /// Each handle once, under the first of its holders.
    pub by_holder: PerHolder,
    /// The same of those that file-nr does not count.
    pub uncounted: PerHolder,
    /// Each handle once.
    pub by_kind: BTreeMap<Kind, u64>,
    /// Entries in tables of descriptors, each table once.
    pub descriptors: u64,
    /// What lsof would list: entries of each process's table, as `/proc/PID/fd` shows them.
    pub lsof_descriptors: u64,
    /// Handles with descriptors that lsof does not see: the main threads of their processes have ended.
    pub behind_dead_threads: u64,
    /// What is left over; `None` where it means nothing.
    pub residual: Option<Residual>,
    /// Processes that could not be looked into.
    pub unreadable: Vec<Unreadable>,
    /// Why the walk is not whole.
    pub partial: Vec<String>,
    /// The walks that were not done to their end.
    pub unfinished: Vec<&'static str>,
    /// Hidden handles, those that are alike together, most first.
    pub hidden_groups: Vec<HiddenGroup>,
    /// Handles without a descriptor that file-nr does not count, likewise.
    pub uncounted_groups: Vec<HiddenGroup>,
    /// Segments of SysV shared memory.
    pub segments: Vec<Segment>,
    /// Deleted files.
    pub deleted: Deleted,
    /// Processes, those with most handles first.
    pub processes: Vec<Process>,
}

/// Makes the answer. What is known of the machine around the handles only explains what is left over.
pub fn explain(
    snapshot: &HolderSnapshot,
    around: &Around,
    focus: &Focus,
    paths: &mut dyn Paths,
) -> Explanation {
    let processes = Processes::of(snapshot);
    let attribution = Attribution::of(snapshot);
    let file_nr = file_nr(snapshot);
    let held = || (0..).zip(&snapshot.handles).filter(|(place, _)| attribution.is_held(*place));
    let accounted = held().filter(|(_, handle)| handle.is_accounted()).count() as u64;
    let inside = focus.places(snapshot, &attribution, &processes);
    let (keys, mut namer) = (Keys::of_all(snapshot), Namer::new(paths));
    let mut by_kind = BTreeMap::new();
    for (_, handle) in held() {
        *by_kind.entry(handle.kind).or_insert(0) += 1;
    }
    let (by_holder, uncounted) = attribution.totals();
    let groups = groups::hidden(snapshot, &attribution, &processes, &inside, focus.places, &keys, &mut namer);
    let (uncounted_groups, hidden_groups) = groups.into_iter().partition(|group| group.uncounted);
    Explanation {
        file_nr,
        total: held().count() as u64,
        accounted,
        hidden: held().filter(|(place, _)| attribution.is_hidden(*place)).count() as u64,
        by_holder,
        uncounted,
        by_kind,
        descriptors: snapshot.descriptors.len() as u64,
        behind_dead_threads: if snapshot.by_proc { 0 } else { processes.behind_dead_threads(snapshot) },
        lsof_descriptors: processes.lsof_descriptors(snapshot),
        residual: residual::of(snapshot, file_nr, accounted, around),
        unreadable: snapshot.unreadable.clone(),
        partial: partial(snapshot, around),
        unfinished: snapshot.unfinished.clone(),
        hidden_groups,
        uncounted_groups,
        segments: snapshot.segments.clone(),
        deleted: deleted(held().map(|(_, handle)| handle)),
        processes: {
            let mut found = processes.assemble(snapshot, &attribution, &inside, focus, &keys, &mut namer);
            if focus.peers {
                peers::tell(snapshot, &processes, &mut found);
            }
            found
        },
    }
}

fn partial(snapshot: &HolderSnapshot, around: &Around) -> Vec<String> {
    let inside = around.inside_pid_namespace.then(|| {
        "only the processes of this PID namespace can be seen, while file-nr counts the handles of the whole machine: run \
         it outside of the container to account for all of them"
            .to_owned()
    });
    inside.into_iter().chain(snapshot.partial.iter().cloned()).collect()
}

fn file_nr(snapshot: &HolderSnapshot) -> Option<FileNr> {
    let counted = snapshot.counted?;
    let slack = match counted.exactness {
        Exactness::Within(slack) => slack,
        Exactness::FileNr | Exactness::Summed => 0,
    };
    Some(FileNr {
        allocated: counted.last,
        min: counted.min.saturating_sub(slack),
        max: counted.max + slack,
        exact: slack == 0,
        summed: counted.exactness == Exactness::Summed,
        limit: counted.limit,
    })
}

fn deleted<'a>(handles: impl Iterator<Item = &'a Handle>) -> Deleted {
    let mut inodes = std::collections::HashSet::new();
    let mut sum = Deleted::default();
    for handle in handles.filter(|handle| handle.is_deleted()) {
        sum.handles += 1;
        if inodes.insert(handle.inode) {
            sum.bytes = sum.bytes.saturating_add(handle.allocated);
        }
    }
    sum
}
