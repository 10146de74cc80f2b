//! fdtrace's own chores. `cargo xtask` lists them.

mod audit;
mod bench;
mod build;
mod call_sites;
mod checks;
mod ebpf;
mod install;
mod kernels;
mod libtest;
mod lint;
mod man;
mod programs;
mod run;
mod tables;
mod test;
mod vm;

use anyhow::Result;
use checks::Which;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "fdtrace's own chores")]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds the BPF programs and puts the object where the library embeds it
    Ebpf(ebpf::Args),
    /// Runs all tests: of the units, of the BPF object, on this kernel, and on Debian's in virtual machines
    Test(test::Args),
    Vm(Box<vm::Args>),
    /// Measures what tracing costs, and compares it with what it may cost
    Bench(bench::Args),
    /// Compiles the programs that the end-to-end tests are tried on
    Programs(programs::Args),
    /// Fetches interpreters of Debian's other releases, each release into a root folder of its own in the cache
    Interpreters,
    /// Runs the programs of which everybody knows whether they leak under `fdtrace check`, many times (root)
    Corpus(checks::Args),
    /// Runs programs that nobody here wrote under `fdtrace check`, which has to be silent about them (root)
    #[command(alias = "ordinary")]
    ThirdParty(checks::Args),
    /// Runs versions of published software that are known to leak, and those that were mended, under `fdtrace check` (root)
    KnownLeaks(checks::Args),
    /// Does what docs/ci.md tells people to do, with small projects (root)
    #[command(alias = "recipes")]
    CiExamples(checks::Args),
    /// Writes the manual pages
    Man(man::Args),
    /// Writes docs/kernels.md from the results of the end-to-end tests
    Kernels(kernels::Args),
    /// Writes the table of runtimes in docs/call-sites.md, likewise
    CallSites(call_sites::Args),
    /// Compares the lock file with what is known of vulnerable crates, or says that nothing is known; fetches nothing
    Audit(audit::Args),
    /// Checks formatting and lints
    Lint,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A verb gives its own exit status, because `vm` passes on the status of what ran in the guest.
fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.verb {
        None => {
            Cli::command().print_help()?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Ebpf(args)) => ebpf::run(&args),
        Some(Verb::Test(args)) => test::run(&args),
        Some(Verb::Vm(args)) => vm::run(&args),
        Some(Verb::Bench(args)) => bench::run(&args),
        Some(Verb::Programs(args)) => programs::run(&args),
        Some(Verb::Interpreters) => {
            println!("INTERPRETERS_DIR={}", install::interpreters::roots()?.display());
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Corpus(args)) => checks::run(Which::Corpus, &args),
        Some(Verb::ThirdParty(args)) => checks::run(Which::ThirdParty, &args),
        Some(Verb::KnownLeaks(args)) => checks::run(Which::KnownLeaks, &args),
        Some(Verb::CiExamples(args)) => checks::run(Which::CiExamples, &args),
        Some(Verb::Man(args)) => man::run(&args),
        Some(Verb::Kernels(args)) => kernels::run(&args),
        Some(Verb::CallSites(args)) => call_sites::run(&args),
        Some(Verb::Audit(args)) => audit::run(&args),
        Some(Verb::Lint) => lint::run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
