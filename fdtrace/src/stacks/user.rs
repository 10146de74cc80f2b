//! The process's half of a call chain: from addresses to modules and offsets, while the process is there.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::{
    Pid,
    normalize::{NormalizeOpts, Normalizer, UserMeta},
    symbolize::{Input, Symbolized, Symbolizer, source},
};

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
    symbolizer: Symbolizer,
    /// Frames by their module's path, its build-id, and the offset in it.
    frames: HashMap<Location, Arc<UserFrame>>,
    modules: HashSet<Arc<str>>,
}

type Location = (Option<Arc<str>>, Option<String>, u64);

/// The most frames that are remembered; then the memory is emptied and filled again.
const MOST_FRAMES: usize = 10_000;

/// The most modules that are kept open, with their symbols in memory, at once.
const MOST_MODULES: usize = 32;

impl Default for UserStacks {
    fn default() -> Self {
        Self {
            normalizer: normalizer(),
            symbolizer: symbolizer(),
            frames: HashMap::new(),
            modules: HashSet::new(),
        }
    }
}

fn normalizer() -> Normalizer {
    Normalizer::builder()
        .enable_vma_caching(false)
        .enable_build_ids(true)
        .enable_build_id_caching(true)
        .build()
}

fn symbolizer() -> Symbolizer {
    Symbolizer::builder().enable_code_info(false).enable_inlined_fns(false).enable_demangling(true).build()
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
        let Some(frames) = self.normalize(tgid, &all) else {
            return stacks.iter().map(|_| UserChain::default()).collect();
        };
        let frame =
            |address: &u64| all.binary_search(address).ok().and_then(|index| frames.get(index).cloned());
        calls.iter().map(|calls| chain(calls.iter().filter_map(frame).collect())).collect()
    }

    /// The frames of sorted addresses; `None` when the process is gone.
    fn normalize(&mut self, tgid: u32, sorted: &[u64]) -> Option<Vec<Arc<UserFrame>>> {
        let options = NormalizeOpts { sorted_addrs: true, ..NormalizeOpts::default() };
        let output = self.normalizer.normalize_user_addrs_opts(Pid::from(tgid), sorted, &options).ok()?;
        let modules: Vec<(Option<Arc<str>>, Option<String>)> = output
            .meta
            .iter()
            .map(|meta| match meta {
                UserMeta::Elf(elf) => {
                    (Some(elf.path.to_string_lossy().into()), elf.build_id.as_deref().map(hexadecimal))
                }
                _ => (None, None),
            })
            .collect();
        let offsets: Vec<(u64, usize)> = output.outputs.clone();
        drop(output);
        self.forget_if_many(&modules);
        let mut frames = Vec::with_capacity(sorted.len());
        for (offset, meta) in offsets {
            let (module, build_id) = modules.get(meta)?.clone();
            frames.push(self.frame(tgid, (module, build_id, offset)));
        }
        Some(frames)
    }

    /// Both libraries keep every file open that they have seen, which a tracer of open files should not.
    fn forget_if_many(&mut self, modules: &[(Option<Arc<str>>, Option<String>)]) {
        self.modules.extend(modules.iter().filter_map(|(module, _)| module.clone()));
        if self.modules.len() > MOST_MODULES {
            self.modules.clear();
            (self.normalizer, self.symbolizer) = (normalizer(), symbolizer());
        }
    }

    fn frame(&mut self, tgid: u32, location: Location) -> Arc<UserFrame> {
        if let Some(known) = self.frames.get(&location) {
            return Arc::clone(known);
        }
        let (module, build_id, offset) = &location;
        let frame = Arc::new(UserFrame {
            symbol: module.as_ref().and_then(|module| self.symbol(tgid, module, *offset)),
            module: module.as_deref().map(str::to_owned),
            build_id: build_id.clone(),
            offset: *offset,
            ..UserFrame::default()
        });
        if self.frames.len() >= MOST_FRAMES {
            self.frames.clear();
        }
        self.frames.insert(location, Arc::clone(&frame));
        frame
    }

    fn symbol(&self, tgid: u32, module: &Arc<str>, offset: u64) -> Option<String> {
        // The process may live in another root; its own view of the path is behind its `root`.
        let inside = PathBuf::from(format!("/proc/{tgid}/root{module}"));
        self.look_up(Path::new(&**module), offset).or_else(|| self.look_up(&inside, offset))
    }

    fn look_up(&self, module: &Path, offset: u64) -> Option<String> {
        let elf = source::Source::Elf(source::Elf::new(module));
        match self.symbolizer.symbolize_single(&elf, Input::FileOffset(offset)).ok()? {
            Symbolized::Sym(symbol) => Some(symbol.name.into_owned()),
            Symbolized::Unknown(_) => None,
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

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
