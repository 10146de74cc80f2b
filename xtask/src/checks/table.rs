//! The tables of programs, and what is expected of each; the comments in the files say what the fields are.

use crate::run;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::corpus::Verdict;
use serde::Deserialize;
use std::{collections::BTreeSet, env, fs, path::Path};

/// What stands for the port of the web server.
pub(super) const PORT: &str = "{port}";
/// What stands for the version.
pub(super) const VERSION: &str = "{version}";

/// A file of programs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) page: Option<Page>,
    pub(super) programs: Vec<Program>,
}

/// Where the results are written down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    pub(super) file: String,
    pub(super) head: String,
}

/// A program, in all ways in which it is run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Program {
    pub(super) name: String,
    #[serde(rename = "report")]
    _report: Option<String>,
    needs: Vec<String>,
    pub(super) packages: Vec<String>,
    pub(super) install: String,
    pub(super) prepare: String,
    pub(super) command: Vec<String>,
    #[serde(default = "yes")]
    pub(super) output: bool,
    pub(super) expect: Verdict,
    pub(super) reason: Option<String>,
    pub(super) leaking: Vec<String>,
    pub(super) fixed: Vec<String>,
    pub(super) leaked: Option<u64>,
    pub(super) names: Option<String>,
    pub(super) project: Option<String>,
    pub(super) steps: Vec<Step>,
}

/// A line of an example.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Step {
    pub(super) run: String,
    status: i32,
    says: Vec<String>,
    silent: Vec<String>,
    pub(super) aside: bool,
}

/// Reads a table of the checkout.
pub(super) fn read(file: &str) -> Result<Table> {
    let text = fs::read_to_string(run::checkout()?.join(file)).with_context(|| file.to_owned())?;
    let table: Table = toml::from_str(&text).with_context(|| file.to_owned())?;
    table.programs.iter().try_for_each(|program| program.check().with_context(|| program.name.clone()))?;
    let names: BTreeSet<&str> = table.programs.iter().map(|program| program.name.as_str()).collect();
    ensure!(names.len() == table.programs.len(), "two programs of {file} have the same name");
    Ok(table)
}

impl Program {
    /// The first program that it needs and that is not there.
    pub(super) fn missing(&self) -> Option<String> {
        let is_there =
            |name: &str| if name.contains('/') { Path::new(name).exists() } else { is_on_path(name) };
        let words = self.command.first().into_iter().chain(&self.needs);
        words.into_iter().find(|name| !is_there(name)).cloned()
    }

    /// Whether it asks a web server.
    pub(super) fn has_server(&self) -> bool {
        self.command.iter().chain([&self.prepare]).any(|text| text.contains(PORT))
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.name.is_empty(), "it has no name");
        ensure!(self.command.is_empty() != self.steps.is_empty(), "it is no command, or has steps too");
        ensure!(self.expect != Verdict::Inconclusive, "nobody can expect that");
        ensure!(
            (self.expect == Verdict::Leak) == self.reason.is_some(),
            "a leak has a reason, and nothing else has"
        );
        let counts = self.leaked.is_some() && self.names.is_some();
        ensure!(self.leaking.is_empty() || counts, "nobody says how much its versions leak, and where");
        Ok(())
    }
}

impl Step {
    /// What is not as it should be, in how it ended and what it said.
    pub(super) fn wrong(&self, status: i32, said: &str) -> Vec<String> {
        let run = &self.run;
        let status =
            (status != self.status).then(|| format!("{run}: status {status} and not {}", self.status));
        let missing = self.says.iter().filter(|text| !said.contains(text.as_str()));
        let missing = missing.map(|text| format!("{run}: it does not say {text:?} but\n{said}"));
        let surplus = self.silent.iter().filter(|text| said.contains(text.as_str()));
        let surplus = surplus.map(|text| format!("{run}: it says {text:?}:\n{said}"));
        status.into_iter().chain(missing).chain(surplus).collect()
    }
}

/// Whether a program is where the shell would find it.
fn is_on_path(name: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| Path::new(&folder).join(name).is_file()))
}

fn yes() -> bool {
    true
}

#[cfg(test)]
pub(super) fn sample(text: &str) -> Program {
    toml::from_str(text).expect("a program")
}

#[cfg(test)]
mod tests {
    use super::super::{CI_EXAMPLES, KNOWN_LEAKS, THIRD_PARTY};
    use super::*;

    #[test]
    fn the_tables_are_whole() -> Result<()> {
        let programs = read(THIRD_PARTY)?.programs;
        assert!(programs.len() >= 60, "{}", programs.len());
        assert!(programs.iter().any(Program::has_server) && !programs.iter().all(Program::has_server));
        for leak in read(KNOWN_LEAKS)?.programs {
            assert!(!leak.leaking.is_empty(), "{}", leak.name);
            let versions: BTreeSet<_> = leak.leaking.iter().chain(&leak.fixed).collect();
            assert_eq!(versions.len(), leak.leaking.len() + leak.fixed.len(), "{}", leak.name);
        }
        Ok(())
    }

    #[test]
    fn a_leak_needs_a_reason() {
        let mut program = sample("name = 'x'\ncommand = ['true']\nexpect = 'leak'");
        assert!(program.check().is_err());
        program.reason = Some("it never closes its log".into());
        assert!(program.check().is_ok());
    }

    #[test]
    fn the_page_has_what_is_tried_as_it_is() -> Result<()> {
        let read_text = |file: &str| Ok::<_, anyhow::Error>(fs::read_to_string(run::checkout()?.join(file))?);
        let page = read_text("docs/ci.md")?;
        for program in read(CI_EXAMPLES)?.programs {
            for step in program.steps.iter().filter(|step| !step.aside) {
                assert!(page.contains(&step.run), "{}: {}", program.name, step.run);
            }
        }
        for file in
            ["ci/github.yml", "ci/gitlab.yml", "pytest/conftest.py", "known/known.supp", "known/project.toml"]
        {
            assert!(page.contains(&read_text(&format!("tests/ci-examples/{file}"))?), "{file}");
        }
        Ok(())
    }

    #[test]
    fn what_a_step_does_otherwise_is_said() -> Result<()> {
        let step: Step = toml::from_str("run = 'x'\nstatus = 2\nsays = ['a']\nsilent = ['b']")?;
        assert_eq!(step.wrong(2, "a"), Vec::<String>::new());
        assert_eq!(step.wrong(0, "a"), ["x: status 0 and not 2"]);
        assert_eq!(step.wrong(2, "b").len(), 2);
        Ok(())
    }
}
