//! Where each version of Ruby has what, as data.

use serde::{Deserialize, Serialize};

use crate::runtimes::Version;

/// What differs between versions: offsets and sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// The size of a frame (`rb_control_frame_t`).
    pub(super) frame_bytes: u32,
    /// In what an instruction sequence has (`rb_iseq_constant_body`): the line table, `insns_info`.
    pub(super) lines: u32,
    /// An entry of it (`iseq_insn_info_entry`), which has its line first.
    pub(super) entry_bytes: u32,
    /// In a string: its characters, when they are not elsewhere.
    pub(super) characters: u32,
    /// How a thread comes to its context.
    pub(super) threads: Threads,
}

/// How a thread comes to its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Threads {
    /// By the variable of the one that runs, or by the list of all.
    Listed,
    /// By a thread-local variable.
    Own,
}

/// In a frame: the environment. The next instruction comes first, the instruction sequence is the third word.
pub(super) const ENVIRONMENT: u32 = 32;
/// In what an instruction sequence has: how its file is called, how its backtraces call it, the first line.
pub(super) const FILE: u32 = 64;
pub(super) const FUNCTION: u32 = 80;
pub(super) const FIRST_LINE: u32 = 88;
/// In the line table: how many entries there are, and the index by position.
pub(super) const COUNT: u32 = 16;
pub(super) const POSITIONS: u32 = 24;

/// To 2.7. In a context: its thread. In a thread: what `pthread_self` returns in it, and its context; the next thread comes
/// first. In the machine (`rb_vm_t`): the first thread, `living_threads`.
pub(super) const THREAD: u32 = 56;
pub(super) const PTHREAD: u32 = 72;
pub(super) const CONTEXT: u32 = 32;
pub(super) const LIVING: u32 = 312;

/// Where a version has what.
pub(super) const fn table(version: Version) -> Option<Layout> {
    Some(match (version.major, version.minor) {
        (2, 6 | 7) => Layout { threads: Threads::Listed, ..THREE_0 },
        (3, 0) => THREE_0,
        (3, 1) => Layout { frame_bytes: 64, entry_bytes: 12, ..THREE_0 },
        (3, 2) => Layout { frame_bytes: 64, ..THREE_3 },
        (3, 3 | 4) => THREE_3,
        _ => return None,
    })
}

const THREE_0: Layout =
    Layout { frame_bytes: 56, lines: 120, entry_bytes: 8, characters: 16, threads: Threads::Own };
const THREE_3: Layout =
    Layout { frame_bytes: 56, lines: 112, entry_bytes: 12, characters: 24, threads: Threads::Own };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_of_2_6_to_3_4() {
        let known = (0..=9).flat_map(|major| (0..=9).map(move |minor| (major, minor)));
        let known: Vec<_> = known
            .filter(|(major, minor)| table(Version { major: *major, minor: *minor, micro: 0 }).is_some())
            .collect();
        assert_eq!(known, [(2, 6), (2, 7), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)]);
    }
}
