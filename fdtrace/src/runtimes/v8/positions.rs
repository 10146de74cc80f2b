//! Source position tables: V8's `src/codegen/source-position-table.cc`.

/// The position of the last entry that is not behind an offset of the code.
pub(super) fn position(table: &[u8], offset: i32) -> Option<usize> {
    let mut rest = table;
    let (mut code, mut raw, mut found) = (0_i64, 0_i64, None);
    while !rest.is_empty() {
        let step = number(&mut rest)?;
        // The sign tells statements from expressions.
        code += if step >= 0 { step } else { -(step + 1) };
        raw = raw.checked_add(number(&mut rest)?)?;
        if code > i64::from(offset) {
            break;
        }
        found = Some(script_offset(raw));
    }
    found.flatten()
}

/// A signed number, seven bits in a byte, the lowest first.
fn number(rest: &mut &[u8]) -> Option<i64> {
    let mut bits = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        bits |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
        }
    }
    None
}

/// In the script; one more is stored, behind a bit that tells of code that is no script's.
fn script_offset(raw: i64) -> Option<usize> {
    const BITS: u32 = 30;
    let stored = raw.cast_unsigned() >> 1 & ((1 << BITS) - 1);
    usize::try_from(stored.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of offset, whether it is a statement, position.
    fn table(entries: &[(i64, bool, i64)]) -> Vec<u8> {
        let (mut bytes, mut code, mut raw) = (Vec::new(), 0, 0);
        for (offset, is_statement, position) in entries {
            let (step, next) = (offset - code, (position + 1) << 1);
            put(&mut bytes, if *is_statement { step } else { -step - 1 });
            put(&mut bytes, next - raw);
            (code, raw) = (*offset, next);
        }
        bytes
    }

    fn put(bytes: &mut Vec<u8>, value: i64) {
        let mut bits = (value << 1 ^ value >> 63).cast_unsigned();
        while bits >= 0x80 {
            bytes.push(bits.to_le_bytes()[0] | 0x80);
            bits >>= 7;
        }
        bytes.push(bits.to_le_bytes()[0]);
    }

    #[test]
    fn the_last_entry_that_is_not_behind() {
        let table = table(&[(0, true, 10), (5, false, 300), (9, false, 20)]);
        let found = [0, 4, 5, 8, 9, 1000, -1].map(|offset| position(&table, offset));
        assert_eq!(found, [Some(10), Some(10), Some(300), Some(300), Some(20), Some(20), None]);
    }

    #[test]
    fn a_table_that_is_cut() {
        let whole = table(&[(0, true, 10), (500, false, 1 << 20)]);
        for length in 0..whole.len() {
            position(&whole[..length], 1000);
        }
        assert_eq!([position(&[], 0), position(&[0xff; 20], 0)], [None; 2]);
    }
}
