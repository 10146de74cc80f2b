//! What the tracer itself costs.

use std::time::Instant;

use crate::{
    kernel::{ProgramCost, Role},
    model::Own,
    process::procfs::{Text, fields, number},
    stacks::Readers,
};

/// Remembers the last measurement, to tell what was spent since.
pub struct Meter {
    /// What they use is the tracer's too.
    readers: Readers,
    /// When, and the CPU time then.
    before: Option<(Instant, f64)>,
    costs: Vec<ProgramCost>,
    allocation_ns: Option<u64>,
    release_ns: Option<u64>,
}

impl Meter {
    /// A meter of this process and those that read files for it.
    #[must_use]
    pub const fn new(readers: Readers) -> Self {
        Self { readers, before: None, costs: Vec::new(), allocation_ns: None, release_ns: None }
    }

    /// What was spent since the last call.
    pub fn read(&mut self, costs: &[ProgramCost], allocations: u64) -> Own {
        let readers = self.readers.usage();
        let (now, cpu) = (Instant::now(), cpu_seconds() + readers.time.as_secs_f64());
        let cpu_percent = self.before.replace((now, cpu)).map(|(since, cpu_before)| {
            let elapsed = (now - since).as_secs_f64().max(1e-6);
            // A reader that was replaced has taken its time along.
            (cpu - cpu_before).max(0.0) / elapsed * 100.0
        });
        // A moment in which no handle came or went says nothing new.
        self.allocation_ns = self.per_run(costs, Role::Allocation).or(self.allocation_ns);
        self.release_ns = self.per_run(costs, Role::Release).or(self.release_ns);
        self.costs = costs.to_vec();
        Own {
            cpu_percent,
            resident_bytes: resident_bytes() + readers.resident_bytes,
            allocation_ns: self.allocation_ns,
            release_ns: self.release_ns,
            allocations,
        }
    }

    fn per_run(&self, costs: &[ProgramCost], role: Role) -> Option<u64> {
        let of = |costs: &[ProgramCost]| {
            costs.iter().find(|cost| cost.role == role).map_or((0, 0), |cost| (cost.runs, cost.time_ns))
        };
        let ((runs, time), (runs_before, time_before)) = (of(costs), of(&self.costs));
        time.saturating_sub(time_before).checked_div(runs.saturating_sub(runs_before))
    }
}

/// User and system time of this process.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a process fit a double")]
fn cpu_seconds() -> f64 {
    // SAFETY: plain integers; zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid structure.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn resident_bytes() -> u64 {
    // The ring is mapped twice: its pages count twice here, as they do for everybody who looks.
    let statm = Text::or_empty("/proc/self/statm");
    let pages: u64 = fields(&statm).nth(1).and_then(number).unwrap_or(0);
    // SAFETY: asks for a constant.
    pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
