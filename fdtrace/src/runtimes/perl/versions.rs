//! Where each version of Perl has what, as data: of builds for 64 bits, without `-DDEBUGGING`.

use serde::{Deserialize, Serialize};

/// A version, as a program says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(super) revision: u8,
    pub(super) version: u8,
    pub(super) subversion: u8,
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}.{}", self.revision, self.version, self.subversion)
    }
}

/// What differs between versions: offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// In an interpreter, with threads: `Icurcop`, `Icurstackinfo`.
    pub(super) statement: u32,
    pub(super) stack: u32,
    /// In a `PERL_SI`: `si_type`.
    pub(super) stack_kind: u32,
    /// A `PERL_CONTEXT`, and in it `cv`; before that is what names a file that is evaluated.
    pub(super) context_bytes: u32,
    pub(super) code: u32,
    /// `OP_NEXTSTATE`
    pub(super) next_state: u32,
    /// In the body of a hash: `xhv_name_u`; before 5.36 that lies behind its buckets.
    pub(super) package_name: Option<u32>,
}

/// In an interpreter: `Iop`.
pub(super) const OPERATION: u32 = 8;
/// In a `PERL_SI`: `si_cxstack`, `si_prev`, `si_cxix`.
pub(super) const CONTEXTS: u64 = 8;
pub(super) const PREVIOUS: u64 = 16;
pub(super) const LAST: u64 = 32;
/// In a context: `blk_oldcop`, `retop`.
pub(super) const CALLER: u64 = 16;
pub(super) const GOES_ON: u64 = 48;
/// In an operation: `op_next`, `op_sibparent`, `op_targ`, what its bits begin with, `op_first`; in a statement its line, its file.
pub(super) const NEXT: u64 = 0;
pub(super) const SIBLING: u64 = 8;
pub(super) const WAS: u64 = 24;
pub(super) const BITS: u64 = 32;
pub(super) const CHILD: u64 = 40;
pub(super) const FILE: u64 = 48;

/// `None` for versions that nobody has looked at. Those with an odd number are no releases.
pub(super) const fn table(version: Version) -> Option<Layout> {
    if version.revision != 5 {
        return None;
    }
    Some(match version.version {
        30 => Layout { stack_kind: 40, context_bytes: 96, code: 64, ..LAYOUT_32 },
        32 => LAYOUT_32,
        34 => LAYOUT_34,
        36 => LAYOUT_36,
        38 | 40 => Layout { next_state: 198, ..LAYOUT_36 },
        42 => Layout { next_state: 202, ..LAYOUT_36 },
        _ => return None,
    })
}

const LAYOUT_32: Layout = Layout { statement: 224, stack: 240, ..LAYOUT_34 };
const LAYOUT_34: Layout = Layout { package_name: None, ..LAYOUT_36 };
const LAYOUT_36: Layout = Layout {
    statement: 208,
    stack: 224,
    stack_kind: 44,
    context_bytes: 104,
    code: 72,
    next_state: 195,
    package_name: Some(32),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_of_5_30_to_5_42() {
        let known = |revision| {
            let versions = (0..=60).map(move |version| Version { revision, version, subversion: 1 });
            versions.filter(|version| table(*version).is_some()).map(|version| version.version)
        };
        assert_eq!(known(5).collect::<Vec<_>>(), crate::runtimes::perl::VERSIONS);
        assert_eq!([known(6).count(), known(7).count()], [0, 0]);
    }

    /// The kernel side reads the state of a thread in one piece, and its contexts by nine.
    #[test]
    fn what_is_read_has_room() {
        for layout in [LAYOUT_32, LAYOUT_36] {
            assert!(layout.stack + 8 <= 256 && layout.context_bytes * 9 <= 1024);
        }
    }
}
