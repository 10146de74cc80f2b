//! What the BPF programs cost, by the kernel's own clock: it does not drift with the machine's load as wall time does.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use fdtrace::kernel::{Filters, Kernel, ProgramCost, Settings, Stacks, Tracer};
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
}

#[derive(Clone, Copy, ValueEnum)]
enum Hooks {
    Reject,
    Off,
    User,
    Both,
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
                Self::Reject | Self::Both => Stacks::Both,
            },
            ring_bytes: RING_BYTES,
            max_handles: 262_144,
            failures: true,
            mappings: false,
            min_age_ns: 0,
            object: None,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Costs {
    backend: &'static str,
    programs: Vec<Cost>,
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
    tracer.time_programs(true).context("run statistics cannot be turned on")?;
    let before = tracer.costs();
    let mut load = Load::start(args)?;
    while load.0.try_wait()?.is_none() {
        tracer.wait(Duration::from_millis(10), None);
        while tracer.drain(1024, |_| {}) > 0 {}
    }
    let after = tracer.costs();
    tracer.time_programs(false)?;
    if !load.0.wait()?.success() {
        bail!("the load failed");
    }
    let programs = before.iter().zip(&after).map(|(before, after)| cost(before, after)).collect();
    Ok(Costs { backend: tracer.report.backend.name(), programs })
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
            .stdout(Stdio::null())
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
