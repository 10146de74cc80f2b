//! The files that a program's loader will map.

use object::{NativeEndian, elf, pod::slice_from_all_bytes, read::elf::Dyn as _};

use super::{bytes::Bytes, object::Object, request::Needed};

/// The entries of a dynamic section, of which some programs have a hundred.
const MAX_ENTRIES: usize = 4096;
/// The longest name of a file or a list of folders.
const LONGEST: usize = 4096;
/// All names together.
const MAX_BYTES: usize = 1 << 18;

/// Programs of 64 bits alone: there are no tables for others.
pub(super) fn of(object: &Object) -> Option<Needed> {
    let loader = object.segment(elf::PT_INTERP).map(|path| string(&path, 0));
    let mut needed = Needed { loader: loader.filter(|path| !path.is_empty()), ..Needed::default() };
    let Some(dynamic) = object.segment(elf::PT_DYNAMIC) else { return Some(needed) };
    let size = size_of::<elf::Dyn64<NativeEndian>>();
    let most = dynamic.len().min(MAX_ENTRIES * size);
    let entries = slice_from_all_bytes::<elf::Dyn64<NativeEndian>>(&dynamic[..most - most % size]).ok()?;
    let entries = entries.iter().map(|entry| (entry.d_tag(NativeEndian), entry.d_val(NativeEndian)));
    let entries = entries.take_while(|(tag, _)| *tag != elf::DT_NULL);
    let value = |wanted: i64| entries.clone().find(|(tag, _)| *tag == wanted).map(|(_, value)| value);
    let names = names(object, value(elf::DT_STRTAB)?, value(elf::DT_STRSZ)?)?;
    let mut left = MAX_BYTES;
    for (tag, at) in entries.clone() {
        let is_library = tag == elf::DT_NEEDED;
        if !is_library && tag != elf::DT_RUNPATH && tag != elf::DT_RPATH {
            continue;
        }
        let name = string(&names, at);
        left = left.checked_sub(name.len())?;
        if is_library {
            needed.libraries.push(name);
        } else {
            needed.folders.extend(name.split(|byte| *byte == b':').map(<[u8]>::to_vec));
        }
    }
    Some(needed)
}

fn names(object: &Object, address: u64, size: u64) -> Option<Bytes> {
    object.segments.iter().filter(|segment| segment.kind == elf::PT_LOAD).find_map(|segment| {
        let offset = address.checked_sub(segment.address)?;
        let inside = offset.checked_add(size)? <= segment.file.end - segment.file.start;
        inside.then(|| object.bytes.part(segment.file.start.checked_add(offset)?, size)).flatten()
    })
}

fn string(bytes: &[u8], at: u64) -> Vec<u8> {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    let rest = &rest[..rest.len().min(LONGEST)];
    rest.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}
