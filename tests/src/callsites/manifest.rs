//! What is written down beside the programs when they are compiled.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

/// The folder of the programs, for a test that is not in the target directory.
const VARIABLE: &str = "CALLSITES_DIR";
/// In that folder.
pub(super) const FILE: &str = "manifest.json";

/// Functions, by where they begin and end in the file.
pub(super) type Functions = BTreeMap<String, (u64, u64)>;

/// What became of each program.
#[derive(Debug)]
pub(super) struct Manifest {
    directory: PathBuf,
    programs: BTreeMap<String, Made>,
}

/// What became of a program.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Made {
    /// It is there.
    Built(Built),
    /// It is not, and this is why.
    Skipped { skipped: String },
}

/// A program that was compiled.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Built {
    /// In the folder of the programs.
    #[serde(rename = "program")]
    pub(super) path: PathBuf,
    pub(super) build_id: Option<String>,
    /// The marks of its sources.
    #[serde(default)]
    pub(super) marks: BTreeMap<String, Place>,
    /// Of a program that was stripped.
    pub(super) functions: Option<Functions>,
}

/// A line of a source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: u32,
}

impl Manifest {
    pub(super) fn load() -> Result<Self> {
        let directory = directory()?;
        let path = directory.join(FILE);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no {}: run `cargo xtask programs`", path.display()))?;
        let programs = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self { directory, programs })
    }

    /// What became of a program, with its whole path.
    pub(super) fn of(&self, name: &str) -> Result<Made> {
        let made = self.programs.get(name).with_context(|| format!("{name} was not compiled"))?;
        Ok(match made.clone() {
            Made::Built(built) => Made::Built(Built { path: self.directory.join(&built.path), ..built }),
            skipped @ Made::Skipped { .. } => skipped,
        })
    }
}

impl Built {
    /// The line of a mark.
    pub(super) fn mark(&self, mark: &str) -> Result<&Place> {
        self.marks.get(mark).with_context(|| format!("{}: no mark {mark:?}", self.path.display()))
    }
}

fn directory() -> Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE) {
        return PathBuf::from(path).canonicalize().with_context(|| format!("{VARIABLE} is wrong"));
    }
    let test = env::current_exe()?;
    let target = test.ancestors().nth(3).context("the test is not in a target directory")?;
    Ok(Path::new(target).join("callsites"))
}
