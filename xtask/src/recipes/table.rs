//! The recipes, and what has to come of them.

use crate::ordinary::is_on_path;
use anyhow::{Context as _, Result};
use serde::Deserialize;

const FILE: &str = include_str!("../../../tests/recipes/recipes.toml");

/// A recipe; the comment in the file says what the fields are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) project: String,
    needs: Vec<String>,
    #[serde(default)]
    packages: Vec<String>,
    pub(super) steps: Vec<Step>,
}

/// A line of a recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) run: String,
    #[serde(default)]
    status: i32,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    silent: Vec<String>,
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "only the comparison with the page asks for it"))]
    aside: bool,
}

pub(super) fn recipes() -> Result<Vec<Recipe>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        recipes: Vec<Recipe>,
    }
    let table: Table = toml::from_str(FILE).context("tests/recipes/recipes.toml")?;
    Ok(table.recipes)
}

impl Recipe {
    /// The first program that it needs and that is not on the path.
    pub(super) fn missing(&self) -> Option<&str> {
        self.needs.iter().map(String::as_str).find(|name| !is_on_path(name))
    }

    /// What would bring them.
    pub(super) fn packages(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().map(String::as_str)
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

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/ci.md");

    #[test]
    fn the_page_has_every_line_that_is_tried() -> Result<()> {
        for recipe in recipes()? {
            for step in recipe.steps.iter().filter(|step| !step.aside) {
                assert!(PAGE.contains(&step.run), "{}: {}", recipe.name, step.run);
            }
        }
        Ok(())
    }

    #[test]
    fn the_page_has_the_files_as_they_are() {
        let files = [
            include_str!("../../../tests/recipes/ci/github.yml"),
            include_str!("../../../tests/recipes/ci/gitlab.yml"),
            include_str!("../../../tests/recipes/pytest/conftest.py"),
            include_str!("../../../tests/recipes/known/known.supp"),
            include_str!("../../../tests/recipes/known/project.toml"),
        ];
        files.iter().for_each(|file| assert!(PAGE.contains(file), "{file}"));
    }

    #[test]
    fn what_differs_is_said() -> Result<()> {
        let step: Step = toml::from_str("run = 'x'\nstatus = 2\nsays = ['a']\nsilent = ['b']")?;
        assert_eq!(step.wrong(2, "a"), Vec::<String>::new());
        assert_eq!(step.wrong(0, "a"), ["x: status 0 and not 2"]);
        assert_eq!(step.wrong(2, "b").len(), 2);
        Ok(())
    }
}
