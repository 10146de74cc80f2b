//! What valgrind finds in the programs in C and C++, beside what the check finds.

use crate::run;
use crate::tables::{markdown, milliseconds};
use anyhow::{Context as _, Result, bail, ensure};
use fdtrace_tests::corpus::{Class, Place, Program, Report, Run, checked, timed};
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

pub(super) const PACKAGE: &str = "valgrind";

/// What both found in one program.
struct Compared {
    valgrind: u64,
    check: u64,
    times: (Duration, Duration),
}

/// Runs each program with both and prints the table. The status says whether valgrind has found something that the check has
/// not.
pub(super) fn compare(fdtrace: &Path, places: &[(Program, Place)]) -> Result<ExitCode> {
    if run::probe(Command::new(PACKAGE).arg("--version")).is_none() {
        bail!("no valgrind here: --install brings it");
    }
    let header = ["program", "open, valgrind", "open, check", "valgrind takes", "check takes", "ratio"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let mut missed = Vec::new();
    for (program, place) in places.iter().filter(|(program, _)| program.runs_with_valgrind()) {
        for run in program.runs.iter().filter(|run| run.options.is_empty()) {
            let name = program.name_of(run);
            eprintln!("{name}");
            let compared = both(fdtrace, place, run).with_context(|| name.clone())?;
            rows.push(row(&name, &compared));
            if compared.check < compared.valgrind {
                missed.push(name);
            }
        }
    }
    print!("{}", markdown(&rows));
    println!("\n{} programs. valgrind has found more in {}.", rows.len() - 1, missed.len());
    missed.iter().for_each(|name| println!("{name}"));
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn both(fdtrace: &Path, place: &Place, run: &Run) -> Result<Compared> {
    let mut command = Command::new(PACKAGE);
    command.args(["--track-fds=yes", "--leak-check=no"]).args(&place.command).args(&run.args);
    let valgrind = timed(&mut command)?;
    ensure!(valgrind.status == run.exit, "with valgrind it ends with {}", valgrind.status);
    let (check, report) = checked(fdtrace, place, run)?;
    Ok(Compared { valgrind: most(&valgrind.stderr), check: all(&report), times: (valgrind.time, check.time) })
}

/// Descriptors that the process with most of them has open at its end and has opened itself. Pairs and copies count as
/// valgrind counts them, once for each descriptor.
fn most(text: &str) -> u64 {
    let mut processes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut open = None;
    for line in text.lines() {
        let Some((process, words)) = line.strip_prefix("==").and_then(|line| line.split_once("== ")) else {
            continue;
        };
        let words = words.trim();
        if words.starts_with("Open ") {
            *processes.entry(process).or_default() += 1;
            open = Some(process);
        } else if let Some(process) = open.take()
            && words.starts_with("<inherited from parent>")
        {
            *processes.entry(process).or_default() -= 1;
        }
    }
    processes.into_values().max().unwrap_or(0)
}

/// Handles that the check has listed, of whatever class but those that no descriptor had.
fn all(report: &Report) -> u64 {
    let listed = report.sites.iter().filter(|site| site.class != Class::Mapped);
    listed.map(|site| site.handles.unwrap_or(site.leaked)).sum()
}

fn row(name: &str, compared: &Compared) -> Vec<String> {
    let Compared { valgrind, check, times: (slow, fast) } = compared;
    let ratio = slow.as_secs_f64() / fast.as_secs_f64().max(f64::MIN_POSITIVE);
    vec![
        name.to_owned(),
        valgrind.to_string(),
        check.to_string(),
        milliseconds(*slow),
        milliseconds(*fast),
        format!("{ratio:.1}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
==7== FILE DESCRIPTORS: 5 open (3 std) at exit.
==7== Open file descriptor 4: /dev/null
==7==    at 0x1: open (in /lib/libc.so.6)
==7==    by 0x2: parse (program.c:7)
==7==
==7== Open AF_INET socket 3: 127.0.0.1:1 <-> unbound
==7==    at 0x3: socket
==7==
==7== Open file descriptor 9: /dev/zero
==7==    <inherited from parent>
==7==
words of the program itself: Open
==8== Open file descriptor 3:
==8==    at 0x1: open
";

    #[test]
    fn what_was_inherited_does_not_count_and_processes_are_apart() {
        assert_eq!(most(TEXT), 2);
        assert_eq!(most("nothing"), 0);
    }
}
