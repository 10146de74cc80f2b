//! A leak is found in a script that nobody has written for fdtrace: live, in a trace, and by the gate.

use super::{interpreters::python, traced};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{
    Document, Killed, Recorder, Scratch, TIMEOUT, Tracer, fdtrace, finish, finish_with, lines, turn,
};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
};

/// A service that keeps a file in one of its requests, and closes it in all others.
const SERVICE: &str = r#"
import os, sys

kept = []

def load_config(name):
    file = os.open(name, os.O_RDONLY)
    if name.endswith("hosts"):
        kept.append(file)
    else:
        os.close(file)

def handle(request):
    load_config(request)

print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        handle("/etc/passwd")
        handle("/etc/hosts")
    print("done", flush=True)
"#;
/// Where the leak is, counted by hand.
const LINE: u32 = 7;
pub(super) const TIMES: u64 = 30;

/// The service's file, while the folder is there.
fn service(scratch: &Scratch) -> Result<PathBuf> {
    let script = scratch.path().join("service.py");
    fs::write(&script, SERVICE)?;
    Ok(script)
}

/// The site of the leak, and its frame that is the author's.
fn is_named(document: &Document) -> bool {
    let mut frames = document.sites.iter().flat_map(|site| &site.user_stack);
    frames.any(|frame| {
        frame.symbol.as_deref() == Some("load_config") && frame.line == Some(LINE) && frame.runtime.is_some()
    })
}

/// A service that is written for a test.
pub(super) struct Hunted {
    pub(super) file: &'static str,
    pub(super) source: &'static str,
    /// Where the leak is, counted by hand.
    pub(super) function: &'static str,
    pub(super) line: u32,
    /// What functions of the runtime itself are called, which are not shown.
    pub(super) of_runtime: &'static str,
}

impl Hunted {
    fn is_named(&self, document: &Document) -> bool {
        let mut frames = document.sites.iter().flat_map(|site| &site.user_stack);
        frames.any(|frame| {
            frame.symbol.as_deref() == Some(self.function)
                && frame.line == Some(self.line)
                && frame.runtime.is_some()
        })
    }
}

/// Finds its leak while it runs, in a trace, and by the gate.
pub(super) fn hunt(interpreter: &Path, hunted: &Hunted) -> Result<()> {
    let scratch = Scratch::new()?;
    let (script, trace) = (scratch.path().join(hunted.file), scratch.path().join("trace"));
    fs::write(&script, hunted.source)?;
    let is_named = |document: &Document| hunted.is_named(document);

    let mut service = Service::start(interpreter, &script)?;
    let tracer = Tracer::start(["-p", &service.pid()])?;
    service.leak()?;
    let document = tracer.wait_for(TIMEOUT, is_named)?;
    ensure!(is_named(&document), "{:?}", document.sites);
    tracer.interrupt()?;

    let recorder = Recorder::start(&trace, ["--min-age", "0s", "-p", &service.pid()])?;
    service.leak()?;
    recorder.wait_for(TIMEOUT, is_named)?;
    recorder.interrupt()?;
    drop(service);
    let text = report_text(&trace)?;
    let Hunted { file, function, line, of_runtime, .. } = hunted;
    ensure!(text.contains(function) && text.contains(&format!("{file}:{line}")), "{text}");
    ensure!(!text.contains(of_runtime), "the runtime's own frames are shown: {text}");

    let input = scratch.path().join("input");
    fs::write(&input, format!("{TIMES}\n"))?;
    let mut command = traced("check")?;
    command.arg("--").arg(interpreter).arg(&script);
    let leaks = finish_with(&mut command, fs::File::open(input)?.into(), TIMEOUT)?;
    ensure!(leaks.status.code() == Some(23), "{}: {}", leaks.status, leaks.stderr);
    ensure!(leaks.stderr.contains(&format!("files opened by {function}")), "{}", leaks.stderr);
    Ok(())
}

/// A service, before its first request.
pub(super) struct Service {
    process: Killed,
    says: Receiver<String>,
    input: ChildStdin,
}

impl Service {
    pub(super) fn start(interpreter: &Path, script: &Path) -> Result<Self> {
        let mut command = Command::new(interpreter);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Killed(command.spawn()?);
        let says = lines(process.0.stdout.take().context("no output")?);
        let input = process.0.stdin.take().context("no input")?;
        let service = Self { process, says, input };
        service.answers("ready")?;
        Ok(service)
    }

    fn answers(&self, answer: &str) -> Result<()> {
        let line = self.says.recv_timeout(TIMEOUT).context("no answer")?;
        ensure!(line == answer, "{line} instead of {answer}");
        Ok(())
    }

    pub(super) fn leak(&mut self) -> Result<()> {
        writeln!(self.input, "{TIMES}")?;
        self.answers("done")
    }

    pub(super) fn pid(&self) -> String {
        self.process.0.id().to_string()
    }
}

#[test]
fn live() -> Result<()> {
    let _turn = turn();
    let Some(python) = python() else { return Ok(()) };
    let scratch = Scratch::new()?;
    let mut service = Service::start(&python, &service(&scratch)?)?;
    let tracer = Tracer::start(["-p", &service.pid()])?;
    service.leak()?;
    let document = tracer.wait_for(TIMEOUT, is_named)?;
    ensure!(is_named(&document), "{:?}", document.sites);
    tracer.interrupt()?;
    Ok(())
}

#[test]
fn recorded() -> Result<()> {
    let _turn = turn();
    let Some(python) = python() else { return Ok(()) };
    let scratch = Scratch::new()?;
    let trace = scratch.path().join("trace");
    let mut service = Service::start(&python, &service(&scratch)?)?;
    let recorder = Recorder::start(&trace, ["--min-age", "0s", "-p", &service.pid()])?;
    service.leak()?;
    recorder.wait_for(TIMEOUT, is_named)?;
    recorder.interrupt()?;
    // What is read later needs neither the process nor its files.
    drop(service);
    let text = report_text(&trace)?;
    ensure!(text.contains(&format!("load_config at {}/service.py:{LINE}", folder(&scratch))), "{text}");
    ensure!(!text.contains("_PyEval_EvalFrameDefault"), "the interpreter's own frames are shown: {text}");
    Ok(())
}

/// The last part of the scratch's path, as shortened paths have it.
pub(super) fn folder(scratch: &Scratch) -> String {
    let name = scratch.path().file_name();
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(super) fn report_text(trace: &Path) -> Result<String> {
    let mut command = Command::new(fdtrace()?);
    let finished = finish(command.arg("report").arg(trace), TIMEOUT)?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    Ok(finished.stdout)
}

#[test]
fn checked() -> Result<()> {
    let _turn = turn();
    let Some(python) = python() else { return Ok(()) };
    let scratch = Scratch::new()?;
    let run = |times: u64| {
        let mut command = traced("check")?;
        command.arg("--").arg(&python).arg(service(&scratch)?);
        let input = scratch.path().join("input");
        fs::write(&input, format!("{times}\n"))?;
        finish_with(&mut command, fs::File::open(input)?.into(), TIMEOUT)
    };
    let leaks = run(TIMES)?;
    ensure!(leaks.status.code() == Some(23), "{}: {}", leaks.status, leaks.stderr);
    ensure!(leaks.stderr.contains("files opened by load_config"), "{}", leaks.stderr);
    ensure!(leaks.stderr.contains(&format!("service.py:{LINE}")), "{}", leaks.stderr);
    let tidy = run(1)?;
    ensure!(tidy.status.success(), "one file is no leak: {}", tidy.stderr);
    Ok(())
}

/// By the rule of call sites: nine lines that keep one each are clean, and one line that keeps three is none.
#[test]
fn lines_are_sites() -> Result<()> {
    let _turn = turn();
    let Some(python) = python() else { return Ok(()) };
    let scratch = Scratch::new()?;
    let nine: String = (0..9).map(|number| format!("f{number} = os.open('/etc/passwd', 0)\n")).collect();
    let three = "kept = [os.open('/etc/passwd', 0) for _ in range(3)]\n";
    for (body, status) in [(nine.as_str(), 0), (three, 23)] {
        let script = scratch.path().join("script.py");
        fs::write(&script, format!("import os\n{body}"))?;
        let finished = finish(traced("check")?.arg("--").arg(&python).arg(script), TIMEOUT)?;
        ensure!(finished.status.code() == Some(status), "{body}: {}", finished.stderr);
    }
    Ok(())
}
