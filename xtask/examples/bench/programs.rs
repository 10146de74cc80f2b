//! What the BPF programs cost, by the kernel's own clock: it does not drift with the machine's load as wall time does.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use fdtrace::kernel::{Emit, Filters, Kernel, ProgramCost, Settings, Stacks, Tracer, Unwind};
use serde::Serialize;

/// A user that no process runs as (`nobody` is 65534).
const NOBODY_AT_ALL: u32 = u32::MAX - 1;

const RING_BYTES: u32 = 8 << 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the hooks do
    hooks: Hooks,
    /// What runs meanwhile
    load: String,
    /// For how long
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 700)]
    time: u64,
    /// Leave the kernel's run statistics off: they cost something themselves
    #[arg(long)]
    untimed: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hooks {
    Reject,
    Off,
    User,
    Both,
    /// As `both`, in survivors mode
    Survivors,
    /// As `both`, and nothing goes through the ring
    Nothing,
}

impl Hooks {
    fn settings(self) -> Settings {
        let uid = matches!(self, Self::Reject).then_some(NOBODY_AT_ALL);
        Settings {
            backend: None,
            filters: Filters { uid, ..Filters::default() },
            stacks: match self {
                Self::Off => Stacks::Off,
                Self::User => Stacks::User,
                Self::Reject | Self::Both | Self::Survivors | Self::Nothing => Stacks::Both,
            },
            unwind: Unwind::FramePointers,
            ring_bytes: RING_BYTES,
            max_handles: 262_144,
            failures: true,
            mappings: false,
            emit: match self {
                Self::Survivors => Emit::Survivors(1_000_000_000),
                Self::Nothing => Emit::Nothing,
                Self::Reject | Self::Off | Self::User | Self::Both => Emit::All,
            },
            object: None,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Costs {
    backend: &'static str,
    programs: Vec<Cost>,
    /// What came through the ring.
    ring_bytes: usize,
    /// What the load says of itself.
    load: serde_json::Value,
}

/// What one program has cost while the load ran.
#[derive(Serialize)]
struct Cost {
    program: &'static str,
    runs: u64,
    time_ns: u64,
    /// Instructions that the verifier looked at.
    verified: u32,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Costs> {
    let mut kernel = Kernel::inspect()?;
    let mut tracer = Tracer::start(&mut kernel, &args.hooks.settings())?;
    tracer.time_programs(!args.untimed).context("run statistics cannot be turned on")?;
    let before = tracer.costs();
    let mut load = Load::start(args)?;
    let mut ring_bytes = 0;
    while load.0.try_wait()?.is_none() {
        tracer.wait(Duration::from_millis(10), None);
        while tracer.drain(1024, |record| ring_bytes += record.len()) > 0 {}
    }
    let after = tracer.costs();
    tracer.time_programs(false)?;
    if !load.0.wait()?.success() {
        bail!("the load failed");
    }
    let programs = before.iter().zip(&after).map(|(before, after)| cost(before, after)).collect();
    let output = load.0.stdout.take().context("the load has no output")?;
    Ok(Costs {
        backend: tracer.report.backend.name(),
        programs,
        ring_bytes,
        load: serde_json::from_reader(output).unwrap_or_default(),
    })
}

fn cost(before: &ProgramCost, after: &ProgramCost) -> Cost {
    Cost {
        program: after.program,
        runs: after.runs - before.runs,
        time_ns: after.time_ns - before.time_ns,
        verified: after.verified,
    }
}

/// The load: a process of its own, since a tracer does not trace itself.
struct Load(Child);

impl Load {
    fn start(args: &Args) -> anyhow::Result<Self> {
        let child = Command::new(env::current_exe()?)
            .arg(&args.load)
            .args(["--time", &args.time.to_string()])
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
