//! Atomic exchanges in the BPF object. Kernels before 5.12 refuse a program that has one, even where it is never reached.

use object::{Object as _, ObjectSection as _, SectionKind};

/// Bytes of an instruction; a constant of 64 bits takes two.
const INSTRUCTION: usize = 8;

/// `BPF_LD | BPF_IMM | BPF_DW`, which is followed by the upper half of its constant (include/uapi/linux/bpf.h).
const WIDE_CONSTANT: u8 = 0x18;

/// `BPF_STX | BPF_ATOMIC | BPF_DW`; before 5.12 `BPF_XADD`, with nothing but 0 in its last four bytes.
const ATOMIC: u8 = 0xdb;

/// The object with additions in the place of exchanges, for a kernel that will not come to them.
pub(super) fn without(object: &[u8]) -> Vec<u8> {
    let mut patched = object.to_vec();
    for start in places(object) {
        patched[start + INSTRUCTION / 2..start + INSTRUCTION].fill(0);
    }
    patched
}

/// Where exchanges are; none in what is no object, which the loader will refuse.
fn places(object: &[u8]) -> Vec<usize> {
    let Ok(file) = object::File::parse(object) else { return Vec::new() };
    let code = file.sections().filter(|section| section.kind() == SectionKind::Text);
    code.filter_map(|section| {
        let (start, length) = section.file_range()?;
        let start = usize::try_from(start).ok()?;
        let bytes = object.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
        Some(in_code(bytes).into_iter().map(move |offset| start + offset))
    })
    .flatten()
    .collect()
}

fn in_code(code: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(&[operation, _, _, _, ref last @ ..]) = code.get(offset..offset + INSTRUCTION) {
        if operation == ATOMIC && last != [0; INSTRUCTION / 2] {
            found.push(offset);
        }
        offset += if operation == WIDE_CONSTANT { 2 * INSTRUCTION } else { INSTRUCTION };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: [u8; 8] = [ATOMIC, 0x1a, 0xf8, 0xff, 0xe1, 0, 0, 0];
    const ADDITION: [u8; 8] = [ATOMIC, 0x1a, 0xf8, 0xff, 0, 0, 0, 0];

    #[test]
    fn exchanges_are_found_and_what_looks_like_one_is_not() {
        let wide = [[WIDE_CONSTANT, 1, 0, 0, 0, 0, 0, 0], EXCHANGE];
        let code = [wide[0], wide[1], ADDITION, EXCHANGE].concat();
        assert_eq!(in_code(&code), [24]);
        assert_eq!(in_code(&code[..30]), [0; 0], "half an instruction");
    }

    #[test]
    fn the_committed_object_has_exchanges_and_then_none() {
        let object = crate::kernel::tracer::OBJECT;
        assert!(!places(object).is_empty());
        let patched = without(object);
        assert_eq!((patched.len(), places(&patched)), (object.len(), Vec::new()));
    }
}
