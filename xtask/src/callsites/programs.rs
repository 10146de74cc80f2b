//! The programs of the call site tests, compiled, with what only their sources know written down beside them.

use super::{elf, marks, marks::Place};
use crate::run;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The table of the programs, in the checkout.
const TABLE: &str = "tests/programs/expected.toml";

/// What the table says of how the programs are built. What it expects of them is for the tests to read.
#[derive(Deserialize)]
struct Table {
    programs: BTreeMap<String, Program>,
}

#[derive(Deserialize)]
struct Program {
    build: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    compiler: Compiler,
    sources: Vec<PathBuf>,
    #[serde(default)]
    flags: Vec<String>,
    output: Option<String>,
    #[serde(default)]
    stripped: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Compiler {
    #[serde(rename = "c")]
    C,
    #[serde(rename = "c++")]
    Cpp,
    #[serde(rename = "rust")]
    Rust,
    #[serde(rename = "go")]
    Go,
}

/// What becomes of a program.
#[derive(Serialize)]
#[serde(untagged)]
enum Made {
    Built(Built),
    Skipped { skipped: String },
}

#[derive(Default, Serialize)]
struct Built {
    program: PathBuf,
    build_id: Option<String>,
    marks: BTreeMap<String, Place>,
    functions: Option<elf::Functions>,
}

/// Compiles all programs into a folder of the target directory, and gives its path.
///
/// With `required` a compiler that is missing is an error; without, the programs in its language are skipped.
pub(crate) fn build(required: bool) -> Result<PathBuf> {
    let checkout = run::checkout()?;
    let directory = run::metadata(&checkout, TARGET)?.target_directory.join("callsites").into_std_path_buf();
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    let table = fs::read_to_string(checkout.join(TABLE)).with_context(|| TABLE.to_owned())?;
    let table: Table = toml::from_str(&table).with_context(|| TABLE.to_owned())?;
    let sources = checkout.join(TABLE).parent().context("the table is in a folder")?.to_owned();
    let make = |(name, program): (&String, &Program)| {
        let made = make(name, program, &sources, &directory, required);
        Ok((name.clone(), made.with_context(|| format!("the program {name}"))?))
    };
    let made = table.programs.iter().map(make).collect::<Result<BTreeMap<_, _>>>()?;
    fs::write(directory.join("manifest.json"), serde_json::to_string_pretty(&made)?)?;
    Ok(directory)
}

fn make(name: &str, program: &Program, sources: &Path, directory: &Path, required: bool) -> Result<Made> {
    if let Some(missing) = program.build.iter().find(|step| !step.compiler.is_there()) {
        let skipped = format!("there is no {} here", missing.compiler.command());
        if required {
            bail!(skipped);
        }
        return Ok(Made::Skipped { skipped });
    }
    let folder = directory.join(name);
    fs::create_dir_all(&folder)?;
    let mut built = Built { program: Path::new(name).join(name), ..Built::default() };
    for step in &program.build {
        step.run(name, sources, &folder)?;
        for source in &step.sources {
            marks::collect(&sources.join(source), &mut built.marks)?;
        }
        if step.stripped {
            built.functions = Some(strip(&folder.join(name))?);
        }
    }
    built.build_id = elf::build_id(&folder.join(name))?;
    Ok(Made::Built(built))
}

/// Takes everything out of a program that nobody needs to run it, and says where its functions were.
fn strip(program: &Path) -> Result<elf::Functions> {
    let functions = elf::functions(program)?;
    run::succeed(Command::new("strip").arg(program))?;
    Ok(functions)
}

impl Step {
    fn run(&self, name: &str, sources: &Path, folder: &Path) -> Result<()> {
        let output = self.output.as_deref().unwrap_or(name);
        let mut command = Command::new(self.compiler.command());
        command.current_dir(folder).args(self.compiler.flags());
        let paths = self.sources.iter().map(|source| sources.join(source));
        match self.compiler {
            // Libraries come after what needs them.
            Compiler::C | Compiler::Cpp => command.args(["-o", output]).args(paths).args(&self.flags),
            Compiler::Rust => command.args(["-o", output]).args(&self.flags).args(paths),
            // One file belongs to no module, and needs no network.
            Compiler::Go => {
                command.env("GO111MODULE", "off").args(["-o", output]).args(&self.flags).args(paths)
            }
        };
        run::succeed(&mut command)
    }
}

impl Compiler {
    fn command(self) -> &'static str {
        match self {
            Self::C => "cc",
            Self::Cpp => "c++",
            Self::Rust => "rustc",
            Self::Go => "go",
        }
    }

    /// As people build what they deliver, with debug information and without frame pointers. Go has its own mind about both.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::C | Self::Cpp => &["-g", "-O2", "-fomit-frame-pointer", "-Wall", "-Wextra"],
            Self::Rust => &["-g", "-O", "-Cforce-frame-pointers=no", "--edition=2024"],
            Self::Go => &["build"],
        }
    }

    fn is_there(self) -> bool {
        let question = match self {
            Self::Go => "version",
            Self::C | Self::Cpp | Self::Rust => "--version",
        };
        run::probe(Command::new(self.command()).arg(question)).is_some()
    }
}
