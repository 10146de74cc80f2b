//! Programs that are called like interpreters.

use super::{check, ends, ran};
use anyhow::{Context as _, Result};
use fdtrace_tests::harness::{Scratch, TIMEOUT, finish_with, say, turn, workload};
use std::{
    fs::{self, File},
    path::Path,
};

/// More than a site may keep, and fewer than one of an interpreter may.
const FEW: &str = "kept=5";

#[test]
fn a_name_does_not_make_an_interpreter() -> Result<()> {
    let _turn = turn();
    for name in ["sh96", "perl5-app", "python3.11", "bash", "node", "dash"] {
        let scratch = Scratch::new()?;
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir(path("files"))?;
        fs::write(path("input"), "go\nexit 0\n")?;
        fs::copy(workload()?, path(name))?;
        let mut command = check(&[], &[])?;
        command.arg(path(name)).arg("--dir").arg(path("files")).arg(FEW);
        let found = finish_with(&mut command, File::open(path("input"))?.into(), TIMEOUT)?;
        ends(&found, 23, "LEAK").with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Of those whose lines cannot be had.
#[test]
fn an_interpreter_is_one_whatever_it_shows() -> Result<()> {
    let _turn = turn();
    const SHELL: &str = "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null; :";
    for (program, option, script) in [("/bin/bash", "-c", SHELL), ("/bin/dash", "-c", SHELL)] {
        if !Path::new(program).exists() {
            say(&format!("no {program} here"));
            continue;
        }
        let found = ran(&mut check(&[], &[program, option, script])?)?;
        ends(&found, 0, "no leak").with_context(|| program.to_owned())?;
    }
    Ok(())
}
