//! The end-to-end tests in guests: each kernel boots once, and runs them with each backend.

use super::{
    boot::{self, BootReport, Guest, GuestFile, Shown},
    console::CommandReport,
    describe, guest,
    qemu::Ending,
};
use crate::{
    install::kernels::Kernel,
    libtest::{Counts, counts, failures},
    programs::Programs,
    tables::columns,
};
use anyhow::{Context as _, Result};
use fdtrace_tests::guest::Command;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};

#[derive(clap::Args)]
pub(super) struct Options {
    /// A backend to test; can be repeated, all by default
    #[arg(long = "backend", value_name = "BACKEND", conflicts_with = "program", value_parser = BACKENDS)]
    backends: Vec<String>,
    /// Only the tests with this in their name
    #[arg(long, value_name = "TEXT", conflicts_with = "program")]
    filter: Option<String>,
    /// All tests that can run in a guest, an hour for each two kernels, and not only those that tell kernels apart
    #[arg(long, conflicts_with_all = ["filter", "program"])]
    all: bool,
    /// How many guests at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    jobs: u8,
    /// Write what the tests found out about each kernel here: one JSON object on each line
    #[arg(long, value_name = "FILE", conflicts_with = "program")]
    results_out: Option<PathBuf>,
}

impl Options {
    /// All backends, as many machines as there may be.
    pub(super) fn for_all(filter: Option<&str>) -> Self {
        Self {
            backends: Vec::new(),
            filter: filter.map(str::to_owned),
            all: false,
            jobs: 2,
            results_out: None,
        }
    }
}

/// How fdtrace attaches to the kernel, as its command line says it. The first is tested with everything.
const BACKENDS: [&str; 3] = ["kprobe", "fentry", "tracepoint"];

/// What came of one kernel.
struct Outcome {
    kernel: String,
    report: BootReport,
}

pub(super) fn run(
    options: &Options,
    kernels: &[Kernel],
    timeout: Duration,
    programs: &Programs,
) -> Result<bool> {
    let all = BACKENDS.map(str::to_owned);
    let backends = if options.backends.is_empty() { &all[..] } else { &options.backends };
    let commands: Vec<_> = backends.iter().map(|backend| command(backend, options)).collect::<Result<_>>()?;
    let (init, mut files) = guest::suite()?;
    files.extend(guest::programs(programs)?);
    files.extend(guest::busybox());
    let outcomes = boot_all(options.jobs, kernels, &init, &files, &commands, timeout)?;
    if let Some(file) = &options.results_out {
        fs::write(file, results(&outcomes)?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.report.last.ending != Ending::PoweredOff) {
        println!("{}{}", outcome.kernel, describe(&outcome.report));
    }
    print!("{}{}", all_failures(&outcomes), table(&outcomes, backends));
    Ok(outcomes.iter().all(|outcome| passed(&outcome.report, backends.len())))
}

/// tests/guests.toml, which says why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    same_everywhere: Vec<String>,
    twice: Vec<String>,
    each_backend: Vec<String>,
    corpus: Vec<String>,
}

fn choice() -> Result<Choice> {
    toml::from_str(include_str!("../../../tests/guests.toml")).context("tests/guests.toml")
}

/// What one backend is tested by: the tests that were asked for, or those that tell kernels apart, each thing once.
fn command(backend: &str, options: &Options) -> Result<Command> {
    let Choice { same_everywhere, twice, each_backend, corpus } = choice()?;
    let without =
        |tests: Vec<String>| tests.into_iter().flat_map(|test| ["--skip".to_owned(), test]).collect();
    let chosen: Vec<String> = match (&options.filter, backend) {
        (Some(filter), _) => vec![filter.clone()],
        (None, _) if options.all => without(same_everywhere),
        (None, backend) if backend == BACKENDS[0] => without([same_everywhere, twice].concat()),
        (None, _) => each_backend,
    };
    // Without --nocapture libtest swallows what a test that passes has printed, results included, and says only at its end
    // why others failed: a guest that fails before has taken the reasons with it.
    let argv = ["/bin/e2e", "--test-threads=1", "--nocapture"]
        .map(str::to_owned)
        .into_iter()
        .chain(chosen)
        .collect();
    let env = [
        ("FDTRACE_BACKEND", backend),
        ("FDTRACE_BIN", "/bin/fdtrace"),
        ("WORKLOAD_BIN", "/bin/workload"),
        ("CALLSITES_DIR", guest::CALLSITES),
        ("CORPUS_DIR", guest::CORPUS),
        // What the walk by unwind tables finds is for the tests of call sites to say; to verify it takes an emulated machine
        // seconds each time.
        ("FDTRACE_UNWIND", "fp"),
        // Emulated machines are slow: a tenth of the counts.
        ("FDTRACE_SCALE", "10"),
        // The guest is ours: tests may take its last file handle.
        ("FDTRACE_DISTURB", "1"),
        ("RUST_BACKTRACE", "1"),
    ];
    let corpus = corpus.join(",");
    let few = (options.filter.is_none() && !options.all).then_some(("CORPUS_ONLY", corpus.as_str()));
    let env: BTreeMap<_, _> =
        env.into_iter().chain(few).map(|(name, value)| (name.into(), value.into())).collect();
    Ok(Command { label: backend.to_owned(), env, argv })
}

/// Boots every kernel, `jobs` at a time, in order; each line of output says which kernel it is from.
fn boot_all(
    jobs: u8,
    kernels: &[Kernel],
    init: &Path,
    files: &[GuestFile],
    commands: &[Command],
    timeout: Duration,
) -> Result<Vec<Outcome>> {
    let waiting = Mutex::new(kernels.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    let work = || {
        while let Some((index, kernel)) = next() {
            let guest = Guest { kernel: &kernel.image, init, files, timeout };
            let report = boot::boot(&guest, commands, &|line| match line {
                Shown::Output(line) | Shown::Note(line) => println!("[{}] {line}", kernel.name),
            });
            let outcome = report.map(|report| Outcome { kernel: kernel.name.clone(), report });
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push((index, outcome));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Whether every command ran and ended well, and none failed before a restart.
fn passed(report: &BootReport, expected: usize) -> bool {
    let good = |command: &CommandReport| command.status == Some(0) && counts(&command.output).is_some();
    let failed_before_restart =
        report.interrupted.iter().any(|command| !failures(&command.output).is_empty());
    report.last.ending == Ending::PoweredOff
        && report.commands.len() == expected
        && report.commands.iter().all(good)
        && !failed_before_restart
}

/// The tests that failed, by kernel and backend; nothing where none did.
fn all_failures(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for Outcome { kernel, report } in outcomes {
        let ended = report.commands.iter().map(|command| (command, ""));
        let cut_off = report.interrupted.iter().map(|command| (command, ", before a restart"));
        for (command, when) in cut_off.chain(ended) {
            for failure in failures(&command.output) {
                let _ = writeln!(text, "{kernel}, {}{when}: {failure}", command.label);
            }
        }
    }
    text
}

/// One line for each kernel, one column for each backend.
fn table(outcomes: &[Outcome], backends: &[String]) -> String {
    let names = backends.iter().cloned();
    let header = std::iter::once("kernel".to_owned()).chain(names).chain(["restarts".to_owned()]);
    let rows = outcomes.iter().map(|Outcome { kernel, report }| {
        let cells = backends.iter().map(|backend| cell(report, backend));
        std::iter::once(kernel.clone()).chain(cells).chain([report.restarts.to_string()]).collect()
    });
    columns(&std::iter::once(header.collect()).chain(rows).collect::<Vec<Vec<String>>>())
}

fn cell(report: &BootReport, label: &str) -> String {
    let before_restart: usize = report
        .interrupted
        .iter()
        .filter(|command| command.label == label)
        .map(|command| failures(&command.output).len())
        .sum();
    let Some(command) = report.commands.iter().find(|command| command.label == label) else {
        return "did not finish".into();
    };
    let mut text = match (counts(&command.output), command.status) {
        (Some(Counts { passed, failed, ignored }), _) => {
            let ignored = if ignored == 0 { String::new() } else { format!(", {ignored} ignored") };
            format!("{passed} ok, {failed} failed{ignored}")
        }
        (None, status) => format!("no result (status {})", status.unwrap_or(-1)),
    };
    if before_restart > 0 {
        let _ = write!(text, ", {before_restart} before a restart");
    }
    text
}

/// What the tests handed out, with the kernel and the backend that it holds for.
fn results(outcomes: &[Outcome]) -> Result<String> {
    let mut lines = String::new();
    for Outcome { kernel, report } in outcomes {
        for (command, text) in report.results() {
            let result: Value =
                serde_json::from_str(text).with_context(|| format!("{kernel}: not JSON: RESULT {text}"))?;
            lines
                .push_str(&json!({"kernel": kernel, "backend": command.label, "result": result}).to_string());
            lines.push('\n');
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::super::qemu::Run;
    use super::*;

    #[test]
    fn guests_run_what_tells_kernels_apart() -> Result<()> {
        let argv =
            |backend, options: &Options| Ok::<_, anyhow::Error>(command(backend, options)?.argv.join(" "));
        let apart = Options::for_all(None);
        assert!(argv("kprobe", &apart)?.contains("--skip ::each::"));
        assert!(!argv("kprobe", &Options { all: true, ..apart })?.contains("--skip ::each::"));
        assert!(
            argv("fentry", &Options::for_all(None))?.ends_with("counting::counts_from steps::all_together")
        );
        assert!(argv("fentry", &Options::for_all(Some("x")))?.ends_with("--nocapture x"));
        Ok(())
    }

    #[test]
    fn guests_check_runs_that_there_are() -> Result<()> {
        let programs = fdtrace_tests::corpus::programs()?;
        let runs: Vec<String> =
            programs.iter().flat_map(|program| program.runs.iter().map(|run| program.name_of(run))).collect();
        for name in choice()?.corpus {
            assert!(runs.contains(&name), "{name}");
        }
        Ok(())
    }

    const GOOD: &str = "running 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
                        test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 2.00s\n";
    const BAD: &str = "test a ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n";

    fn ran(label: &str, status: i32, output: &str) -> CommandReport {
        CommandReport { label: label.into(), status: Some(status), output: output.into(), results: vec![] }
    }

    fn report(commands: Vec<CommandReport>) -> BootReport {
        BootReport { commands, ..BootReport::default() }
    }

    #[test]
    fn only_a_complete_run_passes() {
        let good = || report(vec![ran("kprobe", 0, GOOD)]);
        let last = Run { ending: Ending::Failed("x".into()), ..Run::default() };
        let failed = BootReport { last, ..good() };
        assert!(passed(&good(), 1));
        assert!(!passed(&good(), 2), "a backend is missing");
        assert!(!passed(&report(vec![ran("kprobe", 101, BAD)]), 1));
        assert!(!passed(&report(vec![ran("kprobe", 0, "")]), 1), "nothing was tested");
        assert!(!passed(&failed, 1));
    }

    #[test]
    fn a_failure_before_a_restart_stays_a_failure() {
        let cut_off = CommandReport { status: None, ..ran("kprobe", 0, "test a ... FAILED\n") };
        let report = BootReport { interrupted: vec![cut_off], ..report(vec![ran("kprobe", 0, GOOD)]) };
        assert!(!passed(&report, 1));
        assert_eq!(cell(&report, "kprobe"), "1 ok, 0 failed, 1 ignored, 1 before a restart");
        let outcome = Outcome { kernel: "6.1".into(), report };
        assert_eq!(all_failures(&[outcome]), "6.1, kprobe, before a restart: a: no reason was printed\n");
    }

    #[test]
    fn the_table_has_a_line_for_each_kernel() {
        let outcome = Outcome { kernel: "6.1".into(), report: report(vec![ran("kprobe", 101, BAD)]) };
        let text = table(&[outcome], &["kprobe".into(), "fentry".into()]);
        let expected = "kernel          kprobe          fentry  restarts\n\
                        6.1     0 ok, 1 failed  did not finish         0\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn results_say_where_they_hold() {
        let command = CommandReport { results: vec![r#"{"x":1}"#.into()], ..ran("kprobe", 0, GOOD) };
        let outcome = Outcome { kernel: "6.1".into(), report: report(vec![command]) };
        let text = results(&[outcome]).expect("valid JSON");
        assert_eq!(text, "{\"backend\":\"kprobe\",\"kernel\":\"6.1\",\"result\":{\"x\":1}}\n");
    }
}
