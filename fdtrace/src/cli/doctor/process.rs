//! `fdtrace doctor -p PID`: which runtimes a process has, and whether call sites can be lines of its scripts.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    cli::Failure,
    process::{self, Standing},
    runtimes::{Runtime, ScriptFrame, ScriptThread},
    stacks::{FoundRuntime, Readers, runtimes},
    text::{
        Terminal,
        fmt::{counted, escape_control},
    },
};

/// Calls of each thread that are shown.
const SHOWN_CALLS: usize = 3;
/// Threads that are shown in words.
const SHOWN_THREADS: usize = 8;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    pid: u32,
    comm: String,
    runtimes: Vec<RuntimeLine>,
    /// Files that could not be looked at.
    unread: Vec<Unread>,
}

#[derive(Debug, Serialize)]
struct RuntimeLine {
    runtime: Runtime,
    version: Option<String>,
    file: String,
    /// Why its scripts cannot be read; null when they can.
    reason: Option<String>,
    /// Whether `--async` leads from work of other threads to the script that submitted it; null where a runtime has none.
    follows_async: Option<bool>,
    threads: Vec<ThreadLine>,
}

#[derive(Debug, Serialize)]
struct ThreadLine {
    /// Null where the runtime does not keep it.
    tid: Option<u64>,
    /// The innermost calls of scripts.
    stack: Vec<FrameLine>,
}

#[derive(Debug, Serialize)]
struct FrameLine {
    symbol: String,
    file: String,
    line: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Unread {
    file: String,
    reason: String,
}

/// Looks at a process.
pub(super) fn report(pid: u32) -> Result<Report, Failure> {
    if let Some(sentence) = Standing::of(pid).refusal(pid) {
        return Err(Failure::Usage(sentence));
    }
    let readers = Readers::start()?;
    let found = runtimes(pid, &readers, SHOWN_CALLS)
        .with_context(|| format!("cannot read the memory of process {pid} (CAP_SYS_PTRACE)"))?;
    let unread = |(file, reason): (std::sync::Arc<std::path::Path>, String)| Unread {
        file: file.to_string_lossy().into_owned(),
        reason,
    };
    Ok(Report {
        schema: "fdtrace.process/1",
        pid,
        comm: process::identity(pid).comm,
        runtimes: found.found.into_iter().map(runtime_line).collect(),
        unread: found.unread.into_iter().map(unread).collect(),
    })
}

fn runtime_line(found: FoundRuntime) -> RuntimeLine {
    RuntimeLine {
        runtime: found.sighting.runtime,
        version: found.sighting.version,
        file: found.file.to_string_lossy().into_owned(),
        reason: found.sighting.found.err().map(|why| why.to_string()),
        follows_async: found.follows_work,
        threads: found.threads.into_iter().map(thread_line).collect(),
    }
}

fn thread_line(thread: ScriptThread) -> ThreadLine {
    let frame = |frame: ScriptFrame| FrameLine { symbol: frame.function, file: frame.file, line: frame.line };
    ThreadLine { tid: thread.native, stack: thread.frames.into_iter().map(frame).collect() }
}

pub(super) fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let out = &mut Terminal::new(out, false);
    writeln!(out, "{} ({})", escape_control(&report.comm), report.pid)?;
    if report.runtimes.is_empty() {
        writeln!(
            out,
            "  no runtime whose scripts can be read (CPython 3.6 to 3.14, PHP 7.3 to 8.5, Perl 5.30 to 5.42, Ruby 2.6 to 3.4, \
             Node.js 14 to 26, Java 11 to 25)"
        )?;
    }
    for runtime in &report.runtimes {
        write_runtime(out, runtime)?;
    }
    for unread in &report.unread {
        writeln!(out, "  {}: not looked at: {}", escape_control(&unread.file), unread.reason)?;
    }
    Ok(())
}

fn write_runtime(out: &mut impl Write, runtime: &RuntimeLine) -> io::Result<()> {
    let version = runtime.version.as_deref().unwrap_or("of unknown version");
    writeln!(out, "  {} {version} in {}", runtime.runtime.name(), escape_control(&runtime.file))?;
    if let Some(reason) = &runtime.reason {
        return writeln!(out, "    its scripts cannot be read: {reason}");
    }
    match runtime.follows_async {
        Some(true) => writeln!(out, "    its asynchronous calls can be followed (--async)")?,
        Some(false) => {
            writeln!(out, "    its asynchronous calls cannot be followed: it has no symbols of libuv")?;
        }
        None => {}
    }
    if runtime.threads.is_empty() {
        return writeln!(out, "    its scripts can be read");
    }
    writeln!(out, "    its scripts can be read; {} now:", counted(runtime.threads.len() as u64, "thread"))?;
    for thread in runtime.threads.iter().take(SHOWN_THREADS) {
        write_thread(out, thread)?;
    }
    Ok(())
}

fn write_thread(out: &mut impl Write, thread: &ThreadLine) -> io::Result<()> {
    let tid = thread.tid.map_or("-".to_owned(), |tid| tid.to_string());
    let calls: Vec<String> = thread.stack.iter().map(FrameLine::shown).collect();
    let calls = if calls.is_empty() { "in no script".to_owned() } else { calls.join(" < ") };
    writeln!(out, "      {tid:<8} {calls}")
}

impl FrameLine {
    fn shown(&self) -> String {
        let line = self.line.map_or("?".to_owned(), |line| line.to_string());
        format!("{} ({}:{line})", escape_control(&self.symbol), escape_control(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(runtimes: Vec<RuntimeLine>) -> String {
        let report = Report { schema: "", pid: 7, comm: "a\nb".to_owned(), runtimes, unread: Vec::new() };
        let mut out = Vec::new();
        write_text(&mut out, &report).expect("memory");
        String::from_utf8(out).expect("text")
    }

    fn cpython(reason: Option<&str>, threads: Vec<ThreadLine>) -> RuntimeLine {
        RuntimeLine {
            runtime: Runtime::Cpython,
            version: Some("3.11.2".to_owned()),
            file: "/usr/bin/python3.11".to_owned(),
            reason: reason.map(str::to_owned),
            follows_async: None,
            threads,
        }
    }

    #[test]
    fn what_can_be_read_is_shown() {
        let call = FrameLine { symbol: "load".to_owned(), file: "a.py".to_owned(), line: Some(3) };
        let threads =
            vec![ThreadLine { tid: Some(9), stack: vec![call] }, ThreadLine { tid: None, stack: vec![] }];
        assert_eq!(
            shown(vec![cpython(None, threads)]),
            "a\\nb (7)\n  cpython 3.11.2 in /usr/bin/python3.11\n    its scripts can be read; 2 threads now:\n      \
             9        load (a.py:3)\n      -        in no script\n"
        );
    }

    #[test]
    fn what_cannot_be_read_has_a_reason() {
        assert!(shown(vec![cpython(Some("it sleeps"), vec![])]).ends_with("cannot be read: it sleeps\n"));
        assert!(shown(vec![]).contains("no runtime"));
    }

    #[test]
    fn a_process_that_is_not_there_is_wrong_usage() {
        assert!(matches!(report(u32::MAX >> 1), Err(Failure::Usage(_))));
    }
}
