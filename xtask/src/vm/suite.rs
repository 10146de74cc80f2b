//! The end-to-end tests in guests: each kernel boots once, and runs them with each backend.

use super::{
    boot::{self, BootReport, Guest, GuestFile, Shown},
    console::{CommandReport, GuestCommand},
    describe, guest,
    qemu::Ending,
};
use crate::{
    install::kernels::Kernel,
    libtest::{Counts, counts, failures},
    tables::columns,
    test::Programs,
};
use anyhow::{Context as _, Result};
use clap::ValueEnum;
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
    #[arg(long = "backend", value_name = "BACKEND", conflicts_with = "program")]
    backends: Vec<Backend>,
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

/// How fdtrace attaches to the kernel; the names are those of its command line.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Backend {
    Kprobe,
    Fentry,
    Tracepoint,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
        }
    }
}

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
    let backends = if options.backends.is_empty() { Backend::value_variants() } else { &options.backends };
    let which = Which::of(options);
    let commands: Vec<_> = backends.iter().map(|backend| command(*backend, which)).collect();
    let (init, mut files) = guest::suite()?;
    files.extend(guest::programs(programs)?);
    files.extend(guest::busybox());
    let outcomes = boot_all(options.jobs, kernels, &init, &files, &commands, timeout)?;
    if let Some(file) = &options.results_out {
        fs::write(file, results(&outcomes)?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.report.ending != Ending::PoweredOff) {
        println!("{}{}", outcome.kernel, describe(&outcome.report));
    }
    print!("{}{}", all_failures(&outcomes), table(&outcomes, backends));
    Ok(outcomes.iter().all(|outcome| passed(&outcome.report, backends.len())))
}

/// Which tests are run.
#[derive(Clone, Copy)]
enum Which<'a> {
    /// Those that tell kernels apart, each thing once.
    TellApart,
    /// All that can run in a guest.
    All,
    /// Those with this in their name.
    Named(&'a str),
}

impl<'a> Which<'a> {
    fn of(options: &'a Options) -> Self {
        match &options.filter {
            Some(filter) => Self::Named(filter),
            None if options.all => Self::All,
            None => Self::TellApart,
        }
    }
}

/// What no kernel can change is tested on the one that is running: how files are named, cut, damaged and printed, what two
/// looks have in common, what a command does to its statuses and signals, the doctor's words, how bad the other way to walk
/// a stack would be. And in a guest nobody maps the libraries of a program that is gone, which is then not found.
const SAME_EVERYWHERE: [&str; 25] = [
    "backends::doctor_says_it_in_words",
    "bad_input::",
    "callsites::short_lived",
    "callsites::side_by_side",
    "check::behaves",
    "check::impostors",
    "check::inputs",
    "check::outputs",
    "check::scopes",
    "check::signals",
    "check::stages",
    "check::statuses",
    "check::streams",
    "explain::growth",
    "explain::over_time",
    "explain::refusals",
    "explain::scenarios",
    "explain::traced",
    "following::",
    "hostile::",
    "recording::command",
    "recording::damage",
    "recording::formats",
    "recording::output",
    "_made_up_",
];

/// What is tested in other tests as well, in other company: emulated machines are slow.
const TWICE: [&str; 10] = [
    "::each::",
    "check::containers::one_in_another",
    "check::containers::verdicts_are_the_same",
    "explain::counts::all_together_in_namespaces",
    "explain::moving",
    "explain::scenarios",
    "leaving::sigterm",
    "older::a_record",
    "recording::limits",
    "recording::replay",
];

/// Programs of the corpus that a guest checks unless somebody asks for more: one for each way of the kernel's to keep a
/// handle, and to let go of it.
const CORPUS_ONLY: &str = "buffers-of-clients,descriptors-run-out,duplicated,exec-with-files-open,mmap-without-munmap,number-used-again,\
                           received-twice,rights-dropped,shm-attach-without-detach,taken-from-a-child,\
                           thread-ends-with-file";

fn command<'a>(backend: Backend, which: Which<'a>) -> GuestCommand {
    let without = |tests: &[&'static str]| -> Vec<&'a str> {
        tests.iter().flat_map(|test| ["--skip", *test]).collect()
    };
    let chosen = match (which, backend) {
        (Which::Named(filter), _) => vec![filter],
        (Which::All, _) => without(&SAME_EVERYWHERE),
        (Which::TellApart, Backend::Kprobe) => without(&[&SAME_EVERYWHERE[..], &TWICE].concat()),
        // What does not depend on the backend is tested with one of them.
        (Which::TellApart, _) => vec!["counting::counts_from", "steps::all_together"],
    };
    // Without --nocapture libtest swallows what a test that passes has printed, results included, and says only at its end
    // why others failed: a guest that fails before has taken the reasons with it.
    let argv = ["/bin/e2e", "--test-threads=1", "--nocapture"]
        .into_iter()
        .chain(chosen)
        .map(str::to_owned)
        .collect();
    let env = [
        ("FDTRACE_BACKEND", backend.name()),
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
    let few = matches!(which, Which::TellApart).then_some(("CORPUS_ONLY", CORPUS_ONLY));
    let env: BTreeMap<_, _> =
        env.into_iter().chain(few).map(|(name, value)| (name.into(), value.into())).collect();
    GuestCommand { label: backend.name().into(), env, argv }
}

/// Boots every kernel, `jobs` at a time, in order; each line of output says which kernel it is from.
fn boot_all(
    jobs: u8,
    kernels: &[Kernel],
    init: &Path,
    files: &[GuestFile],
    commands: &[GuestCommand],
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
    report.ending == Ending::PoweredOff
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
fn table(outcomes: &[Outcome], backends: &[Backend]) -> String {
    let names = backends.iter().map(|backend| backend.name().to_owned());
    let header = std::iter::once("kernel".to_owned()).chain(names).chain(["restarts".to_owned()]);
    let rows = outcomes.iter().map(|Outcome { kernel, report }| {
        let cells = backends.iter().map(|backend| cell(report, backend.name()));
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
    use super::*;

    const GOOD: &str = "running 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
                        test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 2.00s\n";
    const BAD: &str = "test a ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n";

    fn ran(label: &str, status: i32, output: &str) -> CommandReport {
        CommandReport { label: label.into(), status: Some(status), output: output.into(), results: vec![] }
    }

    fn report(commands: Vec<CommandReport>) -> BootReport {
        BootReport {
            ending: Ending::PoweredOff,
            commands,
            interrupted: vec![],
            restarts: 0,
            messages: vec![],
            boot_time: None,
        }
    }

    #[test]
    fn only_a_complete_run_passes() {
        let good = || report(vec![ran("kprobe", 0, GOOD)]);
        assert!(passed(&good(), 1));
        assert!(!passed(&good(), 2), "a backend is missing");
        assert!(!passed(&report(vec![ran("kprobe", 101, BAD)]), 1));
        assert!(!passed(&report(vec![ran("kprobe", 0, "")]), 1), "nothing was tested");
        assert!(!passed(&BootReport { ending: Ending::Failed("x".into()), ..good() }, 1));
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
        let text = table(&[outcome], &[Backend::Kprobe, Backend::Fentry]);
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
