//! The documents of `fdtrace live --json` and `fdtrace report --json`.

use crate::truth::{Counts, add, without_zeros};
use anyhow::{Result, ensure};
use fdtrace::model::{Events, LIVE_SCHEMA, REPORT_SCHEMA, Site};
use std::{collections::BTreeMap, fmt::Display, ops::Deref};

/// One document that holds what must hold for every document.
#[derive(Clone, Debug)]
pub struct Document(fdtrace::model::Document);

impl Deref for Document {
    type Target = fdtrace::model::Document;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Counts of a document by their words.
#[must_use]
pub fn words<K: Display>(counts: &BTreeMap<K, u64>) -> Counts {
    counts.iter().map(|(word, count)| (word.to_string(), *count)).collect()
}

impl Document {
    /// Reads one line, and checks what must hold for every document.
    ///
    /// # Errors
    /// When it is not JSON of this form, or contradicts itself.
    pub fn parse(line: &str) -> Result<Self> {
        let document = Self(serde_json::from_str(line)?);
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<()> {
        let Events { allocated, released, .. } = self.trace.events;
        let live = self.handles.live;
        let known = [LIVE_SCHEMA, REPORT_SCHEMA].contains(&self.schema.as_str());
        ensure!(known, "schema {:?}", self.schema);
        ensure!(
            allocated.checked_sub(released) == Some(live),
            "live {live} is not allocated {allocated} - released {released}"
        );
        for site in &self.sites {
            let Site { id, origin, live, allocated, released, .. } = site;
            ensure!(
                allocated.checked_sub(*released) == Some(*live),
                "site {id} ({origin}): live {live} is not allocated {allocated} - released {released}"
            );
        }
        Ok(())
    }

    /// Live handles by origin.
    #[must_use]
    pub fn origins(&self) -> Counts {
        let mut counts = Counts::new();
        self.sites.iter().for_each(|site| add(&mut counts, site.origin.name(), site.live));
        counts
    }

    /// Live handles by kind.
    #[must_use]
    pub fn kinds(&self) -> Counts {
        let mut counts = Counts::new();
        for (kind, count) in self.sites.iter().flat_map(|site| &site.kinds) {
            add(&mut counts, kind.name(), *count);
        }
        counts
    }

    /// Released handles by cause, at all sites.
    #[must_use]
    pub fn released_by(&self) -> Counts {
        without_zeros(words(&self.trace.events.released_by))
    }
}
