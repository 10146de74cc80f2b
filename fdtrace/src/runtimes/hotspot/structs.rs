//! What a HotSpot says of its own structures, for debuggers: tables of fields, of types and of constants (`vmStructs.cpp`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::runtimes::{Image, memory::Memory};

/// Where the tables are.
pub(super) const FIELDS: &str = "gHotSpotVMStructs";
const TYPES: &str = "gHotSpotVMTypes";
const CONSTANTS: &str = "gHotSpotVMIntConstants";
pub(super) const SYMBOLS: [&str; 3] = [FIELDS, TYPES, CONSTANTS];

/// An entry has the type's name and the field's, a text for the field's type, whether it is static, its offset, and its address if
/// it is static.
const FIELD_BYTES: u64 = 48;
const FIELD_NAME: u64 = 8;
const IS_STATIC: u64 = 24;
const OFFSET: u64 = 32;
const ADDRESS: u64 = 40;
/// The type's name, that of what it is made of, three flags, its size.
const TYPE_BYTES: u64 = 40;
const SIZE: u64 = 32;
/// The name and the number.
const CONSTANT_BYTES: u64 = 16;
const NUMBER: u64 = 8;

/// The most entries of one table: 25 has some 400.
const MAX_ENTRIES: u64 = 4096;
/// The longest name that is wanted, with the zero behind it.
const NAME_BYTES: u64 = 64;

/// What is known, by `Type.field`, `Type`, and `CONSTANT`. Names that nobody asks for are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Structs(BTreeMap<String, u64>);

impl Structs {
    /// The tables of an image, as far as they have what `is_wanted`; `None` where there are none.
    pub(super) fn read(
        image: &Image,
        memory: &(impl Memory + ?Sized),
        is_wanted: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let tables = [fields, types, constants];
        let mut known = BTreeMap::new();
        for (symbol, entry) in SYMBOLS.into_iter().zip(tables) {
            let mut at = memory.pointer(image.symbol(symbol)?, 0)?;
            for _ in 0..MAX_ENTRIES {
                let Some((name, value, bytes)) = entry(memory, at) else { break };
                if is_wanted(&name) {
                    known.entry(name).or_insert(value);
                }
                at = at.checked_add(bytes)?;
            }
        }
        Some(Self(known))
    }

    /// What stands under a name.
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }
}

/// A name, what stands under it, and how long the entry is; `None` at the table's end.
type Entry = Option<(String, u64, u64)>;

fn fields(memory: &(impl Memory + ?Sized), at: u64) -> Entry {
    let of_type = text(memory, memory.pointer(at, 0)?)?;
    let field = text(memory, memory.pointer(at, FIELD_NAME)?)?;
    let value = if memory.half(at, IS_STATIC)? == 0 { OFFSET } else { ADDRESS };
    Some((format!("{of_type}.{field}"), memory.word(at, value)?, FIELD_BYTES))
}

fn types(memory: &(impl Memory + ?Sized), at: u64) -> Entry {
    Some((text(memory, memory.pointer(at, 0)?)?, memory.word(at, SIZE)?, TYPE_BYTES))
}

fn constants(memory: &(impl Memory + ?Sized), at: u64) -> Entry {
    let number = memory.half(at, NUMBER)?.cast_signed();
    Some((text(memory, memory.pointer(at, 0)?)?, i64::from(number).cast_unsigned(), CONSTANT_BYTES))
}

/// A text up to its zero, or its beginning.
fn text(memory: &(impl Memory + ?Sized), from: u64) -> Option<String> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < NAME_BYTES {
        let Some(word) = memory.array::<8>(from, bytes.len() as u64) else {
            // It may be the last of its segment.
            bytes.extend(memory.array::<1>(from, bytes.len() as u64)?);
            if bytes.ends_with(&[0]) {
                break;
            }
            continue;
        };
        bytes.extend(word);
        if word.contains(&0) {
            break;
        }
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::runtimes::memory::tests::Made;

    const AT: u64 = 0x1000;

    /// Memory of words, and texts of eight bytes each.
    fn made(words: &[u64]) -> Made {
        Made(AT, words.iter().flat_map(|word| word.to_ne_bytes()).collect())
    }

    fn text(text: &str) -> u64 {
        let mut bytes = [0; 8];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        u64::from_ne_bytes(bytes)
    }

    #[test]
    fn tables_say_what_is_where() {
        let place = |index: u64| AT + index * 8;
        let (name, field, other) = (place(3), place(4), place(5));
        let memory = made(&[
            place(6),
            place(24),
            place(34),
            text("Blob"),
            text("_size"),
            text("_heaps"),
            // A field, a static one, and the end.
            name,
            field,
            0,
            0,
            28,
            0,
            name,
            other,
            0,
            1,
            0,
            0x4000,
            0,
            0,
            0,
            0,
            0,
            0,
            // A type.
            name,
            0,
            0,
            0,
            104,
            0,
            0,
            0,
            0,
            0,
            // A constant, which may be negative.
            field,
            u64::from(u32::MAX),
            0,
            0,
        ]);
        let symbols: HashMap<_, _> = SYMBOLS.into_iter().zip([place(0), place(1), place(2)]).collect();
        let image = Image { path: String::new(), symbols, said: None };
        let all = Structs::read(&image, &memory, |_| true).expect("tables");
        let found = ["Blob._size", "Blob._heaps", "Blob", "_size", "x"].map(|name| all.get(name));
        assert_eq!(found, [Some(28), Some(0x4000), Some(104), Some(u64::MAX), None]);
        let none = Structs::read(&image, &memory, |_| false).expect("tables");
        assert_eq!(none.get("Blob"), None);
    }
}
