//! What the tests of Rust's own runner print.

use anyhow::{Context as _, Result, bail};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    mem,
    process::{Command, Stdio},
};

/// Runs tests, shows what they print as it comes, and names those that failed at the end: whoever reads the last lines of a
/// long log wants to know which.
///
/// # Errors
/// When tests failed, or they cannot be run.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {command:?}"))?;
    let mut output = String::new();
    let mut lines = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        output.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let status = child.wait()?;
    match failed_tests(&output)[..] {
        _ if status.success() => Ok(()),
        [] => bail!("{status}"),
        ref failed => bail!("failed: {}", failed.join(", ")),
    }
}

/// What libtest says at its end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) ignored: u32,
}

/// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
pub(crate) fn counts(output: &str) -> Option<Counts> {
    let summary = output.lines().rev().find_map(|line| line.strip_prefix("test result: "))?;
    let count = |word: &str| {
        let before = summary.split(&format!(" {word}")).next()?;
        before.rsplit(' ').next()?.parse().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

/// The names of the tests that failed, of an output that may have no summary. Between the name of a test and its verdict is
/// what it has printed.
pub(crate) fn failed_tests(output: &str) -> Vec<&str> {
    let (mut failed, mut running) = (Vec::new(), "");
    for line in output.lines().filter(|line| !line.starts_with("test result:")) {
        running =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")).map_or(running, |it| it.0);
        if line.ends_with("FAILED") && !running.is_empty() {
            failed.push(mem::take(&mut running));
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "running 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
                        test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 2.00s\n";
    const BAD: &str = "test a ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n";

    #[test]
    fn the_summary_of_libtest_is_read() {
        assert_eq!(counts(GOOD), Some(Counts { passed: 1, failed: 0, ignored: 1 }));
        assert_eq!(counts(BAD), Some(Counts { passed: 0, failed: 1, ignored: 0 }));
        assert_eq!(counts("killed before the summary"), None);
    }

    #[test]
    fn failures_are_named_whatever_the_tests_print() {
        let output = "test a ... \n2 of 3\nError: x\nFAILED\ntest b ... \nFAILED\ntest c ... ok\ntest d ... FAILED\n\n\
                      failures:\n    a\n\ntest result: FAILED. 1 passed; 3 failed; 0 ignored\n";
        assert_eq!(failed_tests(output), ["a", "b", "d"]);
    }
}
