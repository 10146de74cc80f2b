//! Time that was taken, of the wall's clock and of the processor.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What one turn of a load takes.
#[derive(Serialize)]
pub(crate) struct Sample {
    pub(crate) turns: u64,
    /// Nanoseconds of the wall's clock for a turn.
    pub(crate) wall_ns: f64,
    /// Nanoseconds of processor time for a turn, of all threads.
    pub(crate) cpu_ns: f64,
    /// The same where it went well: nine of ten chunks took longer. What other programs, and other guests of a virtual
    /// machine's host, do to the processor at times is not in it.
    pub(crate) undisturbed_ns: f64,
}

/// Repeats `turn` for `time`, after a warm-up of a tenth of it. The clocks are looked at once in `chunk` turns.
pub(crate) fn repeat(
    time: Duration,
    chunk: u32,
    turn: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Sample> {
    let _: Sample = measure(time / 10, chunk, turn)?;
    measure(time, chunk, turn)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn measure(
    time: Duration,
    chunk: u32,
    turn: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Sample> {
    let start = Instant::now();
    let mut chunks = Vec::with_capacity(4096);
    while start.elapsed() < time || chunks.is_empty() {
        let before = cpu_time();
        for _ in 0..chunk {
            turn()?;
        }
        chunks.push(cpu_time() - before);
    }
    let wall = start.elapsed();
    chunks.sort_unstable();
    let turns = chunks.len() as u64 * u64::from(chunk);
    let per_turn = |time: Duration, turns: u64| time.as_nanos() as f64 / turns as f64;
    Ok(Sample {
        turns,
        wall_ns: per_turn(wall, turns),
        cpu_ns: per_turn(chunks.iter().sum(), turns),
        undisturbed_ns: per_turn(chunks[chunks.len() / 10], chunk.into()),
    })
}

/// Processor time of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Runs `work` below `depth` frames, for a call chain as long as real programs have them.
#[inline(never)]
pub(crate) fn at_depth<T>(depth: u32, work: &mut dyn FnMut() -> T) -> T {
    let result = if depth == 0 { work() } else { at_depth(depth - 1, work) };
    // Without something left to do the call above would become a jump, which leaves no frame.
    black_box(());
    result
}
