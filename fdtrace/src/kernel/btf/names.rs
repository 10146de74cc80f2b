//! Types by name.
//!
//! The library looks through all types for each name, which for the hundred names of a start takes longer than all the
//! rest that the tracer does itself. This goes through them once. The layout is the kernel's (Documentation/bpf/btf.rst).

use std::ffi::CStr;

use fdtrace_common::hash;

const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: offset of the name, information, size or type.
const TYPE_BYTES: usize = 12;

/// What is looked up by name, as numbered in the kernel's records (`btf_type_kind`, include/uapi/linux/btf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Structure = 4,
    Typedef = 8,
    Function = 12,
}

impl Kind {
    const fn of(number: u32) -> Option<Self> {
        match number {
            4 => Some(Self::Structure),
            8 => Some(Self::Typedef),
            12 => Some(Self::Function),
            _ => None,
        }
    }
}

/// The hash of each name and the number of its type, sorted. The names themselves stay where they are.
#[derive(Debug)]
pub(super) struct Names(Vec<(u64, u32)>);

impl Names {
    /// Goes through all types; `None` where the bytes are not laid out as this expects.
    pub(super) fn read(btf: &[u8]) -> Option<Self> {
        let (types, strings) = sections(btf)?;
        let mut names = Vec::new();
        let (mut at, mut id) = (0, 0);
        while at < types.len() {
            id += 1;
            let record = types.get(at..at + TYPE_BYTES)?;
            let (name, info) = (number(record, 0)?, number(record, 4)?);
            let (kind, length) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            if let Some(kind) = Kind::of(kind) {
                let name = CStr::from_bytes_until_nul(strings.get(name as usize..)?).ok()?.to_bytes();
                names.push((hash_of(kind, name), id));
            }
            at += TYPE_BYTES + behind(kind, length)?;
        }
        names.sort_unstable();
        Some(Self(names))
    }

    /// The first type of this kind and name. Two names may have one hash: whoever asks compares.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Option<u32> {
        let wanted = hash_of(kind, name.as_bytes());
        let first = self.0.partition_point(|(hash, _)| *hash < wanted);
        self.0.get(first).filter(|(hash, _)| *hash == wanted).map(|(_, id)| *id)
    }
}

fn hash_of(kind: Kind, name: &[u8]) -> u64 {
    let words = name.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    });
    hash::finish(words.fold(hash::mix(hash::SEED, kind as u64), hash::mix))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn this_kernel() -> Vec<u8> {
        std::fs::read("/sys/kernel/btf/vmlinux").expect("the build machine's kernel has BTF")
    }

    #[test]
    fn finds_what_this_kernel_has() {
        let names = Names::read(&this_kernel()).expect("its layout");
        let known = [
            (Kind::Structure, "file"),
            (Kind::Structure, "inode"),
            (Kind::Function, "bpf_iter_task_file"),
            (Kind::Typedef, "btf_trace_sched_process_exit"),
        ];
        for (kind, name) in known {
            assert!(names.find(kind, name).is_some(), "{name}");
        }
        assert_eq!(names.find(Kind::Structure, "no_such_name"), None);
        assert_eq!(names.find(Kind::Structure, "bpf_iter_task_file"), None, "a function");
    }

    #[test]
    fn what_is_cut_or_strange_is_not_understood() {
        assert!(Names::read(&[]).is_none());
        assert!(Names::read(&[0x9f, 0xeb, 1, 0]).is_none());
        let btf = this_kernel();
        assert!(Names::read(&btf[..btf.len() / 2]).is_none());
    }
}
