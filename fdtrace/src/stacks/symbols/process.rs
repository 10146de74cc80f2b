//! Code that is in no file: the vDSO, and what a process made at run time.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::{
    Pid,
    symbolize::{Input, Symbolized, Symbolizer, source},
};

use super::unless_it_panics;
use crate::stream::UserFrame;

/// A perf map that is larger is not read.
const LARGEST_PERF_MAP: u64 = 64 << 20;

pub(super) fn frames(pid: u32, addresses: &[u64]) -> Vec<Arc<UserFrame>> {
    let with_map = has_perf_map(pid).then(|| look_up(pid, addresses, true)).flatten();
    let frames = with_map.or_else(|| look_up(pid, addresses, false));
    let nameless = || addresses.iter().map(|address| at(*address)).collect();
    frames.unwrap_or_else(nameless).into_iter().map(Arc::new).collect()
}

/// `None` where nothing could be read, a broken perf map among it.
fn look_up(pid: u32, addresses: &[u64], perf_map: bool) -> Option<Vec<UserFrame>> {
    // It keeps open what it reads, and is dropped at once for that.
    let symbolizer = Symbolizer::builder().enable_code_info(false).enable_inlined_fns(false).build();
    let mut process = source::Process::new(Pid::from(pid));
    (process.perf_map, process.debug_syms) = (perf_map, false);
    let source = source::Source::Process(process);
    let found =
        unless_it_panics(|| symbolizer.symbolize(&source, Input::AbsAddr(addresses)).ok()).flatten()?;
    Some(found.iter().zip(addresses).map(|(found, address)| frame(found, *address)).collect())
}

fn frame(found: &Symbolized<'_>, address: u64) -> UserFrame {
    let Symbolized::Sym(symbol) = found else { return at(address) };
    let module = symbol.module.as_ref().map(|module| module.to_string_lossy().into_owned());
    // The vDSO is somewhere else in each process, what is in it is not.
    let offset = if module.is_some() { symbol.addr + symbol.offset as u64 } else { address };
    UserFrame { symbol: Some(symbol.name.clone().into_owned()), module, ..at(offset) }
}

fn at(address: u64) -> UserFrame {
    UserFrame { offset: address, ..UserFrame::default() }
}

/// Whether a process has a perf map that it, or root, wrote: its folder is one that everybody can write to.
fn has_perf_map(pid: u32) -> bool {
    let Some(path) = perf_map(pid) else { return false };
    let owner = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.uid());
    let Ok(process) = owner(Path::new(&format!("/proc/{pid}"))) else { return false };
    fs::symlink_metadata(path).is_ok_and(|map| {
        map.is_file() && map.len() <= LARGEST_PERF_MAP && (map.uid() == process || map.uid() == 0)
    })
}

/// The process has named it by the id that it has in its own pid namespace.
fn perf_map(pid: u32) -> Option<PathBuf> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NStgid:"))?;
    let id: u32 = ids.split_ascii_whitespace().next_back()?.parse().ok()?;
    Some(PathBuf::from(format!("/proc/{pid}/root/tmp/perf-{id}.map")))
}
