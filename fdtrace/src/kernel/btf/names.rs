//! Types by name, many at once.
//!
//! The library looks through all types for each name, which for three dozen names takes longer than everything else that
//! a census does. This goes through them once. The layout is the kernel's (Documentation/bpf/btf.rst).

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: offset of the name, information, size or type.
const TYPE_BYTES: usize = 12;

/// The first structure, or the first function, of each of some names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) structures: HashMap<String, u32>,
    pub(super) functions: HashMap<String, u32>,
}

/// Looks for names; `None` where the bytes are not laid out as this expects.
pub(super) fn find(btf: &[u8], wanted: &[&str]) -> Option<Names> {
    let (types, strings) = sections(btf)?;
    let mut found = Names::default();
    let (mut at, mut id) = (0, 0);
    while at < types.len() {
        id += 1;
        let record = types.get(at..at + TYPE_BYTES)?;
        let (name, info) = (number(record, 0)?, number(record, 4)?);
        let (kind, length) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let list = match kind {
            4 => Some(&mut found.structures),
            12 => Some(&mut found.functions),
            _ => None,
        };
        if let Some(list) = list
            && let Some(name) = is_one_of(strings.get(name as usize..)?, wanted)
        {
            list.entry(name.to_owned()).or_insert(id);
        }
        at += TYPE_BYTES + behind(kind, length)?;
    }
    Some(found)
}

/// The types and the strings.
fn sections(btf: &[u8]) -> Option<(&[u8], &[u8])> {
    let magic = u16::from_ne_bytes(btf.get(..2)?.try_into().ok()?);
    if magic != MAGIC {
        return None;
    }
    let section = |start: usize, length: usize| {
        let start = number(btf, 4)? as usize + number(btf, start)? as usize;
        btf.get(start..start + number(btf, length)? as usize)
    };
    Some((section(8, 12)?, section(16, 20)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes behind a type's record (`btf_type_kind`, include/uapi/linux/btf.h); `None` for a kind that came later.
const fn behind(kind: u32, length: usize) -> Option<usize> {
    Some(match kind {
        // Integers, variables and tags of declarations have a word.
        1 | 14 | 17 => 4,
        2 | 7..=12 | 16 | 18 => 0,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * length,
        6 | 13 => 8 * length,
        _ => return None,
    })
}

/// Which of the names the text begins with, its end included.
fn is_one_of<'a>(text: &[u8], wanted: &[&'a str]) -> Option<&'a str> {
    let first = text.first()?;
    wanted
        .iter()
        .find(|name| {
            name.as_bytes().first() == Some(first)
                && text.starts_with(name.as_bytes())
                && text.get(name.len()) == Some(&0)
        })
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_this_kernel_has() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("the build machine's kernel has BTF");
        let found = find(&btf, &["file", "inode", "bpf_iter_task_file", "no_such_name"]).expect("its layout");
        assert!(found.structures.contains_key("file") && found.structures.contains_key("inode"));
        assert!(found.functions.contains_key("bpf_iter_task_file"));
        assert_eq!(found.structures.len() + found.functions.len(), 3);
    }

    #[test]
    fn what_is_cut_or_strange_is_not_understood() {
        assert_eq!(find(&[], &["file"]), None);
        assert_eq!(find(&[0x9f, 0xeb, 1, 0], &["file"]), None);
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("the build machine's kernel has BTF");
        assert_eq!(find(&btf[..btf.len() / 2], &["file"]), None);
    }
}
