mod process;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{
    Outcome,
    options::{self, FormatOptions},
    values,
};
use crate::{
    kernel::{
        Backend, BackendReport, Capabilities, Capability, Error, Kernel, State, handle_table_bytes, survey,
    },
    process::procfs::{Text, fields, number},
    report,
    stacks::Readers,
    text::Terminal,
};

/// Show what this kernel supports, which backend is chosen, and what each missing feature costs
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Show which language runtimes a process has, and whether the frames of its scripts can be read
    #[arg(short, long, value_name = "PID", value_parser = values::pid)]
    pid: Option<u32>,
    #[command(flatten)]
    format: FormatOptions,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    kernel: String,
    preemption: String,
    /// None works when this is null.
    backend: Option<&'static str>,
    reason: String,
    handle_table_bytes: u64,
    capabilities: Vec<CapabilityLine>,
    /// What the tracer keeps once everything is attached.
    kept: Vec<String>,
    reader: Option<ReaderLine>,
    backends: Vec<BackendLine>,
}

/// The process that reads the files of other programs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct ReaderLine {
    uid: u64,
    /// A set of bits.
    capabilities: String,
    no_new_privileges: bool,
    seccomp: bool,
}

#[derive(Serialize)]
struct CapabilityLine {
    name: String,
    held: bool,
    needed_for: &'static str,
}

#[derive(Serialize)]
struct BackendLine {
    name: &'static str,
    works: bool,
    remarks: Vec<String>,
    hooks: Vec<HookLine>,
}

#[derive(Serialize)]
struct HookLine {
    hook: &'static str,
    state: &'static str,
    target: Option<String>,
    reason: Option<String>,
    lost: Option<&'static str>,
}

/// Capabilities, and what does not work without them.
const NEEDS: [(Capability, &str); 6] = [
    (Capability::Bpf, "tracing at all"),
    (Capability::Perfmon, "tracing at all"),
    (Capability::SysPtrace, "stacks and programs of other users' processes"),
    (Capability::Syslog, "kernel addresses: origins by function, kernel stacks, the tracepoint backend"),
    (
        Capability::SysAdmin,
        "what fdtrace itself costs (run statistics); stands in for CAP_BPF and CAP_PERFMON",
    ),
    (Capability::SysResource, "kernels before 5.11 only: memory for maps"),
];

pub(super) fn run(arguments: &Arguments) -> Outcome {
    if let Some(pid) = arguments.pid {
        write(arguments, &process::report(pid)?, process::write_text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let reader = reader_line(&Readers::start()?.status());
    let mut kernel = Kernel::inspect()?;
    let backends = match survey(&mut kernel) {
        Ok(backends) => backends,
        // Without the right to try, the table of capabilities is the answer.
        Err(error @ Error::Capability { .. }) => {
            let report = report(&kernel, &[], reader);
            write(arguments, &report, write_text)?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let report = report(&kernel, &backends, reader);
    write(arguments, &report, write_text)?;
    Ok(if report.backend.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In words, or as a document.
fn write<R: Serialize>(
    arguments: &Arguments,
    report: &R,
    in_words: impl Fn(&mut io::StdoutLock<'static>, &R) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.format.json() {
        return report::write_json(&mut out, report);
    }
    in_words(&mut out, report)
}

fn report(kernel: &Kernel, backends: &[BackendReport], reader: Option<ReaderLine>) -> Report {
    let works = |backend: Backend| {
        backends.iter().any(|report| report.backend == backend && report.failure().is_none())
    };
    let chosen = Backend::preferred(kernel.preemption).into_iter().find(|backend| works(*backend));
    Report {
        schema: "fdtrace.doctor/1",
        kernel: kernel.release.clone(),
        preemption: kernel.preemption.to_string(),
        backend: chosen.map(Backend::name),
        reason: reason(kernel, chosen),
        handle_table_bytes: handle_table_bytes(options::default_handles()),
        capabilities: capabilities(kernel.capabilities),
        kept: Capabilities::after_attaching(false, false).held().map(|kept| kept.to_string()).collect(),
        reader,
        backends: backends.iter().map(backend_line).collect(),
    }
}

fn reason(kernel: &Kernel, chosen: Option<Backend>) -> String {
    let order = Backend::preferred(kernel.preemption).map(Backend::name).join(", then ");
    let why = if kernel.preemption.preempts() {
        "a kernel that may preempt a task inside a program: entry probes miss nothing there"
    } else {
        "a kernel that does not preempt itself: trampolines are cheapest and miss nothing"
    };
    match chosen {
        Some(backend) => format!("{backend} is the first that works of {order}; the order for {why}"),
        None => format!("none of {order} works"),
    }
}

/// What the kernel says of a reader; `None` where it says nothing.
fn reader_line(status: &Text) -> Option<ReaderLine> {
    let field = |name: &str| fields(status.line(name)?).next();
    Some(ReaderLine {
        uid: number(field("Uid:")?)?,
        capabilities: String::from_utf8_lossy(field("CapPrm:")?).into_owned(),
        no_new_privileges: field("NoNewPrivs:") == Some(b"1"),
        seccomp: field("Seccomp:") == Some(b"2"),
    })
}

impl ReaderLine {
    fn sentence(&self) -> String {
        let yes = |is: bool| if is { "yes" } else { "NO" };
        let none = self.capabilities.bytes().all(|digit| digit == b'0');
        format!(
            "user {}, capabilities {}, no new privileges: {}, seccomp filter: {}",
            self.uid,
            if none { "none" } else { self.capabilities.as_str() },
            yes(self.no_new_privileges),
            yes(self.seccomp)
        )
    }
}

fn capabilities(held: Capabilities) -> Vec<CapabilityLine> {
    let line = |(capability, needed_for): &(Capability, &'static str)| CapabilityLine {
        name: capability.to_string(),
        held: held.has(*capability),
        needed_for,
    };
    NEEDS.iter().map(line).collect()
}

fn backend_line(report: &BackendReport) -> BackendLine {
    BackendLine {
        name: report.backend.name(),
        works: report.failure().is_none(),
        remarks: report.remarks.clone(),
        hooks: report.hooks.iter().map(|hook| hook_line(hook.role.name(), &hook.state)).collect(),
    }
}

fn hook_line(hook: &'static str, state: &State) -> HookLine {
    let (state, target, reason, lost) = match state.clone() {
        State::Attached(target) => ("ok", Some(target), None, None),
        State::Alternative(target, reason) => ("alternative", Some(target), Some(reason), None),
        State::Missing(reason, lost) => ("missing", None, Some(reason), Some(lost)),
        State::Fatal(reason) => ("fatal", None, Some(reason), None),
        State::Off => ("off", None, None, None),
    };
    HookLine { hook, state, target, reason, lost }
}

fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let out = &mut Terminal::new(out, false);
    writeln!(out, "Linux {}, preemption: {}", report.kernel, report.preemption)?;
    writeln!(out, "backend: {} ({})", report.backend.unwrap_or("NONE"), report.reason)?;
    writeln!(
        out,
        "the kernel's table of handles takes {} MB by default (--max-handles)\n",
        report.handle_table_bytes / 1_000_000
    )?;
    for capability in &report.capabilities {
        let held = if capability.held { "yes" } else { "NO" };
        writeln!(out, "{:<18} {held:<4} {}", capability.name, capability.needed_for)?;
    }
    writeln!(out, "\nafter attaching, the tracer keeps only: {}", list(&report.kept))?;
    writeln!(
        out,
        "  live also CAP_SYS_ADMIN (its own cost), record and check CAP_DAC_OVERRIDE (parts of a trace)"
    )?;
    let reader = report
        .reader
        .as_ref()
        .map_or("NONE can be started: frames have no names".to_owned(), ReaderLine::sentence);
    writeln!(out, "files of other programs are read by a process of its own: {reader}")?;
    for backend in &report.backends {
        write_backend(out, backend)?;
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn write_backend(out: &mut impl Write, backend: &BackendLine) -> io::Result<()> {
    writeln!(out, "\n{}: {}", backend.name, if backend.works { "works" } else { "does not work" })?;
    for remark in &backend.remarks {
        writeln!(out, "  ! {remark}")?;
    }
    // What another hook of the same name does instead is in the JSON only.
    for hook in backend.hooks.iter().filter(|hook| hook.state != "off") {
        let target = hook.target.as_deref().unwrap_or("-");
        writeln!(out, "  {:<19} {:<12} {target}", hook.hook, hook.state)?;
        if let Some(reason) = &hook.reason {
            writeln!(out, "  {:<32} {reason}", "")?;
        }
        if let Some(lost) = hook.lost {
            writeln!(out, "  {:<32} so: {lost}", "")?;
        }
    }
    Ok(())
}
