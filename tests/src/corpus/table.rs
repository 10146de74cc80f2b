//! `expected.toml`: what is known of each program.

use anyhow::{Context as _, Result, ensure};
use fdtrace::model::check::{Class, Verdict};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Inside of the test, so that a virtual machine needs no checkout.
const FILE: &str = include_str!("../../corpus/expected.toml");

/// A program, in all ways in which it is run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name in the table.
    #[serde(skip)]
    pub name: String,
    /// Its source, in the folder of the table.
    pub file: PathBuf,
    /// The mistake, or what looks like one.
    pub bug: String,
    /// The function that must be in the stack of a leak, where no line of the source is.
    pub frame: Option<String>,
    /// What is built beside it.
    pub library: Option<Library>,
    #[serde(default = "yes")]
    guest: bool,
    /// The ways in which it is run.
    pub runs: Vec<Run>,
}

/// A library that a program loads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// Its source, in the folder of the table.
    pub file: PathBuf,
    /// Its name.
    pub output: PathBuf,
    /// For the compiler.
    pub flags: Vec<String>,
}

/// One way to run a program, and what the check has to say then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The program's arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The check's options.
    #[serde(default)]
    pub options: Vec<String>,
    /// The answer.
    pub verdict: Verdict,
    /// Calls kept, at the worst call site of the class.
    pub leaked: Option<u64>,
    /// Handles that the site made, in the image that kept most.
    pub made: Option<u64>,
    /// What is one line of the source may be several call sites.
    #[serde(default)]
    pub split: bool,
    /// What the check calls the site.
    class: Option<Class>,
    /// What else is reported: a kind, and perhaps how many.
    #[serde(default)]
    pub also: Vec<String>,
    /// The program's own exit status.
    #[serde(default)]
    pub exit: i32,
    /// A person would say otherwise: why the rule does not.
    pub miss: Option<String>,
}

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cpp,
    /// Rust.
    Rust,
    /// Go.
    Go,
    /// Python.
    Python,
    /// JavaScript, with Node.
    Node,
    /// Ruby.
    Ruby,
    /// Perl.
    Perl,
    /// PHP.
    Php,
    /// Lua.
    Lua,
    /// What every system calls `sh`.
    Sh,
    /// Bash.
    Bash,
}

/// All programs of the table.
///
/// # Errors
/// When the table contradicts itself.
pub fn programs() -> Result<Vec<Program>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        programs: BTreeMap<String, Program>,
    }
    let table: Table = toml::from_str(FILE).context("tests/corpus/expected.toml")?;
    let mut programs = Vec::new();
    for (name, program) in table.programs {
        let program = Program { name, ..program };
        program.check().with_context(|| program.name.clone())?;
        programs.push(program);
    }
    programs.sort_by_key(Program::language);
    Ok(programs)
}

impl Program {
    /// What it is written in.
    #[must_use]
    pub fn language(&self) -> Language {
        match self.file.extension().and_then(|extension| extension.to_str()) {
            Some("c") => Language::C,
            Some("cc") => Language::Cpp,
            Some("rs") => Language::Rust,
            Some("go") => Language::Go,
            Some("py") => Language::Python,
            Some("js") => Language::Node,
            Some("rb") => Language::Ruby,
            Some("pl") => Language::Perl,
            Some("php") => Language::Php,
            Some("lua") => Language::Lua,
            Some("bash") => Language::Bash,
            _ => Language::Sh,
        }
    }

    /// Whether a virtual machine can run it, which has neither interpreters nor a shell.
    #[must_use]
    pub fn runs_in_guests(&self) -> bool {
        self.guest && self.language().is_compiled()
    }

    /// Its name, and its arguments and options if it is run in several ways.
    #[must_use]
    pub fn name_of(&self, run: &Run) -> String {
        let words = std::iter::once(&self.name).chain(&run.args).chain(&run.options);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.runs.is_empty(), "it is never run");
        ensure!(self.bug.len() > 10, "nobody says what the mistake is");
        for run in &self.runs {
            let counts = run.class().is_some() || run.leaked.is_none();
            ensure!(counts, "{:?}: calls of no class are counted", run.args);
            ensure!(run.verdict != Verdict::Inconclusive, "{:?}: nobody can expect that", run.args);
        }
        Ok(())
    }
}

impl Run {
    /// What the check calls the site, if it has to name it.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        self.class.or_else(|| (self.verdict == Verdict::Leak).then_some(Class::Leak))
    }
}

impl Language {
    /// Whether it becomes machine code before it runs.
    #[must_use]
    pub fn is_compiled(self) -> bool {
        matches!(self, Self::C | Self::Cpp | Self::Rust | Self::Go)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::C => "C",
            Self::Cpp => "C++",
            Self::Rust => "Rust",
            Self::Go => "Go",
            Self::Python => "Python",
            Self::Node => "Node",
            Self::Ruby => "Ruby",
            Self::Perl => "Perl",
            Self::Php => "PHP",
            Self::Lua => "Lua",
            Self::Sh => "sh",
            Self::Bash => "bash",
        })
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::build::marked_lines;
    use std::{fs, path::Path};

    #[test]
    fn there_are_enough_programs_of_each_kind() -> Result<()> {
        let programs = programs()?;
        assert!(programs.len() >= 44, "{}", programs.len());
        let runs = || programs.iter().flat_map(|program| &program.runs);
        let leaks = runs().filter(|run| run.verdict == Verdict::Leak).count();
        let clean = runs().filter(|run| run.verdict == Verdict::Clean).count();
        assert!(leaks >= 40 && clean >= 40, "{leaks} leaks, {clean} clean");
        Ok(())
    }

    /// A leak has a line or a function where the language gives lines; several lines where several ways leak, or where a
    /// descriptor is made from a handle that was made elsewhere. What is clean in all ways has none.
    #[test]
    fn lines_are_marked_where_there_is_a_mistake() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for program in programs()?.iter().filter(|program| program.language().is_compiled()) {
            let text = fs::read_to_string(folder.join(&program.file)).context(program.name.clone())?;
            let leaks = program.runs.iter().any(|run| run.class() == Some(Class::Leak) && !run.is_strict());
            let marked = !marked_lines(&text).is_empty();
            assert!(!leaks || marked != program.frame.is_some(), "{}", program.name);
        }
        Ok(())
    }
}
