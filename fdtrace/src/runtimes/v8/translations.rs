//! How a build writes down what optimised code was made of (V8's `src/deoptimizer/translation-opcode.h` and
//! `src/codegen/safepoint-table.h`), by its version: builds say it to nobody.

use fdtrace_common::v8::operation;
use serde::{Deserialize, Serialize};

use super::said_of;

/// In each line the version; the kind of code that Maglev makes or would; how tables of safepoints are written; how many bits an
/// operation has below it; and what each operation is, a digit of 16 for each. Those of Node.js 14 to 26.
const KNOWN: &str = include_str!("translations.txt");

/// Operations of an array of the kernel side.
const DIGITS: usize = 8;

/// How translations of optimised code are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Translations {
    pub(super) maglev: u32,
    pub(super) safepoints: u32,
    pub(super) operation_shift: u32,
    pub(super) operations: u32,
    pub(super) operands: [u32; 6],
}

impl Translations {
    /// Of a version as it says itself: `13.6.233`; `None` where nobody knows.
    pub(super) fn known(version: &str) -> Option<Self> {
        let mut words = said_of(version, KNOWN)?;
        let mut number = || words.next()?.parse().ok();
        let (maglev, safepoints, operation_shift) = (number()?, number()?, number()?);
        let digits: Vec<u32> =
            words.next()?.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
        let mut operands = [0; 6];
        for (eight, digits) in operands.iter_mut().zip(digits.chunks(DIGITS)) {
            *eight = digits.iter().rev().fold(0, |eight, digit| eight << 4 | digit);
        }
        let operations = u32::try_from(digits.len()).ok()?;
        Some(Self { maglev, safepoints, operation_shift, operations, operands })
    }

    /// The index of the constants: before them are the translations and the number of inlined functions, and from when on frames
    /// have one operand more, what those refer to by that.
    pub(super) fn literals(&self) -> u32 {
        const MOST_OPERANDS: u32 = operation::FUNCTION | 6;
        if self.operands[0] & 15 == MOST_OPERANDS { 3 } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_whole() {
        for version in
            ["8.4.371", "9.4.146", "10.2.154", "11.3.244", "12.4.254", "13.6.233", "14.1.146", "14.6.202"]
        {
            let known = Translations::known(version).expect("a version that is known");
            let of = |number: u32| known.operands[number as usize / DIGITS] >> (number % 8 * 4) & 15;
            let all: Vec<u32> = (0..known.operations).map(of).collect();
            assert!(all.contains(&operation::BEGIN), "{version}");
            let functions =
                all.iter().filter(|of| **of & operation::FUNCTION != 0 && **of != operation::BEGIN);
            assert!((1..=2).contains(&functions.count()), "{version}");
            assert_eq!(all.last() == Some(&operation::MATCH), known.operation_shift == 0, "{version}");
            assert_eq!(known.literals(), if known.safepoints == 2 { 3 } else { 2 }, "{version}");
        }
        assert_eq!(["14.60.1", "", "14.6"].map(Translations::known), [None; 3]);
    }
}
