//! What the BPF programs cost, by the kernel's own clock: it does not drift with the machine's load as wall time does.

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use fdtrace::kernel::{
    Acquisitions, Emit, Filters, Kernel, ProgramCost, Role, Settings, Stacks, Tracer, Unwind,
};
use fdtrace::stacks::Readers;
use fdtrace_common::counters::Counter;
use serde::Deserialize as _;

use crate::{
    ring::{Depth, Reader, Traffic},
    sample::Sample,
};

/// A user that no process runs as (`nobody` is 65534).
const NOBODY_AT_ALL: u32 = u32::MAX - 1;

const RING_BYTES: u32 = 8 << 20;

/// A measurement.
#[derive(Clone)]
pub(crate) struct Measurement<'a> {
    pub(crate) hooks: Hooks,
    /// What runs meanwhile, a verb of this program.
    pub(crate) load: &'static str,
    /// For how many milliseconds.
    pub(crate) time: u64,
    /// Leave the kernel's run statistics off: they cost something themselves.
    pub(crate) untimed: bool,
    /// How long it runs before that, unmeasured; what is not said is measured from the start.
    pub(crate) warm_up: Option<u64>,
    /// Trace the load only: what others do is not counted, and each allocation costs a look at whose it is.
    pub(crate) alone: bool,
    /// A BPF object to measure in place of the built-in one.
    pub(crate) object: Option<&'a Path>,
}

/// What the hooks do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Hooks {
    Reject,
    Off,
    User,
    Both,
    /// As `user`, by unwind tables; `user` itself goes by frame pointers
    UserTables,
    /// As `both`, by unwind tables
    BothTables,
    /// As `both`, in the min-age filter
    Survivors,
    /// As `both`, and nothing goes through the ring
    Nothing,
}

impl Hooks {
    const fn stacks(self) -> Stacks {
        match self {
            Self::Off => Stacks::Off,
            Self::User | Self::UserTables => Stacks::User,
            Self::Reject | Self::Both | Self::BothTables | Self::Survivors | Self::Nothing => Stacks::Both,
        }
    }

    const fn unwind(self) -> Unwind {
        match self {
            Self::UserTables | Self::BothTables => Unwind::Tables,
            _ => Unwind::FramePointers,
        }
    }

    const fn emit(self) -> Emit {
        match self {
            Self::Survivors => Emit::MinAge(1_000_000_000),
            Self::Nothing => Emit::Nothing,
            _ => Emit::All,
        }
    }
}

impl Measurement<'_> {
    fn settings(&self) -> anyhow::Result<Settings> {
        let object = self.object.map(std::fs::read).transpose().context("the BPF object")?;
        Ok(Settings {
            backend: None,
            filters: self.filters(),
            stacks: self.hooks.stacks(),
            unwind: self.hooks.unwind(),
            ring_bytes: RING_BYTES,
            max_handles: 262_144,
            failures: true,
            mappings: false,
            fd_exit_scan: false,
            descriptors: Acquisitions::Off,
            closers: false,
            submitters: false,
            compare_stacks: false,
            emit: self.hooks.emit(),
            object,
        })
    }

    /// The load is a child of this process, which itself is never traced.
    fn filters(&self) -> Filters {
        let uid = matches!(self.hooks, Hooks::Reject).then_some(NOBODY_AT_ALL);
        let pids = if self.alone { vec![std::process::id()] } else { Vec::new() };
        Filters { uid, pids, follow: self.alone, ..Filters::default() }
    }
}

pub(crate) struct Costs {
    pub(crate) backend: &'static str,
    pub(crate) programs: Vec<Cost>,
    /// Handles that were allocated while it was measured.
    pub(crate) handles: u64,
    /// What came through the ring, the warm-up included.
    pub(crate) ring_bytes: usize,
    /// What of that came after it.
    pub(crate) measured: Traffic,
    /// Milliseconds from the load's start until the last window came.
    pub(crate) last_window_ms: u128,
    /// What found no room in the ring, the warm-up included.
    pub(crate) lost_events: u64,
    /// Chains that stay as they are, as nobody was or could be asked to complete them.
    pub(crate) lost_chains: u64,
    pub(crate) depth: Depth,
    /// What the load says of itself.
    load: serde_json::Value,
}

/// What one program has cost while the load ran.
pub(crate) struct Cost {
    pub(crate) program: &'static str,
    pub(crate) is_allocation: bool,
    pub(crate) runs: u64,
    pub(crate) time_ns: u64,
    /// Instructions that the verifier looked at.
    pub(crate) verified: u32,
}

impl Costs {
    /// What the load says of itself, if it is one that measures.
    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        Sample::deserialize(&self.load).context("a load without a result")
    }

    /// What the load has counted, if it is one that counts.
    pub(crate) fn count(&self) -> Option<f64> {
        self.load.as_f64()
    }

    /// Nanoseconds of the allocation program for a handle, with its runs for what turned out to be no handle.
    pub(crate) fn allocation_ns(&self) -> f64 {
        let allocation = self.programs.iter().find(|program| program.is_allocation);
        allocation.map_or(f64::NAN, |program| program.time_ns as f64) / self.handles as f64
    }

    /// Of so many bytes, those for each handle.
    pub(crate) fn for_each(&self, bytes: usize) -> f64 {
        bytes as f64 / self.handles as f64
    }
}

/// What has been counted until some moment.
struct Counts {
    programs: Vec<ProgramCost>,
    handles: u64,
    lost_events: u64,
    lost_chains: u64,
    traffic: Traffic,
}

pub(crate) fn measure(args: &Measurement<'_>) -> anyhow::Result<Costs> {
    let readers = Readers::start()?;
    let mut kernel = Kernel::inspect()?;
    let mut tracer = Tracer::start(&mut kernel, &args.settings()?, &mut Vec::new)?;
    let rules = tracer.rules()?;
    tracer.time_programs(!args.untimed).context("run statistics cannot be turned on")?;
    let mut before = count(&tracer, Traffic::default())?;
    let mut load = Load::start(args)?;
    let mut reader = Reader::start(rules, load.0.id(), &readers);
    if let Some(time) = args.warm_up {
        let end = Instant::now() + Duration::from_millis(time);
        drain(&mut tracer, &mut reader, || Ok(Instant::now() < end))?;
        before = count(&tracer, reader.traffic)?;
    }
    drain(&mut tracer, &mut reader, || Ok(load.0.try_wait()?.is_none()))?;
    let after = count(&tracer, reader.traffic)?;
    tracer.time_programs(false)?;
    if !load.0.wait()?.success() {
        bail!("the load failed");
    }
    let output = load.0.stdout.take().context("the load has no output")?;
    Ok(Costs {
        backend: tracer.report.backend.name(),
        programs: before
            .programs
            .iter()
            .zip(&after.programs)
            .map(|(before, after)| cost(before, after))
            .collect(),
        handles: after.handles - before.handles,
        ring_bytes: after.traffic.bytes,
        measured: after.traffic.since(before.traffic),
        last_window_ms: reader.last_window.as_millis(),
        lost_events: after.lost_events,
        lost_chains: after.lost_chains + reader.given_up,
        depth: reader.depth,
        load: serde_json::from_reader(output).unwrap_or_default(),
    })
}

fn count(tracer: &Tracer, traffic: Traffic) -> anyhow::Result<Counts> {
    let counters = tracer.counters()?;
    Ok(Counts {
        programs: tracer.costs(),
        handles: counters.get(Counter::Allocated),
        lost_events: counters.get(Counter::LostEvents),
        lost_chains: counters.get(Counter::LostStacks),
        traffic,
    })
}

/// Empties the ring as long as something goes on.
fn drain(
    tracer: &mut Tracer,
    reader: &mut Reader,
    mut goes_on: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    while goes_on()? {
        tracer.wait(Duration::from_millis(10), None);
        while tracer.drain(1024, |record| reader.take(record)) > 0 && goes_on()? {}
    }
    // What came last.
    tracer.drain(usize::MAX, |record| reader.take(record));
    Ok(())
}

fn cost(before: &ProgramCost, after: &ProgramCost) -> Cost {
    Cost {
        program: after.program,
        is_allocation: after.role == Role::Allocation,
        runs: after.runs - before.runs,
        time_ns: after.time_ns - before.time_ns,
        verified: after.verified,
    }
}

/// The load: a process of its own, since a tracer does not trace itself.
struct Load(Child);

impl Load {
    fn start(args: &Measurement<'_>) -> anyhow::Result<Self> {
        let child = Command::new(env::current_exe()?)
            .arg(args.load)
            .args(["--time", &args.time.to_string()])
            .args(args.warm_up.iter().flat_map(|time| ["--warm-up".to_owned(), time.to_string()]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
