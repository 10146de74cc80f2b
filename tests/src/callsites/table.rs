//! `expected.toml`: the truth about the programs.

use super::Pattern;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// Inside the test, so that a virtual machine needs no checkout.
const FILE: &str = include_str!("../../programs/expected.toml");

/// All of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pieces: BTreeMap<String, Vec<Pattern>>,
    pub(super) programs: BTreeMap<String, Entry>,
}

/// What the file says of a program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) build: Vec<Step>,
    pub(super) leaks: u64,
    #[serde(default)]
    pub(super) cut: bool,
    #[serde(default)]
    pub(super) partial: u64,
    stack: Vec<Item>,
}

/// What is compiled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) compiler: Compiler,
    pub(super) sources: Vec<PathBuf>,
    #[serde(default)]
    pub(super) flags: Vec<String>,
    pub(super) output: Option<String>,
    #[serde(default)]
    pub(super) stripped: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum Compiler {
    #[serde(rename = "c")]
    C,
    #[serde(rename = "c++")]
    Cpp,
    #[serde(rename = "rust")]
    Rust,
    #[serde(rename = "go")]
    Go,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Item {
    Piece { piece: String },
    Frame(Pattern),
}

impl Table {
    pub(super) fn load() -> Result<Self> {
        toml::from_str(FILE).context("programs/expected.toml")
    }

    /// The stack of a program, with its pieces put in.
    pub(super) fn stack(&self, entry: &Entry) -> Result<Vec<Pattern>> {
        let mut stack = Vec::new();
        for item in &entry.stack {
            match item {
                Item::Frame(pattern) => stack.push(pattern.clone()),
                Item::Piece { piece } => {
                    let piece = self.pieces.get(piece).with_context(|| format!("no piece {piece:?}"))?;
                    stack.extend(piece.iter().cloned());
                }
            }
        }
        Ok(stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chain_is_made_of_pieces_that_are_there() -> Result<()> {
        let table = Table::load()?;
        for (name, entry) in &table.programs {
            let stack = table.stack(entry).with_context(|| name.clone())?;
            assert!(stack.len() >= 3, "{name}: {stack:?}");
        }
        Ok(())
    }
}
