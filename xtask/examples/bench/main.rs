//! What `cargo xtask bench` measures: loads for a tracer to look at, and the parts of the library that are timed on
//! their own. A program apart from xtask, since it has to be optimized and must not share a process with what measures.
//! Each verb writes one JSON object to its standard output.

mod fold;
mod hold;
mod loads;
mod measure;
mod programs;
mod ring;
mod sample;
mod sites;
mod symbols;
mod trace;

use std::io::Write as _;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
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
    /// Decodes and folds synthetic records
    Fold,
    /// Writes and reads synthetic traces
    Trace,
    /// Names code of the programs in a folder
    Symbols(symbols::Args),
    /// Runs loads under the BPF programs and reads what these have cost
    Programs(programs::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::OpenClose(args) => print(&loads::open_close(&args)?),
        Verb::Sites1(args) => print(&loads::sites(1, &args)?),
        Verb::Sites8(args) => print(&loads::sites(8, &args)?),
        Verb::Sites64(args) => print(&loads::sites(64, &args)?),
        Verb::PingPong(args) => print(&loads::ping_pong(&args)?),
        Verb::Spawn(args) => print(&loads::spawn(&args)?),
        Verb::Idle(args) => print(&loads::idle(&args)),
        Verb::Nothing => Ok(()),
        Verb::Hold(args) => hold::run(&args),
        Verb::Measure(args) => print(&measure::run(&args)?),
        Verb::Fold => print(&fold::run()?),
        Verb::Trace => print(&trace::run()?),
        Verb::Symbols(args) => print(&symbols::run(&args)?),
        Verb::Programs(args) => print(&programs::run(&args)?),
    }
}

fn print(result: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, result)?;
    out.write_all(b"\n")?;
    Ok(())
}
