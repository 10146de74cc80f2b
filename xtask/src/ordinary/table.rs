//! What is run, and what is expected of it.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::corpus::Verdict;
use serde::Deserialize;
use std::{collections::BTreeSet, env, path::Path};

const FILE: &str = include_str!("../../../tests/ordinary.toml");

/// A program of the table; the comment in the file says what the fields are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    pub(super) name: String,
    #[serde(default)]
    pub(super) prepare: String,
    pub(super) command: Vec<String>,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default = "yes")]
    pub(super) output: bool,
    #[serde(default = "clean")]
    pub(super) expect: Verdict,
    pub(super) reason: Option<String>,
}

/// All programs of the table.
pub(super) fn programs() -> Result<Vec<Program>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        programs: Vec<Program>,
    }
    let table: Table = toml::from_str(FILE).context("tests/ordinary.toml")?;
    table.programs.iter().try_for_each(|program| program.check().with_context(|| program.name.clone()))?;
    let names: BTreeSet<&str> = table.programs.iter().map(|program| program.name.as_str()).collect();
    ensure!(names.len() == table.programs.len(), "two programs of tests/ordinary.toml have the same name");
    Ok(table.programs)
}

impl Program {
    /// The first program that it needs and that is not on the path.
    pub(super) fn missing(&self) -> Option<&str> {
        let words = self.command.first().into_iter().chain(&self.needs);
        words.map(String::as_str).find(|name| !is_on_path(name))
    }

    /// What would bring them.
    pub(super) fn missing_packages(&self) -> Option<impl Iterator<Item = &str>> {
        self.missing().map(|_| self.packages.iter().map(String::as_str))
    }

    /// Whether it asks a web server.
    pub(super) fn has_server(&self) -> bool {
        self.command.iter().chain([&self.prepare]).any(|text| text.contains(PORT))
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.command.is_empty(), "it is no command");
        ensure!(self.expect != Verdict::Inconclusive, "nobody can expect that");
        ensure!(
            (self.expect == Verdict::Leak) == self.reason.is_some(),
            "a leak has a reason, and nothing else has"
        );
        Ok(())
    }
}

/// What stands for the port of the web server.
pub(super) const PORT: &str = "{port}";

/// Whether a program is where the shell would find it.
pub(crate) fn is_on_path(name: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| Path::new(&folder).join(name).is_file()))
}

fn yes() -> bool {
    true
}

fn clean() -> Verdict {
    Verdict::Clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() -> Result<()> {
        let programs = programs()?;
        assert!(programs.len() >= 60, "{}", programs.len());
        assert!(programs.iter().any(Program::has_server) && !programs.iter().all(Program::has_server));
        Ok(())
    }

    #[test]
    fn a_leak_needs_a_reason() -> Result<()> {
        let mut program = programs()?.remove(0);
        program.expect = Verdict::Leak;
        assert!(program.check().is_err());
        program.reason = Some("it never closes its log".into());
        program.check()
    }
}
