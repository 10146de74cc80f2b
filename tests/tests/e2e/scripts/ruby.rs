//! The same of Ruby.

use super::{
    hostile::{checked, lines_of, lost_stacks},
    hunt::{Hunted, hunt},
    interpreters::{Interpreter, numbered, rubies},
    traceback::compare,
};
use anyhow::{Result, ensure};
use fdtrace_tests::harness::{Scratch, turn};
use std::{fs, process::Command};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.rb");

#[test]
fn stacks_of_ruby_are_its_own() -> Result<()> {
    let _turn = turn();
    let names = numbered("ruby", 2, 6..=7).chain(numbered("ruby", 3, 0..=4));
    for ruby in Interpreter::all(rubies(), names) {
        compare("Ruby", &ruby, "cases.rb", CASES, 85)?;
    }
    Ok(())
}

/// Code that lies where other code was: of one name, one file and one first line, each with its own line of the call; and of
/// one line, each with its own file or its own name. It waits now and then: what is new is sent, and there is room for so much.
const REUSED: &str = r##"
300.times do |number|
  sleep 0.05 if number % 30 == 0
  path = "#{ARGV[0]}/#{number}"
  File.write(path, "")
  eval("\n" * (number % 90) + "IO.sysopen(path)", binding, "<made>", 1)
  eval("IO.sysopen(path)", binding, "<file #{number % 90}>", 1)
  eval("def made#{number % 90}(path); IO.sysopen(path); end; made#{number % 90}(path)", binding, "<name>", 1)
end
"##;

#[test]
fn code_of_ruby_that_takes_the_place_of_other_code() -> Result<()> {
    let _turn = turn();
    for ruby in rubies() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.rb");
        fs::write(&script, REUSED)?;
        let folder = scratch.path().join("files");
        fs::create_dir(&folder)?;
        let (_, document) = checked(&scratch, Command::new(&ruby).arg(script).arg(&folder))?;
        let lines = lines_of(&document, "<made>");
        let files = |number: u64| lines_of(&document, &format!("<file {number}>")).values().sum::<u64>();
        let wrong: Vec<_> = (0..90)
            .filter(|number| {
                let most = (300_u64 - *number).div_ceil(90);
                lines.get(&(number + 1)).copied().unwrap_or(0) > most || files(*number) > most
            })
            .collect();
        let all = [lines.values().sum::<u64>(), (0..90).map(files).sum::<u64>()];
        let lost = lost_stacks(&document);
        // As in `hostile`.
        ensure!(
            all.iter().all(|all| *all <= 300 && all + lost >= 297) && wrong.is_empty(),
            "{}: {all:?}, {lost} lost, {wrong:?}: {lines:?}",
            ruby.display()
        );
        let names = lines_of(&document, "<name>");
        ensure!(names.keys().all(|line| *line == 1), "{}: {names:?}", ruby.display());
    }
    Ok(())
}

#[test]
fn names_of_ruby_that_are_made_up() -> Result<()> {
    let _turn = turn();
    let source = "name = \"a\\e[2J\\n\\u202e\" + 'b' * 5000\n\
        20.times { eval(\"IO.sysopen('/etc/passwd')\", binding, name, 1) }\n";
    for ruby in rubies() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.rb");
        fs::write(&script, source)?;
        let (finished, document) = checked(&scratch, Command::new(&ruby).arg(script))?;
        let shown = finished.stdout + &finished.stderr;
        ensure!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{}: {shown}", ruby.display());
        let found = lines_of(&document, "a\u{1b}[2J");
        ensure!(found.values().sum::<u64>() >= 19, "{}: {found:?} {shown}", ruby.display());
    }
    Ok(())
}

/// Threads that wait for what they open while another one runs, and threads in place of others: none has another's lines.
const THREADS: &str = r##"
def reads(path)
  IO.sysopen(path, IO::RDONLY)
end

def writes(path)
  IO.sysopen(path, IO::WRONLY)
end

Thread.new { number = 0; number += 1 while true }
20.times do |number|
  path = "#{ARGV[0]}/#{number}"
  File.mkfifo(path)
  [Thread.new { reads(path) }, Thread.new { sleep 0.01; writes(path) }].each(&:join)
end
exit!(0)
"##;

#[test]
fn threads_of_ruby_have_their_own_lines() -> Result<()> {
    let _turn = turn();
    for ruby in rubies() {
        let scratch = Scratch::new()?;
        let script = scratch.path().join("script.rb");
        fs::write(&script, THREADS)?;
        let folder = scratch.path().join("files");
        fs::create_dir(&folder)?;
        let (_, document) = checked(&scratch, Command::new(&ruby).arg(&script).arg(&folder))?;
        let lines = lines_of(&document, &script.display().to_string());
        let told = [3, 7].map(|line| lines.get(&line).copied().unwrap_or(0));
        ensure!(told.iter().all(|told| (19..=20).contains(told)), "{}: {lines:?}", ruby.display());
    }
    Ok(())
}

/// A service that keeps a file in one of its requests, and closes it in all others.
const SERVICE: Hunted = Hunted {
    file: "service.rb",
    source: r##"
$kept = []
def load_config(name)
  file = File.open(name)
  name.end_with?("hosts") ? $kept << file : file.close
end

def handle(request)
  load_config(request)
end

$stdout.sync = true
puts "ready"
while (line = $stdin.gets)
  line.to_i.times { handle("/etc/passwd"); handle("/etc/hosts") }
  puts "done"
end
exit!(0)
"##,
    function: "load_config",
    line: 4,
    of_runtime: "rb_vm_exec",
};

#[test]
fn a_leak_in_ruby_is_found() -> Result<()> {
    let _turn = turn();
    rubies().iter().try_for_each(|ruby| hunt(ruby, &SERVICE))
}
