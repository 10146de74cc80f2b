//! Where each version of PHP has what, as data: of builds without threads, which have their globals in a variable.

use serde::{Deserialize, Serialize};

use crate::runtimes::Version;

/// What differs between versions: offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// In the globals (`executor_globals`): `current_execute_data`.
    pub(super) frame: u32,
    /// `opline_before_exception`, where it is known.
    pub(super) thrown: Option<u32>,
    /// In a function (`zend_op_array`): `opcodes`, and `last`, which is how many there are.
    pub(super) instructions: u32,
    pub(super) count: u32,
    /// `filename`
    pub(super) file: u32,
    /// `line_start`
    pub(super) first_line: u32,
    /// In a generator: `execute_data`, and `node.parent`; where they are known.
    pub(super) generator: Option<(u32, u32)>,
}

/// In a frame (`zend_execute_data`), of which so many bytes are read: the instruction, the function, `This.u1.type_info`, the
/// caller's frame.
pub(super) const FRAME_BYTES: u32 = 56;
pub(super) const INSTRUCTION: u32 = 0;
pub(super) const FUNCTION: u32 = 24;
pub(super) const FLAGS: u32 = 40;
pub(super) const PREVIOUS: u32 = 48;
/// In a function: its name, and its class.
pub(super) const NAME: u32 = 8;
pub(super) const CLASS: u32 = 16;

/// `None` for versions that nobody has looked at.
pub(super) const fn table(version: Version) -> Option<Layout> {
    Some(match (version.major, version.minor) {
        (7, 3) => Layout { thrown: None, file: 128, first_line: 136, generator: None, ..LAYOUT_7 },
        (7, 4) => LAYOUT_7,
        (8, 0) => Layout { generator: None, ..LAYOUT_8 },
        (8, 1) => LAYOUT_8,
        (8, 2) => Layout { instructions: 88, count: 80, file: 152, first_line: 160, ..LAYOUT_8 },
        (8, 3) => Layout { instructions: 80, count: 76, ..LAYOUT_8 },
        (8, 4) => LAYOUT_8_4,
        (8, 5) => Layout { frame: 512, thrown: Some(976), ..LAYOUT_8_4 },
        _ => return None,
    })
}

const LAYOUT_7: Layout = Layout {
    frame: 488,
    thrown: Some(880),
    instructions: 64,
    count: 60,
    file: 136,
    first_line: 144,
    generator: Some((64, 160)),
};
const LAYOUT_8: Layout = Layout {
    frame: 488,
    thrown: Some(880),
    instructions: 72,
    count: 68,
    file: 144,
    first_line: 152,
    generator: GENERATOR,
};
const LAYOUT_8_4: Layout = Layout {
    frame: 488,
    thrown: Some(952),
    instructions: 104,
    count: 96,
    file: 168,
    first_line: 176,
    generator: GENERATOR,
};
const GENERATOR: Option<(u32, u32)> = Some((56, 152));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_of_7_3_to_8_5() {
        let known = (0..=9).flat_map(|major| (0..=9).map(move |minor| (major, minor)));
        let known: Vec<_> = known
            .filter(|(major, minor)| table(Version { major: *major, minor: *minor, micro: 0 }).is_some())
            .collect();
        assert_eq!(known, [(7, 3), (7, 4), (8, 0), (8, 1), (8, 2), (8, 3), (8, 4), (8, 5)]);
    }
}
