//! Chains as files and offsets, and what differs between two sets of them.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::{fmt, path::Path};

/// A frame that exists: what is inlined is a part of one.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Place {
    module: String,
    offset: u64,
    /// What the function is called, if somebody knows.
    name: Option<String>,
}

/// A call chain, innermost frame first.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) frames: Vec<Place>,
    pub(super) complete: bool,
    /// How many handles were made there.
    pub(super) count: u64,
}

/// Origins of handles that are made without a system call that gdb is told to stop at.
const NOT_DEBUGGED: [&str; 3] = ["exec", "shmem", "shm_attach"];

/// What is read of fdtrace's JSON.
#[derive(Deserialize)]
struct Document {
    sites: Vec<Site>,
}

#[derive(Deserialize)]
struct Site {
    origin: String,
    allocated: u64,
    user_stack: Vec<Frame>,
    user_stack_complete: bool,
}

#[derive(Deserialize)]
struct Frame {
    symbol: Option<String>,
    module: Option<String>,
    offset: u64,
    inlined: bool,
}

/// The chains of a document of fdtrace.
pub(super) fn of_document(json: &str) -> Result<Vec<Chain>> {
    let document: Document = serde_json::from_str(json).context("fdtrace wrote no document")?;
    let debugged = |site: &Site| site.allocated > 0 && !NOT_DEBUGGED.contains(&site.origin.as_str());
    let sites = document.sites.into_iter().filter(debugged);
    let mut chains = Vec::new();
    for site in sites {
        let frames = site.user_stack.into_iter().filter(|frame| !frame.inlined).map(Place::from).collect();
        add(&mut chains, Chain { frames, complete: site.user_stack_complete, count: site.allocated });
    }
    Ok(chains)
}

impl From<Frame> for Place {
    fn from(frame: Frame) -> Self {
        let module = frame.module.unwrap_or_default();
        let module = Path::new(&module).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { module, offset: frame.offset, name: frame.symbol }
    }
}

/// Adds a chain to those of the same frames.
pub(super) fn add(chains: &mut Vec<Chain>, chain: Chain) {
    match chains.iter_mut().find(|known| known.is(&chain) && known.complete == chain.complete) {
        Some(known) => known.count += chain.count,
        None => chains.push(chain),
    }
}

impl Place {
    /// The same instruction. Whether a return address or the call before it is meant, is a matter of taste where a signal
    /// handler returns to: nothing has called it.
    fn is(&self, other: &Self) -> bool {
        self.module == other.module && self.offset.abs_diff(other.offset) <= 1
    }
}

impl Chain {
    fn is(&self, other: &Self) -> bool {
        self.frames.len() == other.frames.len() && self.common(other) == self.frames.len()
    }

    /// How many frames they have in common, from the innermost one.
    fn common(&self, other: &Self) -> usize {
        self.frames.iter().zip(&other.frames).take_while(|(one, other)| one.is(other)).count()
    }

    /// Of several, the one that has most in common with this one.
    fn nearest<'a>(&self, others: &'a [Self]) -> Option<&'a Self> {
        others.iter().max_by_key(|other| self.common(other))
    }
}

/// What two sets of chains have in common.
pub(super) struct Comparison<'a> {
    debugged: &'a [Chain],
    traced: &'a [Chain],
}

impl<'a> Comparison<'a> {
    pub(super) fn new(debugged: &'a [Chain], traced: &'a [Chain]) -> Self {
        Self { debugged, traced }
    }

    /// Every chain of either is one of the other, and as often.
    pub(super) fn agrees(&self) -> bool {
        self.debugged
            .iter()
            .all(|chain| same(chain, self.traced).is_some_and(|found| found.count == chain.count))
            && self.traced.iter().all(|chain| chain.complete && same(chain, self.debugged).is_some())
    }
}

fn same<'a>(chain: &Chain, others: &'a [Chain]) -> Option<&'a Chain> {
    others.iter().find(|other| other.is(chain))
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handles = |chains: &[Chain]| chains.iter().map(|chain| chain.count).sum::<u64>();
        let agreeing: Vec<_> =
            self.debugged.iter().filter(|chain| same(chain, self.traced).is_some()).collect();
        writeln!(
            f,
            "{} of {} chains agree frame by frame; {} of {} handles ({} with fdtrace)",
            agreeing.len(),
            self.debugged.len(),
            agreeing.iter().map(|chain| chain.count).sum::<u64>(),
            handles(self.debugged),
            handles(self.traced)
        )?;
        self.differences(f)
    }
}

impl Comparison<'_> {
    fn differences(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chain in self.debugged {
            match same(chain, self.traced) {
                None => part(f, ("gdb", chain), ("fdtrace", chain.nearest(self.traced)))?,
                Some(found) if found.count != chain.count => {
                    writeln!(f, "  seen {} times by gdb, {} by fdtrace:", chain.count, found.count)?;
                    frames(f, chain, 0)?;
                }
                Some(found) if !found.complete => {
                    writeln!(f, "  complete, and marked as if it were not:")?;
                    frames(f, found, 0)?;
                }
                Some(_) => {}
            }
        }
        for chain in self.traced.iter().filter(|chain| same(chain, self.debugged).is_none()) {
            part(f, ("fdtrace", chain), ("gdb", chain.nearest(self.debugged)))?;
        }
        Ok(())
    }
}

/// Shows a chain that the other side does not have, and the one there that is nearest, from where they part.
fn part(f: &mut fmt::Formatter<'_>, one: (&str, &Chain), other: (&str, Option<&Chain>)) -> fmt::Result {
    let common = other.1.map_or(0, |other| one.1.common(other));
    writeln!(f, "  only {} has this one, {} times ({common} frames in common):", one.0, one.1.count)?;
    frames(f, one.1, common)?;
    if let Some(nearest) = other.1 {
        writeln!(f, "  the nearest of {}{}:", other.0, if nearest.complete { "" } else { ", incomplete" })?;
        frames(f, nearest, common)?;
    }
    Ok(())
}

/// The frames of a chain from the last common one on.
fn frames(f: &mut fmt::Formatter<'_>, chain: &Chain, common: usize) -> fmt::Result {
    let from = common.saturating_sub(1);
    for (number, Place { module, offset, name }) in chain.frames.iter().enumerate().skip(from) {
        writeln!(f, "    #{number} {module}+{offset:#x} {}", name.as_deref().unwrap_or("?"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(offsets: &[u64], complete: bool) -> Chain {
        let frame = |offset: &u64| Place { module: "m".to_owned(), offset: *offset, name: None };
        Chain { frames: offsets.iter().map(frame).collect(), complete, count: 1 }
    }

    #[test]
    fn chains_agree_when_all_frames_and_the_counts_do() {
        let debugged = [chain(&[16, 32], true), chain(&[48], true)];
        let agrees = |traced: &[Chain]| Comparison::new(&debugged, traced).agrees();
        assert!(agrees(&[chain(&[48], true), chain(&[16, 33], true)]));
        assert!(!agrees(&[chain(&[48], true)]), "one is missing");
        assert!(!agrees(&[chain(&[48], true), chain(&[16], false)]), "too short");
        assert!(!agrees(&[chain(&[48], true), chain(&[16, 32], false)]), "not known to be complete");
        let twice = Chain { count: 2, ..chain(&[48], true) };
        assert!(!agrees(&[twice, chain(&[16, 32], true)]), "not as often");
    }

    #[test]
    fn differences_are_shown_from_where_they_begin() {
        let (debugged, traced) = ([chain(&[16, 32, 48], true)], [chain(&[16, 32], false)]);
        let text = Comparison::new(&debugged, &traced).to_string();
        assert!(text.starts_with("0 of 1 chains agree"), "{text}");
        assert!(text.contains("(2 frames in common):\n    #1 m+0x20 ?\n    #2 m+0x30 ?\n"), "{text}");
        assert!(text.contains("the nearest of fdtrace, incomplete:\n    #1 m+0x20 ?\n"), "{text}");
    }
}
