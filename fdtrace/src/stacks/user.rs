//! The process's half of a call chain: from addresses to modules and offsets, while the process is there.

use std::{collections::HashSet, ops::Range, path::Path, sync::Arc};

use blazesym::{
    Pid,
    normalize::{NormalizeOpts, Normalizer, UserMeta},
};
use fdtrace_common::unwind::{ANONYMOUS, VDSO};

use super::{
    modules::Modules,
    symbols::{CodeNames, Frames, Module, Reach, hexadecimal},
};
use crate::{
    process,
    stream::{Side, Stack, UserChain, UserFrame},
};

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
    /// Files by the keys that places have.
    modules: Arc<Modules>,
    names: CodeNames,
    addresses: Addresses,
}

impl UserStacks {
    /// Places lie in `modules`.
    #[must_use]
    pub fn new(modules: Arc<Modules>) -> Self {
        Self { modules, names: CodeNames::default(), addresses: Addresses::default() }
    }

    /// Resolves stacks of one process, innermost frame first. Of a process that is gone, addresses mean nothing any more;
    /// places do.
    pub fn resolve(&mut self, tgid: u32, stacks: &[Option<&Stack>]) -> Vec<UserChain> {
        let addresses: Vec<&[u64]> = stacks.iter().map(|stack| addresses(*stack)).collect();
        let code = if addresses.iter().all(|stack| stack.is_empty()) { None } else { process::code(tgid) };
        let mut by_address = match code {
            Some(code) => self.addresses.resolve(&mut self.names, tgid, &addresses, &code),
            None => vec![UserChain::default(); stacks.len()],
        };
        for (chain, stack) in by_address.iter_mut().zip(stacks) {
            if let Some(stack) = stack.filter(|stack| stack.side == Side::Code) {
                *chain = self.chain_of_places(tgid, stack);
            }
        }
        by_address
    }

    /// All places but the innermost lie within a call already.
    fn chain_of_places(&mut self, tgid: u32, stack: &Stack) -> UserChain {
        let places = stack.frames.chunks_exact(Side::Code.words()).enumerate();
        let frames = places.flat_map(|(index, place)| {
            let offset = place[1].saturating_sub(u64::from(index == 0));
            self.frames_at(tgid, place[0], offset)
        });
        UserChain { frames: frames.collect(), complete: stack.complete }
    }

    fn frames_at(&mut self, tgid: u32, module: u64, offset: u64) -> Vec<Arc<UserFrame>> {
        match module {
            ANONYMOUS => self.names.without_file(tgid, &[offset]),
            VDSO => vec![self.names.vdso(offset)],
            module => match self.modules.get(module) {
                Some(module) => self.names.frames(&module, offset).to_vec(),
                None => vec![Arc::new(UserFrame {
                    module: Some("[gone]".to_owned()),
                    offset,
                    ..UserFrame::default()
                })],
            },
        }
    }
}

/// The return addresses of a stack that was followed by frame pointers.
fn addresses(stack: Option<&Stack>) -> &[u64] {
    stack.filter(|stack| stack.side == Side::User).map_or(&[], |stack| &stack.frames)
}

/// Finds out where return addresses lie, while the process is there.
struct Addresses {
    normalizer: Normalizer,
    /// The files that the normalizer keeps open.
    modules: HashSet<Arc<Path>>,
}

/// The most files that the normalizer keeps open at once.
const MOST_MODULES: usize = 32;

impl Default for Addresses {
    fn default() -> Self {
        Self { normalizer: normalizer(), modules: HashSet::new() }
    }
}

fn normalizer() -> Normalizer {
    Normalizer::builder()
        .enable_vma_caching(false)
        .enable_build_ids(true)
        .enable_build_id_caching(true)
        .build()
}

impl Addresses {
    /// The chains of one process's stacks; empty ones when it is gone.
    ///
    /// `code` is where the process has code. Where functions keep no frame pointers, a chain leads astray sooner or later;
    /// it is cut at the first address that is none of code.
    fn resolve(
        &mut self,
        names: &mut CodeNames,
        tgid: u32,
        stacks: &[&[u64]],
        code: &[Range<u64>],
    ) -> Vec<UserChain> {
        let calls: Vec<Vec<u64>> =
            stacks.iter().map(|stack| calls(&stack[..leads_astray(stack, code)])).collect();
        let mut all = calls.concat();
        all.sort_unstable();
        all.dedup();
        let Some(frames) = self.normalize(names, tgid, &all, code) else {
            return stacks.iter().map(|_| UserChain::default()).collect();
        };
        let frame =
            |address: &u64| all.binary_search(address).ok().and_then(|index| frames.get(index).cloned());
        let frames = |call: &u64| frame(call).into_iter().flat_map(|frames| frames.to_vec());
        calls.iter().map(|calls| chain(calls.iter().flat_map(frames).collect())).collect()
    }

    /// The frames of sorted addresses; `None` when the process is gone.
    fn normalize(
        &mut self,
        names: &mut CodeNames,
        tgid: u32,
        sorted: &[u64],
        code: &[Range<u64>],
    ) -> Option<Vec<Frames>> {
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
            Ok((module, offset)) => names.frames(module, *offset),
            Err(address) => names.without_file(tgid, &[*address]).into(),
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

/// Return addresses, and the one behind the instruction of a system call: one less lies within the call. What lies behind
/// may be of another line, or of another function that is inlined there.
fn calls(stack: &[u64]) -> Vec<u64> {
    stack.iter().map(|address| address.saturating_sub(1)).collect()
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

    fn stack(frames: &[u64]) -> Stack {
        Stack { hash: 1, side: Side::User, tgid: 1, frames: frames.into(), complete: false }
    }

    #[test]
    fn resolves_its_own_code() {
        let here = resolves_its_own_code as fn() as usize as u64 + 1;
        let stacks = [stack(&[here]), stack(&[]), stack(&[here, here + 2])];
        let stacks: Vec<_> = stacks.iter().map(Some).collect();
        let chains = UserStacks::new(Arc::default()).resolve(std::process::id(), &stacks);
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
        let stack = stack(&[0x1000, 0x2000]);
        let chains = UserStacks::new(Arc::default()).resolve(u32::MAX >> 1, &[Some(&stack)]);
        assert_eq!(chains, [UserChain::default()]);
    }
}
