//! What tables of a file have in them once it is loaded: the loader writes addresses there, and the file's own code numbers that
//! its compiler did not take for constants.

use object::{NativeEndian, elf, pod::slice_from_all_bytes};

use super::object::Object;

/// `mov` of four bytes, extended to eight, to where a distance from the next instruction leads (Intel SDM, `REX.W C7 /0`).
const MOVE: [u8; 3] = [0x48, 0xc7, 0x05];
const MOVE_BYTES: u64 = 11;

/// Where a table's entries have such numbers: one in so many bytes.
const ENTRY_BYTES: u64 = 48;
const NUMBER: u64 = 32;
/// No table is longer.
const MAX_TABLE: u64 = ENTRY_BYTES * 4096;

/// The most relocations, and as many numbers: `libjvm.so` has some hundred thousand.
const MOST: usize = 1 << 20;

/// Words by address, sorted.
#[derive(Default)]
pub(super) struct Filled(Vec<(u64, u64)>);

impl Filled {
    /// What the loader writes, with addresses as the file has them.
    pub(super) fn by_loader(object: &Object) -> Self {
        let contents = object.contents(".rela.dyn");
        let whole = contents.len() - contents.len() % size_of::<elf::Rela64<NativeEndian>>();
        let relocations = slice_from_all_bytes::<elf::Rela64<NativeEndian>>(&contents[..whole]);
        let words = relocations.unwrap_or_default().iter().take(MOST);
        let words = words.filter(|word| word.r_type(NativeEndian, false) == elf::R_X86_64_RELATIVE);
        Self::sorted(
            words
                .map(|word| {
                    (word.r_offset.get(NativeEndian), word.r_addend.get(NativeEndian).cast_unsigned())
                })
                .collect(),
        )
    }

    /// With the numbers of a table that the file's code writes there.
    pub(super) fn with_numbers(self, object: &Object, table: u64) -> Self {
        let (code, start) = (object.contents(".text"), object.address_of(".text"));
        let moves = memchr::memmem::find_iter(&code, &MOVE).filter_map(|at| {
            let bytes = code.get(at + MOVE.len()..)?;
            let number =
                |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(i32::from_ne_bytes).map(i64::from);
            let (distance, value) = (number(0)?, number(4)?);
            let next = start.wrapping_add(at as u64).wrapping_add(MOVE_BYTES);
            Some((next.wrapping_add(distance.cast_unsigned()), value.cast_unsigned()))
        });
        let is_number = |place: u64| {
            let within = place.wrapping_sub(table);
            within < MAX_TABLE && within % ENTRY_BYTES == NUMBER
        };
        let numbers = moves.filter(|(place, _)| is_number(*place)).take(MOST);
        let mut words = self.0;
        words.extend(numbers);
        Self::sorted(words)
    }

    /// The word at an address.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let at = self.0.binary_search_by_key(&address, |(place, _)| *place).ok()?;
        self.0.get(at).map(|(_, word)| *word)
    }

    fn sorted(mut words: Vec<(u64, u64)>) -> Self {
        words.sort_unstable_by_key(|(place, _)| *place);
        words.dedup_by_key(|(place, _)| *place);
        Self(words)
    }
}
