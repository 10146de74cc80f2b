//! The programs of the call site tests, compiled, with what only their sources know written down beside them.

use super::{
    elf,
    manifest::{Built, FILE, Functions, Made},
    marks,
    table::{Compiler, Entry, Step, Table},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Compiles all programs from a folder of sources into another one, which is emptied before.
///
/// With `required` a compiler that is missing is an error; without, the programs in its language are skipped.
///
/// # Errors
/// When one cannot be compiled.
pub fn build(sources: &Path, directory: &Path, required: bool) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    let make = |(name, program): (&String, &Entry)| {
        let made = make(name, program, sources, directory, required);
        Ok((name.clone(), made.with_context(|| format!("the program {name}"))?))
    };
    let made = Table::load()?.programs.iter().map(make).collect::<Result<BTreeMap<_, _>>>()?;
    Ok(fs::write(directory.join(FILE), serde_json::to_string_pretty(&made)?)?)
}

fn make(name: &str, program: &Entry, sources: &Path, directory: &Path, required: bool) -> Result<Made> {
    if let Some(missing) = program.build.iter().find(|step| !step.compiler.is_there()) {
        let skipped = format!("there is no {} here", missing.compiler.command());
        if required {
            bail!(skipped);
        }
        return Ok(Made::Skipped { skipped });
    }
    let folder = directory.join(name);
    fs::create_dir_all(&folder)?;
    let mut built = Built { path: PathBuf::from(name).join(name), ..Built::default() };
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
fn strip(program: &Path) -> Result<Functions> {
    let functions = elf::functions(program)?;
    succeed(Command::new("strip").arg(program))?;
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
        succeed(&mut command)
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
        let mut command = Command::new(self.command());
        command.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
