//! The programs, compiled, with their sources beside them.

use super::{Language, Program};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// At the end of the line where a handle is made that is not released.
const MARK: &str = "LEAK";

/// As in a build for tests: with debug information, and with frames that can be walked without it.
const C_FLAGS: [&str; 7] = [
    "-g",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-Wl,-rpath,$ORIGIN",
];
const RUST_FLAGS: [&str; 4] = ["-g", "-O", "-Cforce-frame-pointers=yes", "--edition=2024"];

/// A program that cannot run here.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// Which.
    pub program: String,
    /// What is missing.
    pub reason: String,
}

/// Compiles programs into a folder, one folder in it for each, and puts the sources there. Gives those that cannot be built
/// or run for want of a compiler or an interpreter.
///
/// # Errors
/// When one cannot be compiled.
pub fn build(programs: &[Program], sources: &Path, directory: &Path) -> Result<Vec<Skipped>> {
    let mut skipped = Vec::new();
    for program in programs {
        let language = program.language();
        if !language.is_there() {
            let reason = format!("there is no {} here", language.command());
            skipped.push(Skipped { program: program.name.clone(), reason });
            continue;
        }
        let folder = directory.join(&program.name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        make(program, sources, &folder).with_context(|| format!("the program {}", program.name))?;
    }
    Ok(skipped)
}

fn make(program: &Program, sources: &Path, folder: &Path) -> Result<()> {
    let source = sources.join(&program.file);
    fs::copy(&source, folder.join(file_name(&program.file)?)).context("cannot copy its source")?;
    if let Some(library) = &program.library {
        let mut command = Command::new(Language::C.command());
        command.args(["-g", "-O2", "-o"]).arg(&library.output).arg(sources.join(&library.file));
        succeed(command.args(&library.flags).current_dir(folder))?;
    }
    let mut command = Command::new(program.language().command());
    command.current_dir(folder);
    match program.language() {
        Language::C | Language::Cpp => command.args(C_FLAGS),
        Language::Rust => command.args(RUST_FLAGS),
        // One file belongs to no module, and needs no network.
        Language::Go => command.env("GO111MODULE", "off").arg("build"),
        _ => return Ok(()),
    };
    succeed(command.args(["-o", &program.name]).arg(source))
}

/// The numbers of the lines that have the mark.
pub(super) fn marked_lines(text: &str) -> Vec<u32> {
    let has_mark = |line: &str| line.trim_end_matches("*/").trim_end().ends_with(MARK);
    text.lines().zip(1..).filter(|(line, _)| has_mark(line)).map(|(_, number)| number).collect()
}

pub(super) fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

impl Language {
    /// The compiler or interpreter. Python may be a script that looks for the real one, which nobody wants to test.
    pub(super) fn command(self) -> &'static str {
        const PYTHON: &str = "/usr/bin/python3";
        const LUA: &str = "/usr/bin/lua5.4";
        match self {
            Self::C => "cc",
            Self::Cpp => "c++",
            Self::Rust => "rustc",
            Self::Go => "go",
            Self::Python if Path::new(PYTHON).exists() => PYTHON,
            Self::Python => "python3",
            Self::Node => "node",
            Self::Ruby => "ruby",
            Self::Perl => "perl",
            Self::Php => "php",
            Self::Lua if Path::new(LUA).exists() => LUA,
            Self::Lua => "lua",
            Self::Sh => "sh",
            Self::Bash => "bash",
        }
    }

    fn is_there(self) -> bool {
        let question: &[&str] = match self {
            Self::Go => &["version"],
            // Not every shell knows an option for that.
            Self::Sh | Self::Bash => &["-c", "true"],
            Self::Lua => &["-v"],
            _ => &["--version"],
        };
        let mut command = Command::new(self.command());
        command.args(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_at_the_end_of_its_line() {
        let text = "open(); /* LEAK */\nclose();\n// LEAK is a word\nopen() // LEAK\n";
        assert_eq!(marked_lines(text), [1, 4]);
    }
}
