//! What the BPF programs cost, by the kernel's own clock; and loads for a tracer to look at. A program apart from `library`,
//! since it is built with frame pointers, starts itself below its own hooks, and writes tables: `cargo xtask bench hooks` and
//! `cargo xtask bench unwind`. A load writes one JSON object to its standard output.
#![expect(clippy::disallowed_methods, reason = "a bench makes the files that it opens")]
#![allow(clippy::cast_precision_loss, reason = "counts and sizes of some seconds")]

mod costs;
mod hold;
mod loads;
mod measure;
mod programs;
mod ring;
mod sample;
mod sites;
mod table;
mod unwind;

use std::io::Write as _;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "hooks")]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What `cargo bench` says
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs loads under the BPF programs and reads what these have cost (root)
    Costs(costs::Args),
    /// Call chains by unwind tables, against those by frame pointers (root)
    Unwind(unwind::Args),
    /// Opens and closes one file, over and over
    OpenClose(loads::Args),
    /// Opens and closes one file, over and over, from one call site below functions of its own
    #[command(name = "sites-1")]
    Sites1(loads::Args),
    /// The same from 8 call sites in turn
    #[command(name = "sites-8")]
    Sites8(loads::Args),
    /// The same from 64
    #[command(name = "sites-64")]
    Sites64(loads::Args),
    /// Sends one byte to and fro between two threads; opens nothing
    PingPong(loads::Args),
    /// Starts processes that end at once
    Spawn(loads::Args),
    /// Waits
    Idle(loads::Args),
    /// Does nothing; what `spawn` starts
    Nothing,
    /// Opens many things and keeps them
    Hold(hold::Args),
    /// Runs a command, and says how long it took and how much memory
    Measure(measure::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        None => costs::run(&costs::Args::default()),
        Some(Verb::Costs(args)) => costs::run(&args),
        Some(Verb::Unwind(args)) => unwind::run(&args),
        Some(Verb::OpenClose(args)) => print(&loads::open_close(&args)?),
        Some(Verb::Sites1(args)) => print(&loads::sites(1, &args)?),
        Some(Verb::Sites8(args)) => print(&loads::sites(8, &args)?),
        Some(Verb::Sites64(args)) => print(&loads::sites(64, &args)?),
        Some(Verb::PingPong(args)) => print(&loads::ping_pong(&args)?),
        Some(Verb::Spawn(args)) => print(&loads::spawn(&args)?),
        Some(Verb::Idle(args)) => print(&loads::idle(&args)),
        Some(Verb::Nothing) => Ok(()),
        Some(Verb::Hold(args)) => hold::run(&args),
        Some(Verb::Measure(args)) => print(&measure::run(&args)?),
    }
}

fn print(result: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, result)?;
    out.write_all(b"\n")?;
    Ok(())
}
