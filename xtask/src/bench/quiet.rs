//! `cargo xtask bench quiet`

use super::{
    programs,
    table::{Limit, Target, print_targets},
    tracer::Tracer,
};
use anyhow::Result;
use std::{
    thread,
    time::{Duration, Instant},
};

const TIME: Duration = Duration::from_secs(10);

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of ten seconds")]
pub(super) fn run() -> Result<()> {
    let tracer = Tracer::start(&programs::fdtrace()?, &[])?;
    let start_up = tracer.start_up;
    let (start, start_cpu) = (Instant::now(), tracer.cpu_time()?);
    thread::sleep(TIME);
    let cpu = (tracer.cpu_time()? - start_cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = tracer.resident_bytes()?;
    let trace = tracer.stop()?.trace;
    let per_second = trace.events.allocated as f64 / Duration::from_nanos(trace.duration_ns).as_secs_f64();
    println!(
        "the machine allocated {per_second:.0} handles a second; starting took {start_cpu:.2?} of processor time"
    );
    print_targets(&[
        Target {
            what: "processor time, of one core",
            measured: cpu * 100.0,
            limit: Limit::AtMost(1.0),
            unit: " %",
        },
        Target {
            what: "resident memory",
            measured: resident as f64 / f64::from(1 << 20),
            limit: Limit::AtMost(60.0),
            unit: " MB",
        },
        Target {
            what: "time to the first output",
            measured: start_up.as_secs_f64(),
            limit: Limit::AtMost(1.0),
            unit: " s",
        },
    ]);
    Ok(())
}
