//! The same of Perl.

use super::{
    hostile::{checked, expected, lines_of},
    hunt::{Service, TIMES, folder, report_text},
    interpreters::{Interpreter, perls},
    traceback::compare,
    traced,
};
use anyhow::{Result, ensure};
use fdtrace_tests::harness::{Document, Recorder, Scratch, TIMEOUT, Tracer, finish_with, say, turn};
use std::{fs, iter, path::PathBuf, process::Command};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.pl");

#[test]
fn stacks_of_perl_are_its_own() -> Result<()> {
    let _turn = turn();
    for perl in Interpreter::all(perls(), iter::once("perl".to_owned())) {
        compare("Perl", &perl, "cases.pl", CASES, 95)?;
    }
    Ok(())
}

/// A service that keeps a file in one of its requests, and closes it in all others.
const SERVICE: &str = r#"
use strict;
use warnings;
use POSIX ();
package Config::Cache;

my @kept;

sub load_config {
    my ($name) = @_;
    if (open my $file, '<', $name) {
        push @kept, $file if $name =~ /hosts$/;
    }
}

package main;

sub handle {
    Config::Cache::load_config($_[0]);
}

$| = 1;
print "ready\n";
while (my $line = <STDIN>) {
    for (1 .. $line) {
        handle('/etc/passwd');
        handle('/etc/hosts');
    }
    print "done\n";
}
# The end of the program would close what is open.
POSIX::_exit(0);
"#;
/// Where the leak is, counted by hand.
const LINE: u32 = 11;

fn service(scratch: &Scratch) -> Result<PathBuf> {
    let script = scratch.path().join("service.pl");
    fs::write(&script, SERVICE)?;
    Ok(script)
}

fn is_named(document: &Document) -> bool {
    let mut frames = document.sites.iter().flat_map(|site| &site.user_stack);
    frames.any(|frame| {
        frame.symbol.as_deref() == Some("Config::Cache::load_config")
            && frame.line == Some(LINE)
            && frame.runtime.is_some()
    })
}

#[test]
fn a_leak_in_perl_is_found_live() -> Result<()> {
    let _turn = turn();
    for perl in perls() {
        let scratch = Scratch::new()?;
        let mut service = Service::start(&perl, &service(&scratch)?)?;
        let tracer = Tracer::start(["-p", &service.pid()])?;
        service.leak()?;
        let document = tracer.wait_for(TIMEOUT, is_named)?;
        ensure!(is_named(&document), "{:?}", document.sites);
        tracer.interrupt()?;
    }
    Ok(())
}

#[test]
fn a_leak_in_perl_is_found_in_a_trace() -> Result<()> {
    let _turn = turn();
    for perl in perls() {
        let scratch = Scratch::new()?;
        let trace = scratch.path().join("trace");
        let mut service = Service::start(&perl, &service(&scratch)?)?;
        let recorder = Recorder::start(&trace, ["--min-age", "0s", "-p", &service.pid()])?;
        service.leak()?;
        recorder.wait_for(TIMEOUT, is_named)?;
        recorder.interrupt()?;
        drop(service);
        let text = report_text(&trace)?;
        let place = format!("Config::Cache::load_config at {}/service.pl:{LINE}", folder(&scratch));
        ensure!(text.contains(&place), "{text}");
        ensure!(!text.contains("Perl_runops_standard"), "the interpreter's own frames are shown: {text}");
    }
    Ok(())
}

#[test]
fn a_leak_in_perl_is_found_by_the_gate() -> Result<()> {
    let _turn = turn();
    for perl in perls() {
        let scratch = Scratch::new()?;
        let run = |times: u64| {
            let mut command = traced("check")?;
            command.arg("--").arg(&perl).arg(service(&scratch)?);
            let input = scratch.path().join("input");
            fs::write(&input, format!("{times}\n"))?;
            finish_with(&mut command, fs::File::open(input)?.into(), TIMEOUT)
        };
        let leaks = run(TIMES)?;
        ensure!(leaks.status.code() == Some(23), "{}: {}", leaks.status, leaks.stderr);
        ensure!(leaks.stderr.contains("files opened by Config::Cache::load_config"), "{}", leaks.stderr);
        ensure!(leaks.stderr.contains(&format!("service.pl:{LINE}")), "{}", leaks.stderr);
        let tidy = run(1)?;
        ensure!(tidy.status.success(), "one file is no leak: {}", tidy.stderr);
    }
    Ok(())
}

/// Code that lies where other code was: of one name, each with its own line of the call.
const REUSED: &str = r#"
use POSIX ();
no warnings 'redefine';
our ($folder, $number) = @ARGV;
# Until the tables of the program are read: what comes too fast for that has no stack.
POSIX::close(POSIX::open($0)) for 1 .. 20;
select undef, undef, undef, 1;
for $number (0 .. 999) {
    open(my $file, '>', "$folder/$number") or die;
    close $file;
    eval "\n" x ($number % 90) . 'sub made { POSIX::open("$folder/$number") } made(); 1' or die;
}
POSIX::_exit(0);
"#;

#[test]
fn code_of_perl_that_takes_the_place_of_other_code() -> Result<()> {
    let _turn = turn();
    for perl in perls() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.pl");
        fs::write(&script, REUSED)?;
        let folder = scratch.path().join("files");
        fs::create_dir(&folder)?;
        let (_, document) = checked(&scratch, Command::new(&perl).arg(script).arg(&folder))?;
        let lines = lines_of(&document, "(eval)");
        let all: u64 = lines.values().sum();
        let wrong: Vec<_> =
            (0..90).filter(|line| lines.get(&(line + 1)).copied().unwrap_or(0) > expected(*line)).collect();
        ensure!((990..=1000).contains(&all) && wrong.is_empty(), "{all}, {wrong:?}: {lines:?}");
    }
    Ok(())
}

#[test]
fn files_of_perl_that_are_made_up() -> Result<()> {
    let _turn = turn();
    let name = format!("a\u{1b}[2J\u{202e}{}", "b".repeat(5000));
    let script = format!(
        "use POSIX ();\n# line 7 \"{name}\"\nPOSIX::open('/etc/passwd') for 1 .. 20; POSIX::_exit(0);\n"
    );
    for perl in perls() {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("script.pl");
        fs::write(&path, &script)?;
        let (finished, document) = checked(&scratch, Command::new(&perl).arg(path))?;
        let shown = finished.stdout + &finished.stderr;
        ensure!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{}: {shown}", perl.display());
        let found = lines_of(&document, "a\u{1b}[2J");
        ensure!(found.get(&7).is_some_and(|calls| *calls >= 19), "{found:?} {shown}");
    }
    Ok(())
}

#[test]
fn scripts_of_perl_that_end_at_once() -> Result<()> {
    const TIMES: usize = 20;
    let _turn = turn();
    for perl in perls() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.pl");
        fs::write(&script, "use POSIX ();\nPOSIX::open('/etc/passwd');\nPOSIX::_exit(0);\n")?;
        let line = format!("{} {}; ", perl.display(), script.display()).repeat(TIMES);
        let (_, document) = checked(&scratch, Command::new("/bin/sh").args(["-c", &(line + "true")]))?;
        let found = lines_of(&document, &script.display().to_string());
        let calls: u64 = found.values().sum();
        say(&format!("{calls} of {TIMES} scripts of Perl that end at once have their line"));
        ensure!(found.keys().all(|line| *line == 2) && calls + 1 >= TIMES as u64, "{found:?}");
    }
    Ok(())
}
