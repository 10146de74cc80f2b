//! `cargo xtask programs`: what the end-to-end tests are tried on and virtual machines have no compilers for.

use crate::{checks, install, run};
use anyhow::{Result, anyhow};
use std::{path::PathBuf, process::ExitCode, thread};

/// The programs whose stacks are known, in the checkout.
const SOURCES: &str = "tests/programs";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// First install the compilers and interpreters that are missing (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.install {
        install::packages(&install::CORPUS)?;
    }
    let Programs { callsites, corpus } = Programs::build(args.install)?;
    println!("CALLSITES_DIR={} CORPUS_DIR={}", callsites.display(), corpus.display());
    Ok(ExitCode::SUCCESS)
}

/// Where they are: those whose stacks are known, and those of which everybody knows whether they leak.
pub(crate) struct Programs {
    pub(crate) callsites: PathBuf,
    pub(crate) corpus: PathBuf,
}

impl Programs {
    /// Compiles all. With `required` a compiler or an interpreter that is missing is an error; without, the programs that need
    /// it are left out.
    pub(crate) fn build(required: bool) -> Result<Self> {
        let callsites = run::target("callsites")?;
        let sources = run::checkout()?.join(SOURCES);
        // Compilers of one file use one processor.
        thread::scope(|scope| {
            let others = scope.spawn(|| checks::build_corpus(required));
            fdtrace_tests::callsites::build(&sources, &callsites, required)?;
            let corpus = others.join().map_err(|_| anyhow!("the corpus: a panic"))??;
            Ok(Self { callsites: callsites.clone(), corpus })
        })
    }
}
