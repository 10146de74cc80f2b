//! The process's half of a call chain: from addresses to modules and offsets, while the process is there.

use std::{collections::HashSet, ops::Range, path::Path, sync::Arc};

use blazesym::{
    Pid,
    normalize::{NormalizeOpts, Normalizer, UserMeta},
};

use super::symbols::{CodeNames, Frames, Module, Reach, hexadecimal};
use crate::stream::{UserChain, UserFrame};

/// Functions in which a thread begins.
const ROOTS: [&str; 8] = [
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "start_thread",
    "clone",
    "__clone",
    "clone3",
    "__clone3",
];

/// Resolves user stacks, and remembers what it resolved.
pub struct UserStacks {
    normalizer: Normalizer,
    names: CodeNames,
    /// The files that the normalizer keeps open.
    modules: HashSet<Arc<Path>>,
}

/// The most files that the normalizer keeps open at once.
const MOST_MODULES: usize = 32;

impl Default for UserStacks {
    fn default() -> Self {
        Self { normalizer: normalizer(), names: CodeNames::default(), modules: HashSet::new() }
    }
}

fn normalizer() -> Normalizer {
    Normalizer::builder()
        .enable_vma_caching(false)
        .enable_build_ids(true)
        .enable_build_id_caching(true)
        .build()
}

impl UserStacks {
    /// Resolves stacks of one process, innermost frame first. Of a process that is gone nothing is left: its chains are
    /// empty.
    ///
    /// `code` is where the process has code. Where functions keep no frame pointers, a chain leads astray sooner or later;
    /// it is cut at the first address that is none of code.
    pub fn resolve(&mut self, tgid: u32, stacks: &[&[u64]], code: &[Range<u64>]) -> Vec<UserChain> {
        let calls: Vec<Vec<u64>> =
            stacks.iter().map(|stack| calls(&stack[..leads_astray(stack, code)])).collect();
        let mut all = calls.concat();
        all.sort_unstable();
        all.dedup();
        let Some(frames) = self.normalize(tgid, &all, code) else {
            return stacks.iter().map(|_| UserChain::default()).collect();
        };
        let frame =
            |address: &u64| all.binary_search(address).ok().and_then(|index| frames.get(index).cloned());
        let frames = |call: &u64| frame(call).into_iter().flat_map(|frames| frames.to_vec());
        calls.iter().map(|calls| chain(calls.iter().flat_map(frames).collect())).collect()
    }

    /// The frames of sorted addresses; `None` when the process is gone.
    fn normalize(&mut self, tgid: u32, sorted: &[u64], code: &[Range<u64>]) -> Option<Vec<Frames>> {
        let options = NormalizeOpts { sorted_addrs: true, ..NormalizeOpts::default() };
        let output = self.normalizer.normalize_user_addrs_opts(Pid::from(tgid), sorted, &options).ok()?;
        let reach = |address: u64| {
            let range = code.iter().find(|range| range.contains(&address))?;
            Some(Reach { pid: tgid, range: range.clone() })
        };
        let place = |(address, (offset, meta)): (&u64, &(u64, usize))| match output.meta.get(*meta) {
            Some(UserMeta::Elf(elf)) => {
                let build_id = elf.build_id.as_deref().map(|id| hexadecimal(id).into());
                let path = elf.path.as_path().into();
                Ok((Module { path, build_id, file: None, reach: reach(*address) }, *offset))
            }
            _ => Err(*address),
        };
        let places: Vec<_> = sorted.iter().zip(&output.outputs).map(place).collect();
        drop(output);
        let frames = places.iter().map(|place| match place {
            Ok((module, offset)) => self.names.frames(module, *offset),
            Err(address) => self.names.without_file(tgid, &[*address]).into(),
        });
        let frames = frames.collect();
        self.forget_if_many(places.into_iter().flatten().map(|(module, _)| module.path));
        Some(frames)
    }

    /// The library keeps every file open that it has seen, which a tracer of open files should not.
    fn forget_if_many(&mut self, modules: impl Iterator<Item = Arc<Path>>) {
        self.modules.extend(modules);
        if self.modules.len() > MOST_MODULES {
            self.modules.clear();
            self.normalizer = normalizer();
        }
    }
}

/// All but the innermost are return addresses: one less lies within the call.
fn calls(stack: &[u64]) -> Vec<u64> {
    let before = |(index, address): (usize, &u64)| address.saturating_sub(u64::from(index > 0));
    stack.iter().enumerate().map(before).collect()
}

fn chain(frames: Vec<Arc<UserFrame>>) -> UserChain {
    let outermost = frames.last().and_then(|frame| frame.symbol.as_deref());
    let complete = outermost.is_some_and(|symbol| ROOTS.contains(&symbol));
    UserChain { frames, complete }
}

/// How many frames lead through code; the innermost one, where the processor was, counts in any case.
fn leads_astray(addresses: &[u64], code: &[Range<u64>]) -> usize {
    let is_code = |address: &u64| code.iter().any(|range| range.contains(address));
    addresses.iter().skip(1).position(|address| !is_code(address)).map_or(addresses.len(), |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_its_own_code() {
        let here = resolves_its_own_code as fn() as usize as u64;
        let pid = std::process::id();
        let code = crate::process::code(pid).expect("its own maps");
        let chains = UserStacks::default().resolve(pid, &[&[here], &[], &[here, here + 2]], &code);
        let lengths: Vec<_> = chains.iter().map(|chain| chain.frames.len()).collect();
        assert_eq!(lengths, [1, 0, 2]);
        for frame in [&chains[0].frames[0], &chains[2].frames[0], &chains[2].frames[1]] {
            let name = frame.symbol.as_deref().expect("a symbol");
            assert!(name.contains("resolves_its_own_code"), "{frame:?}");
            assert!(frame.module.is_some() && frame.build_id.is_some());
        }
    }

    #[test]
    fn a_chain_is_cut_where_it_leaves_code() {
        let code = [0x1000..0x2000, 0x5000..0x6000];
        assert_eq!(leads_astray(&[0x1500, 0x1600, 0x3000, 0x1700], &code), 2);
        assert_eq!(leads_astray(&[0x9000, 0x1600], &code), 2, "the innermost frame is where it was");
        assert_eq!(leads_astray(&[], &code), 0);
    }

    #[test]
    fn a_process_that_is_gone_leaves_nothing() {
        let code = std::slice::from_ref(&(0x1000..0x3000));
        let chains = UserStacks::default().resolve(u32::MAX >> 1, &[&[0x1000, 0x2000]], code);
        assert_eq!(chains, [UserChain::default()]);
    }
}
