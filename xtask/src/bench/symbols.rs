//! `cargo xtask bench symbols`
//!
//! The large program is one compiled unit, linked so many times that its debug information, all of it real, has a gigabyte.

use super::{
    programs::Bench,
    table::{Limit, Target, print, print_targets},
};
use crate::run;
use anyhow::Result;
use serde::Deserialize;
use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where the programs are made; a folder that has them already is used as it is
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Leaves the programs there
    #[arg(long)]
    keep: bool,
}

/// Functions of the unit, and how often it is linked.
const FUNCTIONS: usize = 30;
const TYPES: usize = 300;
const UNITS: usize = 3850;

/// Small programs, each of its own build.
const PROGRAMS: usize = 199;

const MAIN: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

#[derive(Deserialize)]
struct Measured {
    processes: u64,
    sites: u64,
    addresses: u64,
    named: u64,
    with_lines: u64,
    inlined: u64,
    seconds: f64,
    slowest_seconds: f64,
    again_seconds: f64,
    /// With the pages of files that were mapped at once, for however short a time.
    peak_mb: f64,
    /// Without them, after a process.
    own_mb: f64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let bench = Bench::build()?;
    let folder = args.folder.clone().unwrap_or_else(|| env::temp_dir().join("fdtrace-bench-symbols"));
    make(&folder)?;
    let measured: Result<Measured> = bench.run(&["symbols", &folder.to_string_lossy()]);
    if !args.keep {
        fs::remove_dir_all(&folder)?;
    }
    show(&measured?);
    Ok(())
}

fn show(measured: &Measured) {
    let row = |what: &str, number: u64| vec![what.to_owned(), number.to_string()];
    print(
        &["symbols, nothing known before", ""],
        &[
            row("processes", measured.processes),
            row("sites", measured.sites),
            row("addresses", measured.addresses),
            row("of them with a function", measured.named),
            row("with a line", measured.with_lines),
            row("with inlined functions", measured.inlined),
            vec!["slowest process, s".to_owned(), format!("{:.2}", measured.slowest_seconds)],
            vec!["all once more, s".to_owned(), format!("{:.3}", measured.again_seconds)],
        ],
    );
    let target = |what, measured, limit, unit| Target { what, measured, limit: Limit::AtMost(limit), unit };
    print_targets(&[
        target(
            "names of 1,000 sites of 200 processes, 1 GB of debug information",
            measured.seconds,
            2.0,
            " s",
        ),
        target("peak resident memory", measured.peak_mb, 500.0, " MB"),
        target("of that its own, not the files'", measured.own_mb, 500.0, " MB"),
    ]);
}

/// Makes what is not there.
fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let cc = |arguments: &[&str]| run::succeed(Command::new("cc").current_dir(folder).args(arguments));
    if !folder.join("large.debug").exists() {
        fs::write(folder.join("unit.c"), unit())?;
        fs::write(folder.join("main.c"), MAIN)?;
        cc(&["-O2", "-g3", "-c", "unit.c"])?;
        cc(&["-O1", "-g", "-c", "main.c"])?;
        make_large(folder)?;
    }
    fs::create_dir_all(folder.join("small"))?;
    for number in 0..PROGRAMS {
        let program = format!("small/{number}");
        if !folder.join(&program).exists() {
            let build_id = format!("-Wl,--build-id=0x{number:040x}");
            cc(&["-g", &build_id, "-o", &program, "main.o", "unit.o"])?;
        }
    }
    Ok(())
}

/// Its symbols are made local, or there would be no linking it twice.
fn make_large(folder: &Path) -> Result<()> {
    let objcopy =
        |arguments: &[&str]| run::succeed(Command::new("objcopy").current_dir(folder).args(arguments));
    objcopy(&["--wildcard", "--localize-symbol=*", "unit.o", "local.o"])?;
    fs::write(folder.join("objects"), format!("main.o {}", "local.o ".repeat(UNITS)))?;
    let mut link = Command::new("cc");
    run::succeed(link.current_dir(folder).args(["-g", "-Wl,--build-id=sha1", "-o", "large", "@objects"]))?;
    objcopy(&["--only-keep-debug", "large", "large.new"])?;
    fs::rename(folder.join("large.new"), folder.join("large.debug"))?;
    objcopy(&["--strip-all", "large"])?;
    objcopy(&["--add-gnu-debuglink=large.debug", "large"])
}

/// Many types, and functions with much inlined into them, as C++ and Rust have.
fn unit() -> String {
    let mut text = "#include <pthread.h>\n#include <signal.h>\n#include <stdint.h>\n#include <stdio.h>\n\
                    #include <stdlib.h>\n#include <sys/stat.h>\nvolatile uint64_t sink;\n"
        .to_owned();
    for number in 0..TYPES {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", kind(number));
    }
    for number in 0..FUNCTIONS {
        let _ = write!(text, "{}", function(number));
    }
    text
}

/// A variable of each, or the compiler would leave its description out.
fn kind(number: usize) -> String {
    let members: String =
        (0..30).map(|member| format!("  struct stat *member_{member}_of_{number};\n")).collect();
    format!("struct kind_{number} {{\n{members}}};\nstruct kind_{number} *kind_{number};\n")
}

fn function(number: usize) -> String {
    let state = format!("struct state_{number}");
    let inlined = "static inline __attribute__((always_inline)) uint64_t";
    let lines: String = (0..6)
        .map(|line| {
            format!(
                "  uint64_t v{line} = twice_{number}(s, x + {line});\n  if (v{line} & {}) {{ sink += v{line}; x += \
                 step_{number}(s, v{line}); }}\n",
                line + 1
            )
        })
        .collect();
    format!(
        "{state} {{ uint64_t a, b; {state} *next; char name[{}]; struct stat st; }};\n\
         {inlined} step_{number}({state} *s, uint64_t x) {{\n  s->a += x;\n  sink = s->b ^ x;\n  return s->a * {} + x;\n}}\n\
         {inlined} twice_{number}({state} *s, uint64_t x) {{\n  uint64_t one = step_{number}(s, x);\n  \
         return one ^ step_{number}(s, one);\n}}\n\
         __attribute__((noinline)) uint64_t work_{number}({state} *s, uint64_t x) {{\n{lines}  return x;\n}}\n",
        number + 8,
        number + 3,
    )
}
