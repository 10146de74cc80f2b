//! The process's half of a stack: from addresses to modules and offsets, while the process is there.

use std::{collections::HashMap, ops::Range, sync::Arc};

use fdtrace_common::{
    scripts::is_code,
    unwind::{ANONYMOUS, SUBMISSION, VDSO},
};

use super::{
    modules::{self, Modules},
    reader::Readers,
    script_frames::{GONE, is_script},
    symbols::{CodeNames, Frames, Module, Reach},
};
use crate::{
    model::UserFrame,
    process::{self, Mapping},
    runtimes::{Unplaced, begins_virtual_thread},
    stream::{Side, Stack, UserStack},
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
    /// Places lie in `modules`, whose files one of `readers` reads.
    #[must_use]
    pub fn new(modules: Arc<Modules>, readers: &Readers) -> Self {
        Self { modules, names: CodeNames::new(readers), addresses: Addresses::default() }
    }

    /// Whether a stack means the same in every process: all of its places lie in files that are known.
    #[must_use]
    pub fn is_of_files(&self, stack: &Stack) -> bool {
        let is_of_a_file = |module| match module {
            VDSO => true,
            ANONYMOUS => false,
            module => !is_code(module) && self.modules.get(module).is_some(),
        };
        stack.side == Side::Code && places(stack).all(|(module, _)| is_of_a_file(module))
    }

    /// Resolves stacks of one process, innermost frame first. Of a process that is gone, addresses mean nothing any more;
    /// places do.
    pub fn resolve(&mut self, tgid: u32, stacks: &[Option<&Stack>]) -> Vec<UserStack> {
        let addresses: Vec<&[u64]> = stacks.iter().map(|stack| addresses(*stack)).collect();
        let code = if addresses.iter().all(|stack| stack.is_empty()) { None } else { process::code(tgid) };
        let mut by_address = match code {
            Some(code) => self.addresses.resolve(&mut self.names, tgid, &addresses, &code),
            None => vec![UserStack::default(); stacks.len()],
        };
        let made = self.made(tgid, stacks);
        for (resolved, stack) in by_address.iter_mut().zip(stacks) {
            if let Some(stack) = stack.filter(|stack| stack.side == Side::Code) {
                *resolved = self.stack_of_places(tgid, &made, stack);
            }
        }
        by_address
    }

    /// What was read of files is given up, if no stack was resolved for a while.
    pub fn rest(&mut self) {
        self.names.rest();
    }

    /// Code that lies in no file, of all stacks at once.
    fn made(&mut self, tgid: u32, stacks: &[Option<&Stack>]) -> HashMap<u64, Arc<UserFrame>> {
        let places =
            stacks.iter().flatten().filter(|stack| stack.side == Side::Code).flat_map(|stack| places(stack));
        let mut addresses: Vec<u64> =
            places.filter(|(module, _)| *module == ANONYMOUS).map(|(_, offset)| offset).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return HashMap::new();
        }
        let frames = self.names.without_file(tgid, &addresses);
        addresses.into_iter().zip(frames).collect()
    }

    fn stack_of_places(
        &mut self,
        tgid: u32,
        made: &HashMap<u64, Arc<UserFrame>>,
        stack: &Stack,
    ) -> UserStack {
        let frames = places(stack).flat_map(|(module, offset)| match made.get(&offset) {
            Some(frame) if module == ANONYMOUS => vec![Arc::clone(frame)],
            _ => self.frames_at(tgid, module, offset),
        });
        let mut frames: Vec<_> = frames.collect();
        if let Some(begin) = frames.iter().position(|frame| begins_virtual_thread(frame)) {
            let mut index = 0..;
            frames.retain(|frame| index.next().is_some_and(|index| index < begin) || !is_script(frame));
        }
        UserStack { frames, complete: stack.complete }
    }

    fn frames_at(&mut self, tgid: u32, module: u64, offset: u64) -> Vec<Arc<UserFrame>> {
        if is_code(module) {
            let locate = |file: &str, unplaced: &Unplaced| self.names.located(tgid, file, unplaced);
            return Vec::from_iter(self.modules.scripts.frame(module, instruction(offset), locate));
        }
        if module == SUBMISSION {
            return vec![Arc::new(UserFrame::submission())];
        }
        if module == VDSO {
            return vec![CodeNames::vdso(offset)];
        }
        match self.modules.get(module) {
            Some(module) => self.names.frames(&module, offset).to_vec(),
            None => {
                vec![Arc::new(UserFrame { module: Some(GONE.to_owned()), offset, ..UserFrame::default() })]
            }
        }
    }
}

/// The instruction of a code object, whose number may be negative.
fn instruction(offset: u64) -> i32 {
    i32::try_from(offset.cast_signed()).unwrap_or(-1)
}

/// Module and offset of each frame. All places but the innermost lie within a call already.
fn places(stack: &Stack) -> impl Iterator<Item = (u64, u64)> {
    let places = stack.frames.chunks_exact(Side::Code.words()).enumerate();
    places.map(|(index, place)| {
        let is_instruction = index == 0 && !is_code(place[0]);
        (place[0], place[1].saturating_sub(u64::from(is_instruction)))
    })
}

/// The return addresses of a stack that was followed by frame pointers.
fn addresses(stack: Option<&Stack>) -> &[u64] {
    stack.filter(|stack| stack.side == Side::User).map_or(&[], |stack| &stack.frames)
}

/// Finds out where return addresses lie, while the process is there.
#[derive(Default)]
struct Addresses {
    /// Files that were identified, by the keys of their mappings.
    modules: HashMap<u64, Module>,
}

/// The most files that are remembered.
const MAX_MODULES: usize = 4096;

impl Addresses {
    /// The stacks of one process's stacks; empty ones when it is gone.
    ///
    /// `code` is where the process has code. Where functions keep no frame pointers, a stack leads astray sooner or later;
    /// it is cut at the first address that is none of code.
    fn resolve(
        &mut self,
        names: &mut CodeNames,
        tgid: u32,
        stacks: &[&[u64]],
        code: &[Range<u64>],
    ) -> Vec<UserStack> {
        let calls: Vec<Vec<u64>> =
            stacks.iter().map(|stack| calls(&stack[..leads_astray(stack, code)])).collect();
        let mut all = calls.concat();
        all.sort_unstable();
        all.dedup();
        let Some(frames) = self.normalize(names, tgid, &all) else {
            return stacks.iter().map(|_| UserStack::default()).collect();
        };
        let frame =
            |address: &u64| all.binary_search(address).ok().and_then(|index| frames.get(index).cloned());
        let frames = |call: &u64| frame(call).into_iter().flat_map(|frames| frames.to_vec());
        calls.iter().map(|calls| stack(calls.iter().flat_map(frames).collect())).collect()
    }

    /// The frames of sorted addresses; `None` when the process is gone.
    fn normalize(&mut self, names: &mut CodeNames, tgid: u32, sorted: &[u64]) -> Option<Vec<Frames>> {
        let mappings = Some(process::mappings(tgid)).filter(|mappings| !mappings.is_empty())?;
        let mut elsewhere = Vec::new();
        let mut frames = Vec::with_capacity(sorted.len());
        for address in sorted {
            let at = mappings.partition_point(|mapping| mapping.range.end <= *address);
            let mapping =
                mappings.get(at).filter(|mapping| mapping.range.contains(address) && mapping.inode != 0);
            let module = mapping.and_then(|mapping| Some((self.module(names, tgid, mapping)?, mapping)));
            frames.push(module.map(|(module, mapping)| names.frames(&module, mapping.offset_of(*address))));
            elsewhere.extend(frames.last().is_some_and(Option::is_none).then_some(*address));
        }
        let mut others = names.without_file(tgid, &elsewhere).into_iter().map(|frame| [frame].into());
        Some(frames.into_iter().filter_map(|frames| frames.or_else(|| others.next())).collect())
    }

    /// What a mapping is of.
    fn module(&mut self, names: &mut CodeNames, tgid: u32, mapping: &Mapping) -> Option<Module> {
        let key = modules::key(mapping, &modules::metadata(tgid, mapping)?);
        let reach = Some(Reach { pid: tgid, range: mapping.range.clone() });
        if let Some(known) = self.modules.get(&key) {
            return Some(Module { path: Arc::clone(&mapping.path), reach, ..known.clone() });
        }
        let (module, _) = modules::open(tgid, mapping, names.reader())?;
        if self.modules.len() >= MAX_MODULES {
            self.modules.clear();
        }
        self.modules.insert(key, module.clone());
        Some(module)
    }
}

/// Return addresses, and the one behind the instruction of a system call: one less lies within the call. What lies behind
/// may be of another line, or of another function that is inlined there.
fn calls(stack: &[u64]) -> Vec<u64> {
    stack.iter().map(|address| address.saturating_sub(1)).collect()
}

fn stack(frames: Vec<Arc<UserFrame>>) -> UserStack {
    let outermost = frames.last().and_then(|frame| frame.symbol.as_deref());
    let complete = outermost.is_some_and(|symbol| ROOTS.contains(&symbol));
    UserStack { frames, complete }
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
        Stack { hash: 1, side: Side::User, tgid: 1, frames: frames.into(), complete: false, submitter: 0 }
    }

    #[test]
    fn resolves_its_own_code() {
        let here = resolves_its_own_code as fn() as usize as u64 + 1;
        let stacks = [stack(&[here]), stack(&[]), stack(&[here, here + 2])];
        let stacks: Vec<_> = stacks.iter().map(Some).collect();
        let stacks =
            UserStacks::new(Arc::default(), &Readers::of_test()).resolve(std::process::id(), &stacks);
        let lengths: Vec<_> = stacks.iter().map(|stack| stack.frames.len()).collect();
        assert_eq!(lengths, [1, 0, 2]);
        for frame in [&stacks[0].frames[0], &stacks[2].frames[0], &stacks[2].frames[1]] {
            let name = frame.symbol.as_deref().expect("a symbol");
            assert!(name.contains("resolves_its_own_code"), "{frame:?}");
            assert!(frame.module.is_some() && frame.build_id.is_some());
        }
    }

    #[test]
    fn a_stack_is_cut_where_it_leaves_code() {
        let code = [0x1000..0x2000, 0x5000..0x6000];
        assert_eq!(leads_astray(&[0x1500, 0x1600, 0x3000, 0x1700], &code), 2);
        assert_eq!(leads_astray(&[0x9000, 0x1600], &code), 2, "the innermost frame is where it was");
        assert_eq!(leads_astray(&[], &code), 0);
    }

    #[test]
    fn a_process_that_is_gone_leaves_nothing() {
        let stack = stack(&[0x1000, 0x2000]);
        let stacks =
            UserStacks::new(Arc::default(), &Readers::of_test()).resolve(u32::MAX >> 1, &[Some(&stack)]);
        assert_eq!(stacks, [UserStack::default()]);
    }
}
