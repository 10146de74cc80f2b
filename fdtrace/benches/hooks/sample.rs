//! Time that was taken, of the wall's clock and of the processor.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What one turn of a load takes.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) turns: u64,
    /// Nanoseconds of the wall's clock for a turn.
    pub(crate) wall_ns: f64,
    /// Nanoseconds of processor time for a turn, of all threads.
    pub(crate) cpu_ns: f64,
    /// Processor time of a turn in units of a [`Control`] at the same moment: the median.
    pub(crate) relative: f64,
}

/// Turns between two looks at the clock: well below the time in which a processor changes its mood.
const CHUNK: u32 = 100;

/// Repeats `turn` for `time`, after a warm-up.
pub(crate) fn repeat(
    warm_up: Duration,
    time: Duration,
    turn: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Sample> {
    let control = Control::new()?;
    let mut sample = Sample::default();
    // One loop for both, so that the stacks of the one are those of the other.
    for time in [warm_up, time] {
        sample = measure(time, &control, turn)?;
    }
    Ok(sample)
}

fn measure(
    time: Duration,
    control: &Control,
    turn: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Sample> {
    let (mut wall, mut cpu, mut relative) = (Duration::ZERO, Duration::ZERO, Vec::with_capacity(1 << 16));
    while wall < time {
        let (start, before) = (Instant::now(), cpu_time());
        for _ in 0..CHUNK {
            turn()?;
        }
        let between = cpu_time();
        wall += start.elapsed();
        cpu += between - before;
        control.run()?;
        relative.push((between - before).as_secs_f64() / (cpu_time() - between).as_secs_f64());
    }
    relative.sort_unstable_by(f64::total_cmp);
    let turns = relative.len() as u64 * u64::from(CHUNK);
    Ok(Sample {
        turns,
        wall_ns: per(wall, turns),
        cpu_ns: per(cpu, turns),
        relative: relative.get(relative.len() / 2).copied().unwrap_or_default(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn per(time: Duration, turns: u64) -> f64 {
    time.as_nanos() as f64 / turns as f64
}

/// Work in the kernel that no tracer of handles slows down, since it allocates nothing: reading a page of a file that is
/// in memory. A processor that is slow for a while, because its other half or another guest of the host is busy, is slow
/// at both.
struct Control(File);

impl Control {
    fn new() -> anyhow::Result<Self> {
        let file = tempfile::tempfile()?;
        file.write_all_at(&[0; 4096], 0)?;
        Ok(Self(file))
    }

    fn run(&self) -> anyhow::Result<()> {
        for _ in 0..CHUNK {
            self.0.read_exact_at(&mut [0; 4096], 0)?;
        }
        Ok(())
    }
}

/// Processor time of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
