//! What the kernel says of this process's memory.

use std::fs;

/// A number of bytes of `/proc/self/status`; 0 on a kernel that does not have it.
pub(crate) fn bytes(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kilobytes: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0) << 10
}
