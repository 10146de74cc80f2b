//! What the tests of Rust's own runner print.

use crate::run::Running;
use anyhow::{Context as _, Result, bail};
use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write as _},
    mem,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Tests that print nothing for so long hang. The longest of them takes some three minutes where nobody else is at work.
const SILENCE: Duration = Duration::from_secs(20 * 60);

/// Runs tests, shows what they print as it comes, and names those that failed at the end: whoever reads the last lines of a
/// long log wants to know which.
///
/// # Errors
/// When tests failed, hang, or cannot be run.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut child =
        Running(command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {command:?}"))?);
    let pieces = pieces(child.0.stdout.take().context("no output")?);
    let mut output = Vec::new();
    loop {
        match pieces.recv_timeout(SILENCE) {
            Ok(piece) => {
                std::io::stdout().write_all(&piece)?;
                std::io::stdout().flush()?;
                output.extend(piece);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let last = String::from_utf8_lossy(&output).lines().last().unwrap_or_default().to_owned();
                bail!("nothing was printed for {} minutes after {last:?}", SILENCE.as_secs() / 60);
            }
        }
    }
    let output = String::from_utf8_lossy(&output);
    let status = child.0.wait()?;
    match failures(&output)[..] {
        _ if status.success() => Ok(()),
        [] => bail!("{status}"),
        ref failed => {
            bail!("failed: {}", failed.iter().map(Failure::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// What comes, as it comes: the runner begins a line with the test's name and ends it with the verdict, and who waits wants
/// to know for what.
fn pieces(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            if sender.send(piece[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
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

/// A test that failed.
#[derive(Debug, PartialEq)]
pub(crate) struct Failure<'a> {
    pub(crate) name: &'a str,
    /// The first line of its error, where one was printed.
    pub(crate) why: Option<&'a str>,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why.unwrap_or("no reason was printed"))
    }
}

/// The tests that failed, of an output that may have no summary. What a test has printed is between its name and its verdict;
/// of output that was held back it is below a line with dashes.
pub(crate) fn failures(output: &str) -> Vec<Failure<'_>> {
    let (mut failed, mut printing, mut why) = (Vec::new(), "", BTreeMap::new());
    for line in output.lines().filter(|line| !line.starts_with("test result:")) {
        let begun = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
        let shown = line.strip_prefix("---- ").and_then(|rest| rest.split_once(" stdout ----"));
        printing = begun.or(shown).map_or(printing, |(name, _)| name);
        let panicked = Some(line).filter(|line| line.contains("panicked at"));
        if let Some(error) = line.strip_prefix("Error: ").or(panicked).filter(|_| !printing.is_empty()) {
            why.entry(printing).or_insert(error);
        }
        if line.ends_with("FAILED") && !printing.is_empty() {
            failed.push(mem::take(&mut printing));
        }
    }
    failed.into_iter().map(|name| Failure { name, why: why.get(name).copied() }).collect()
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
        let named: Vec<_> = failures(output).iter().map(|failure| failure.name).collect();
        assert_eq!(named, ["a", "b", "d"]);
    }

    #[test]
    fn failures_have_the_reason_that_was_printed() {
        let at_once = "test a ... \nError: x\n\nStack backtrace:\nError: y\nFAILED\ntest b ... FAILED\n";
        let failure = |name, why| Failure { name, why };
        assert_eq!(failures(at_once), [failure("a", Some("x")), failure("b", None)]);
        let held_back =
            "test a ... FAILED\ntest b ... ok\n\nfailures:\n\n---- a stdout ----\n2 of 3\nError: x\n";
        assert_eq!(failures(held_back), [failure("a", Some("x"))]);
    }
}
