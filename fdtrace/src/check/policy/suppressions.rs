//! Known leaks by name, in the syntax of LeakSanitizer's files: a line `leak:pattern` for each.

use super::pattern::Pattern;
use crate::{
    model::{Site, UserFrame, check::Suppressing},
    text::fmt::escape_control,
};

/// What a line begins with.
const WORD: &str = "leak:";

/// Known leaks by name, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Suppressions {
    all: Vec<Suppression>,
}

/// One line of a file of suppressions.
#[derive(Clone, Debug)]
pub struct Suppression {
    /// As it is written.
    line: String,
    /// The file and the line's number.
    place: String,
    pattern: Pattern,
}

impl Suppressions {
    /// Adds the lines of a file; `name` is what its lines are called in messages.
    ///
    /// # Errors
    /// A line that is no suppression: a sentence with its place and what is expected.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
        for (index, line) in lines.enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                self.all.push(Suppression::parse(line, format!("{name}:{}", index + 1))?);
            }
        }
        Ok(())
    }

    /// Adds what is written as a list: each text is a line of its own.
    ///
    /// # Errors
    /// A text that is no suppression.
    pub fn add_list<'a>(
        &mut self,
        name: &str,
        lines: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), String> {
        for line in lines {
            self.all.push(Suppression::parse(line.trim(), name.to_owned())?);
        }
        Ok(())
    }

    /// The first one that names a site, and its index.
    pub(super) fn of(&self, site: &Site) -> Option<(usize, &Suppression)> {
        self.all.iter().enumerate().find(|(_, suppression)| suppression.names(site))
    }

    /// One entry for each, all of them unused.
    pub(super) fn unused(&self) -> Vec<Suppressing> {
        let unused =
            |one: &Suppression| Suppressing { line: one.line.clone(), place: one.place.clone(), sites: 0 };
        self.all.iter().map(unused).collect()
    }
}

impl Suppression {
    fn parse(line: &str, place: String) -> Result<Self, String> {
        let Some(text) = line.strip_prefix(WORD) else {
            return Err(format!(
                "{place}: `{}` is no suppression: write {WORD}PATTERN, a # comment or nothing in a line",
                escape_control(line)
            ));
        };
        let pattern = Pattern::parse(text.trim()).ok_or_else(|| {
            format!(
                "{place}: `{}` would hide every leak: name a function, a module or a file",
                escape_control(line)
            )
        })?;
        Ok(Self { line: line.to_owned(), place, pattern })
    }

    /// As it is written.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    fn names(&self, site: &Site) -> bool {
        site.user_stack.iter().any(|frame| self.is_in(frame))
    }

    fn is_in(&self, frame: &UserFrame) -> bool {
        [&frame.symbol, &frame.module, &frame.file].into_iter().flatten().any(|text| self.pattern.is_in(text))
    }
}
