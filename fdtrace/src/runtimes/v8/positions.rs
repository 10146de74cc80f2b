//! Source position tables: V8's `src/codegen/source-position-table.cc`.

/// Where a function is entered, before its first bytecode.
const ENTRY: i64 = -1;

/// The position of the last entry that is not behind an offset of the code. An offset has so many bits below it, which tell what
/// a debugger does there.
pub(super) fn position(table: &[u8], offset: i32, flags: u32) -> Option<usize> {
    let mut rest = table;
    let (mut code, mut raw, mut found) = (ENTRY, 0_i64, None);
    while !rest.is_empty() {
        code = code.checked_add(i64::try_from(bits(&mut rest)? >> flags).ok()?)?;
        raw = raw.checked_add(signed(bits(&mut rest)?))?;
        if code > i64::from(offset) {
            break;
        }
        found = Some(script_offset(raw));
    }
    found.flatten()
}

const fn signed(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()
}

/// A number, seven bits in a byte, the lowest first.
fn bits(rest: &mut &[u8]) -> Option<u64> {
    let mut bits = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        bits |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(bits);
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

    /// Entries of offset and position; all bits below an offset are set.
    fn table(entries: &[(i64, i64)], flags: u32) -> Vec<u8> {
        let (mut bytes, mut code, mut raw) = (Vec::new(), ENTRY, 0);
        for (offset, position) in entries {
            let (step, next) = ((offset - code).cast_unsigned(), (position + 1) << 1);
            put(&mut bytes, step << flags | ((1 << flags) - 1));
            put(&mut bytes, ((next - raw) << 1 ^ (next - raw) >> 63).cast_unsigned());
            (code, raw) = (*offset, next);
        }
        bytes
    }

    fn put(bytes: &mut Vec<u8>, mut bits: u64) {
        while bits >= 0x80 {
            bytes.push(bits.to_le_bytes()[0] | 0x80);
            bits >>= 7;
        }
        bytes.push(bits.to_le_bytes()[0]);
    }

    #[test]
    fn the_last_entry_that_is_not_behind() {
        for flags in [1, 2] {
            let table = table(&[(-1, 7), (0, 10), (5, 300), (9, 20)], flags);
            let found = [0, 4, 5, 8, 9, 1000, -1, -2].map(|offset| position(&table, offset, flags));
            let expected = [10, 10, 300, 300, 20, 20, 7].map(Some).into_iter().chain([None]);
            assert!(found.into_iter().eq(expected), "{found:?}");
        }
    }

    /// Of a function of two lines, by Node 22 and 26.
    #[test]
    fn tables_that_were_made() {
        let of_22 = [1, 208, 7, 2, 80, 4, 20, 5, 0, 10, 64, 7, 0, 8, 39, 11, 95, 10, 188, 1];
        let of_26 = [2, 208, 7, 7, 80, 11, 20, 10, 0, 27, 64, 14, 0, 19, 39, 22, 95, 23, 188, 1];
        assert_eq!(position(&of_22, 12, 1), position(&of_26, 13, 2));
    }

    #[test]
    fn a_table_that_is_cut() {
        let whole = table(&[(0, 10), (500, 1 << 20)], 1);
        for length in 0..whole.len() {
            position(&whole[..length], 1000, 1);
        }
        assert_eq!([position(&[], 0, 1), position(&[0xff; 20], 0, 1)], [None; 2]);
    }
}
