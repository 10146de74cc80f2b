use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a trace says about itself before its first event. A field that a file does not have reads as empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// The version of fdtrace that wrote it.
    pub fdtrace: String,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The machine's architecture, as `uname -m` has it.
    pub machine: String,
    /// The host's name.
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id`: times of two traces can be compared only when these are equal.
    pub boot_id: String,
    /// The backend: kprobe, fentry or tracepoint.
    pub backend: String,
    /// What became of each hook.
    pub hooks: Vec<HookState>,
    /// What a reader should know about the trace, in words.
    pub remarks: Vec<String>,
    /// Offsets in the kernel's structures that were used, in bytes, by name.
    pub offsets: BTreeMap<String, u32>,
    /// When tracing began, by the wall clock (RFC 3339).
    pub start: String,
    /// The same moment, `CLOCK_MONOTONIC` in ns.
    pub start_ns: u64,
    /// The filters, one option with its value for each.
    pub filters: Vec<String>,
    /// The command that was traced and its arguments; empty when none was started.
    pub command: Vec<String>,
    /// Min-age filter: handles younger than this (ns) when they went have no events; 0 for all events.
    pub min_age_ns: u64,
    /// Size of the ring buffer in bytes.
    pub ring_bytes: u64,
    /// How many live handles the kernel side has room for.
    pub max_handles: u64,
}

/// What became of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookState {
    /// What it is for.
    pub role: String,
    /// Whether it is attached, or why not.
    pub state: String,
    /// Where it is attached.
    pub target: String,
    /// What is lost without it; empty when it is attached.
    pub lost: String,
}
