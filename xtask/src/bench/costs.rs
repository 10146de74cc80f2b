//! What the verb `programs` of the example `bench` finds out.

use super::{load::Sample, programs::Bench};
use anyhow::Result;
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Costs {
    pub(super) backend: String,
    pub(super) programs: Vec<Cost>,
    /// Handles that were allocated.
    pub(super) handles: u64,
    pub(super) ring_bytes: u32,
    /// What of that came after the warm-up.
    pub(super) measured: Traffic,
    /// Milliseconds from the load's start until the last window came.
    pub(super) last_window_ms: u32,
    pub(super) lost_events: u64,
    pub(super) lost_chains: u64,
    /// The last call chain of the load that the kernel side has followed by itself.
    pub(super) depth: Depth,
    load: serde_json::Value,
}

/// One BPF program.
#[derive(Deserialize)]
pub(super) struct Cost {
    pub(super) program: String,
    pub(super) is_allocation: bool,
    pub(super) runs: u64,
    pub(super) time_ns: u64,
    pub(super) verified: u32,
}

/// What came through the ring.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Traffic {
    pub(super) bytes: u32,
    /// Of them, the records of handles.
    pub(super) handle_bytes: u32,
    pub(super) windows: u32,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct Depth {
    pub(super) frames: u32,
    pub(super) complete: bool,
}

impl Costs {
    /// Runs a load below hooks.
    pub(super) fn measure(bench: &Bench, hooks: &str, load: &str, options: &[&str]) -> Result<Self> {
        bench.run(&[&["programs", hooks, load], options].concat())
    }

    /// What the load says of itself, if it is one that measures.
    pub(super) fn sample(&self) -> Option<Sample> {
        Sample::deserialize(&self.load).ok()
    }

    /// What the load has counted, if it is one that counts.
    pub(super) fn count(&self) -> Option<f64> {
        self.load.as_f64()
    }

    /// Nanoseconds of the allocation program for a handle, with its runs for what turned out to be no handle.
    #[expect(clippy::cast_precision_loss, reason = "counts of a second")]
    pub(super) fn allocation_ns(&self) -> f64 {
        let allocation = self.programs.iter().find(|program| program.is_allocation);
        allocation.map_or(f64::NAN, |program| program.time_ns as f64) / self.handles as f64
    }
}

impl Traffic {
    /// All but the records of handles.
    pub(super) const fn chain_bytes(self) -> u32 {
        self.bytes - self.handle_bytes
    }
}
