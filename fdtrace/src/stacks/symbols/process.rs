//! Code that is in no file: the vDSO, and what a process made at run time.

use std::{collections::HashMap, ops::Range, sync::Arc};

use blazesym::{
    Pid,
    symbolize::{Input, Symbolized, Symbolizer, source},
};

use super::{guard::guarded, perf_map};
use crate::{process, stream::UserFrame};

const VDSO: &str = "[vdso]";

/// What lies below is of a process with addresses of 32 bits, which has a vDSO of its own.
const FOUR_GIGABYTES: u64 = 1 << 32;

pub(super) fn frames(pid: u32, addresses: &[u64]) -> Vec<Arc<UserFrame>> {
    let in_vdso = in_vdso(pid, addresses);
    let other: Vec<u64> = addresses.iter().copied().filter(|at| !in_vdso.contains_key(at)).collect();
    let made = if other.is_empty() { HashMap::new() } else { perf_map::names(pid, &other) };
    let frame = |address: &u64| match in_vdso.get(address) {
        Some(frame) => frame.clone(),
        None => UserFrame { symbol: made.get(address).cloned(), ..at(*address) },
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
    let our_places: Vec<u64> = inside.iter().map(|address| address - theirs.start + ours.start).collect();
    let offset = |address: u64| address - theirs.start;
    let found = look_up(&our_places).unwrap_or_default();
    let frames = inside.iter().zip(found).map(|(address, found)| (*address, frame(found, offset(*address))));
    frames.collect()
}

fn is_ours(theirs: &Range<u64>, ours: &Range<u64>) -> bool {
    theirs.end - theirs.start == ours.end - ours.start && theirs.start >= FOUR_GIGABYTES
}

/// Names of addresses in our own vDSO.
fn look_up(addresses: &[u64]) -> Option<Vec<Option<String>>> {
    if addresses.is_empty() {
        return None;
    }
    let symbolizer = Symbolizer::builder().enable_code_info(false).enable_inlined_fns(false).build();
    let mut process = source::Process::new(Pid::Slf);
    (process.perf_map, process.debug_syms) = (false, false);
    let source = source::Source::Process(process);
    let found = guarded(|| symbolizer.symbolize(&source, Input::AbsAddr(addresses)).ok()).flatten()?;
    let name = |found: &Symbolized<'_>| match found {
        Symbolized::Sym(symbol) => Some(symbol.name.clone().into_owned()),
        Symbolized::Unknown(_) => None,
    };
    Some(found.iter().map(name).collect())
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
