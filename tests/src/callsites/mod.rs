//! Programs that leak at a known place, and the comparison of that place with what fdtrace says.
//!
//! The programs are in `tests/programs`, the truth about them in `expected.toml` there. `cargo xtask` compiles them, because a
//! virtual machine has no compilers, and writes down beside them what only the sources know: see [`manifest`].

mod build;
mod elf;
mod manifest;
mod marks;
mod pattern;
mod score;
mod table;

pub use build::build;
pub use pattern::Pattern;
pub use score::Score;

use anyhow::Result;
use manifest::{Built, Made, Manifest};
use std::path::PathBuf;
use table::{Entry, Table};

/// A program that leaks.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in the table.
    pub name: String,
    /// How many handles it leaks.
    pub leaks: u64,
    /// What leads to the leak, innermost first.
    pub stack: Vec<Pattern>,
    /// There is more of it than anybody shows, which has to be said.
    pub cut: bool,
    /// How many of its handles, the first ones, may have only the beginning of the stack.
    pub partial: u64,
    built: Built,
}

impl Program {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.built.path.clone()
    }
}

/// The programs of the table.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Those that could be built.
    pub built: Vec<Program>,
    /// The names of the others, and why they could not.
    pub skipped: Vec<(String, String)>,
}

impl Programs {
    /// All programs of the table.
    ///
    /// # Errors
    /// When they have not been compiled, or the table does not fit what was compiled.
    pub fn load() -> Result<Self> {
        let (table, manifest) = (Table::load()?, Manifest::load()?);
        let mut programs = Self::default();
        for (name, entry) in &table.programs {
            match manifest.of(name)? {
                Made::Built(built) => programs.built.push(program(name, entry, built, &table)?),
                Made::Skipped { skipped } => programs.skipped.push((name.clone(), skipped)),
            }
        }
        Ok(programs)
    }
}

fn program(name: &str, entry: &Entry, built: Built, table: &Table) -> Result<Program> {
    let stack = table.stack(entry)?;
    stack
        .iter()
        .filter_map(|pattern| pattern.mark.as_deref())
        .try_for_each(|mark| built.mark(mark).map(drop))?;
    let Entry { leaks, cut, partial, .. } = *entry;
    Ok(Program { name: name.to_owned(), leaks, stack, cut, partial, built })
}
