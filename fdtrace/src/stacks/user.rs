//! The process's half of a call chain: from addresses to modules and offsets, while the process is there.

use std::{
    collections::HashMap,
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
    symbols: HashMap<(PathBuf, u64), Option<String>>,
}

/// The most symbols that are remembered; then the memory is emptied and filled again.
const MOST_SYMBOLS: usize = 50_000;

impl Default for UserStacks {
    fn default() -> Self {
        Self {
            normalizer: Normalizer::builder()
                .enable_vma_caching(false)
                .enable_build_ids(true)
                .enable_build_id_caching(true)
                .build(),
            symbolizer: Symbolizer::builder()
                .enable_code_info(false)
                .enable_inlined_fns(false)
                .enable_demangling(true)
                .build(),
            symbols: HashMap::new(),
        }
    }
}

impl UserStacks {
    /// Resolves a stack of a process. Of a process that is gone nothing but addresses is left.
    ///
    /// `code` is where the process has code. Where functions keep no frame pointers, a chain leads astray sooner or later;
    /// it is cut at the first address that is none of code.
    pub fn resolve(&mut self, tgid: u32, addresses: &[u64], code: Option<&[Range<u64>]>) -> Arc<UserChain> {
        let addresses = &addresses[..code.map_or(addresses.len(), |code| leads_astray(addresses, code))];
        // All but the innermost are return addresses: one less lies within the call.
        let calls: Vec<u64> = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| address.saturating_sub(u64::from(index > 0)))
            .collect();
        let mut chain = self.normalize(tgid, &calls).unwrap_or_else(|| unresolved(&calls));
        for frame in &mut chain {
            frame.symbol = self.symbol(tgid, frame);
        }
        let mut chain = UserChain { frames: chain.into_iter().map(Arc::new).collect(), complete: false };
        let outermost = chain.frames.last().and_then(|frame| frame.symbol.as_deref());
        chain.complete = outermost.is_some_and(|symbol| ROOTS.contains(&symbol));
        Arc::new(chain)
    }

    /// `None` when the process is gone.
    fn normalize(&self, tgid: u32, calls: &[u64]) -> Option<Vec<UserFrame>> {
        let options = NormalizeOpts { sorted_addrs: false, ..NormalizeOpts::default() };
        let output = self.normalizer.normalize_user_addrs_opts(Pid::from(tgid), calls, &options).ok()?;
        let mut frames = Vec::with_capacity(calls.len());
        for (offset, meta) in &output.outputs {
            match output.meta.get(*meta)? {
                UserMeta::Elf(elf) => frames.push(UserFrame {
                    module: Some(elf.path.to_string_lossy().into_owned()),
                    build_id: elf.build_id.as_deref().map(hexadecimal),
                    offset: *offset,
                    ..UserFrame::default()
                }),
                _ => frames.push(UserFrame { offset: *offset, ..UserFrame::default() }),
            }
        }
        Some(frames)
    }

    fn symbol(&mut self, tgid: u32, frame: &UserFrame) -> Option<String> {
        let module = frame.module.as_deref()?;
        let key = (PathBuf::from(module), frame.offset);
        if let Some(known) = self.symbols.get(&key) {
            return known.clone();
        }
        // The process may live in another root; its own view of the path is behind its `root`.
        let inside = PathBuf::from(format!("/proc/{tgid}/root{module}"));
        let found = self.look_up(&inside, frame.offset).or_else(|| self.look_up(&key.0, frame.offset));
        if self.symbols.len() >= MOST_SYMBOLS {
            self.symbols.clear();
        }
        self.symbols.insert(key, found.clone());
        found
    }

    fn look_up(&self, module: &Path, offset: u64) -> Option<String> {
        let elf = source::Source::Elf(source::Elf::new(module));
        match self.symbolizer.symbolize_single(&elf, Input::FileOffset(offset)).ok()? {
            Symbolized::Sym(symbol) => Some(symbol.name.into_owned()),
            Symbolized::Unknown(_) => None,
        }
    }
}

/// How many frames lead through code; the innermost one, where the processor was, counts in any case.
fn leads_astray(addresses: &[u64], code: &[Range<u64>]) -> usize {
    let is_code = |address: &u64| code.iter().any(|range| range.contains(address));
    addresses.iter().skip(1).position(|address| !is_code(address)).map_or(addresses.len(), |index| index + 1)
}

fn unresolved(calls: &[u64]) -> Vec<UserFrame> {
    calls.iter().map(|address| UserFrame { offset: *address, ..UserFrame::default() }).collect()
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
        let chain = UserStacks::default().resolve(std::process::id(), &[here], None);
        let [frame] = chain.frames.as_slice() else { panic!("one frame") };
        assert!(
            frame.symbol.as_deref().is_some_and(|name| name.contains("resolves_its_own_code")),
            "{frame:?}"
        );
        assert!(frame.module.is_some() && frame.build_id.is_some());
    }

    #[test]
    fn a_chain_is_cut_where_it_leaves_code() {
        let code = [0x1000..0x2000, 0x5000..0x6000];
        assert_eq!(leads_astray(&[0x1500, 0x1600, 0x3000, 0x1700], &code), 2);
        assert_eq!(leads_astray(&[0x9000, 0x1600], &code), 2, "the innermost frame is where it was");
        assert_eq!(leads_astray(&[], &code), 0);
    }

    #[test]
    fn a_process_that_is_gone_leaves_addresses() {
        let chain = UserStacks::default().resolve(u32::MAX >> 1, &[0x1000, 0x2000], None);
        assert_eq!(chain.frames.iter().map(|frame| frame.offset).collect::<Vec<_>>(), [0x1000, 0x1fff]);
        assert!(!chain.complete && chain.frames.iter().all(|frame| frame.module.is_none()));
    }
}
