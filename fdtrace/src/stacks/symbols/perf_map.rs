//! `/tmp/perf-PID.map`: what a process says of the code that it makes at run time.

use std::{
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use super::module::open_no_link;
use crate::process::procfs::{Text, fields, number};

/// Opens the map of a process. Its folder is one that everybody can write to: only what the process itself wrote, or root, is
/// believed.
pub(super) fn open(pid: u32) -> Option<(PathBuf, File)> {
    let owner = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let path = path(pid)?;
    let map = open_no_link(&path)?;
    let is_theirs = |map: &Metadata| map.is_file() && (map.uid() == owner || map.uid() == 0);
    map.metadata().is_ok_and(|map| is_theirs(&map)).then_some((path, map))
}

/// The process has named it by the id that it has in its own pid namespace.
fn path(pid: u32) -> Option<PathBuf> {
    let id: u32 = number(fields(Text::of(pid, "status").ok()?.line("NStgid:")?).next_back()?)?;
    Some(PathBuf::from(format!("/proc/{pid}/root/tmp/perf-{id}.map")))
}
