//! Code that is in no file: the vDSO, and what a process made at run time.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::perf_map;
use crate::{
    model::UserFrame,
    process,
    stacks::reader::{Reader, names_in_vdso},
};

const VDSO: &str = "[vdso]";

/// What lies below is of a process with addresses of 32 bits, which has a vDSO of its own.
const FOUR_GIGABYTES: u64 = 1 << 32;

pub(super) fn frames(pid: u32, addresses: &[u64], reader: &mut Reader) -> Vec<Arc<UserFrame>> {
    let in_vdso = in_vdso(pid, addresses);
    let other: Vec<u64> = addresses.iter().copied().filter(|at| !in_vdso.contains_key(at)).collect();
    let made = if other.is_empty() { HashMap::new() } else { made(pid, &other, reader) };
    let frame = |address: &u64| match in_vdso.get(address) {
        Some(frame) => frame.clone(),
        None => {
            let symbol = made.get(address).cloned();
            UserFrame { perf_map: symbol.is_some(), symbol, ..at(*address) }
        }
    };
    addresses.iter().map(frame).map(Arc::new).collect()
}

/// The kernel has one vDSO for all processes of 64 bits: ours stands for that of another one.
fn in_vdso(pid: u32, addresses: &[u64]) -> HashMap<u64, UserFrame> {
    let (Some(theirs), Some(ours)) = (process::vdso(pid), process::vdso(std::process::id())) else {
        return HashMap::new();
    };
    if !is_ours(&theirs, &ours) {
        return HashMap::new();
    }
    let inside: Vec<u64> = addresses.iter().copied().filter(|address| theirs.contains(address)).collect();
    let offsets: Vec<u64> = inside.iter().map(|address| address - theirs.start).collect();
    let frames = offsets.iter().zip(names_in_vdso(&offsets)).map(|(offset, name)| frame(name, *offset));
    inside.iter().copied().zip(frames).collect()
}

/// The frame of an offset in the vDSO.
pub(super) fn vdso_frame(offset: u64) -> UserFrame {
    frame(names_in_vdso(&[offset]).pop().flatten(), offset)
}

fn is_ours(theirs: &Range<u64>, ours: &Range<u64>) -> bool {
    theirs.end - theirs.start == ours.end - ours.start && theirs.start >= FOUR_GIGABYTES
}

/// Names of code that the process made at run time.
fn made(pid: u32, addresses: &[u64], reader: &mut Reader) -> HashMap<u64, String> {
    let Some((path, map)) = perf_map::open(pid) else { return HashMap::new() };
    match reader.perf_map(&map, addresses) {
        Ok(names) => {
            addresses.iter().zip(names).filter_map(|(address, name)| Some((*address, name?))).collect()
        }
        Err(why) => {
            reader.remark(&path, why, "its functions have no names");
            HashMap::new()
        }
    }
}

/// The vDSO is somewhere else in each process, what is in it is not.
fn frame(symbol: Option<String>, offset: u64) -> UserFrame {
    UserFrame { symbol, module: Some(VDSO.to_owned()), ..at(offset) }
}

pub(super) fn at(address: u64) -> UserFrame {
    UserFrame { offset: address, ..UserFrame::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vdso_of_a_small_process_is_another_one() {
        let ours = 0x7fff_0000_0000..0x7fff_0000_2000;
        assert!(is_ours(&(0x7ffc_1234_5000..0x7ffc_1234_7000), &ours));
        assert!(!is_ours(&(0xf7f0_0000..0xf7f0_2000), &ours));
        assert!(!is_ours(&(0x7ffc_1234_5000..0x7ffc_1234_6000), &ours));
    }
}
