//! What a project has to say to the findings: which leaks it knows, what it allows, what it fails on besides.

mod baseline;
mod pattern;
mod suppressions;
#[cfg(test)]
mod tests;

pub use baseline::{Baseline, BaselineEntry};
pub use suppressions::{Suppression, Suppressions};

use crate::model::{
    Kind, Site,
    check::{AppliedPolicy, Class, Diagnostic, DiagnosticKind, Finding, Findings, TopHolder, Verdict, Word},
};

/// What a project has to say to the findings.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The most calls that all sites together may keep.
    pub max_total: Option<u64>,
    /// Sites that make handles of these kinds only are no leaks.
    pub ignore_kinds: Vec<Kind>,
    /// What else is as bad as a leak.
    pub fail_on: Vec<DiagnosticKind>,
    /// Known leaks by name.
    pub suppressions: Suppressions,
    /// Known leaks by site.
    pub baseline: Option<Baseline>,
}

impl Policy {
    /// Excuses the sites that are known, and gives the verdict on what is left. The findings come with the classes that
    /// their own numbers give them.
    pub fn apply(&self, findings: &mut Findings) {
        findings.applied = AppliedPolicy {
            max_total: self.max_total,
            suppressions: self.suppressions.unused(),
            ..AppliedPolicy::default()
        };
        for finding in &mut findings.sites {
            self.suppress(finding, &mut findings.applied);
        }
        if let Some(baseline) = &self.baseline {
            self.excuse_known(baseline, findings);
        }
        for diagnostic in &mut findings.diagnostics {
            diagnostic.fatal =
                self.fail_on.contains(&diagnostic.kind) && !is_excused(diagnostic, &findings.sites);
        }
        findings.applied.total = total(&findings.sites);
        findings.verdict = verdict(findings);
        findings.evaluate_scopes();
    }

    /// What excuses a site by its kinds or its name, whatever it does.
    #[must_use]
    pub fn excuse_for(&self, site: &Site) -> Option<String> {
        let by_name = || self.suppressions.of(site).map(|(_, suppression)| suppression.line().to_owned());
        self.ignored(site).map(|kinds| format!("--ignore-kind {kinds}")).or_else(by_name)
    }

    /// By kind, and by name.
    fn suppress(&self, finding: &mut Finding, applied: &mut AppliedPolicy) {
        (finding.class, finding.suppressed_by, finding.baseline) = (finding.class_before, None, None);
        if let Some(kinds) = self.ignored(&finding.site) {
            excuse(finding, format!("--ignore-kind {kinds}"));
        } else if let Some((index, suppression)) = self.suppressions.of(&finding.site) {
            excuse(finding, suppression.line().to_owned());
            applied.suppressions[index].sites += 1;
        }
    }

    /// The kinds of a site, if all of them are ignored.
    fn ignored(&self, site: &Site) -> Option<String> {
        let mut kinds: Vec<Kind> =
            site.kinds.iter().filter(|(_, count)| **count > 0).map(|(kind, _)| *kind).collect();
        if kinds.is_empty() {
            kinds = site.examples.iter().map(|example| example.kind).collect();
            kinds.sort_unstable();
            kinds.dedup();
        }
        let is_ignored = |kind: &Kind| self.ignore_kinds.contains(kind);
        (!kinds.is_empty() && kinds.iter().all(is_ignored))
            .then(|| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","))
    }

    fn excuse_known(&self, baseline: &Baseline, findings: &mut Findings) {
        // What is no leak needs no entry, unless it counts in the sum.
        let needs = |finding: &Finding| match finding.class {
            Class::Leak => true,
            Class::Allowed => self.max_total.is_some(),
            _ => false,
        };
        let indexes: Vec<usize> =
            (0..findings.sites.len()).filter(|index| needs(&findings.sites[*index])).collect();
        let known: Vec<&Finding> = indexes.iter().map(|index| &findings.sites[*index]).collect();
        let entries = baseline.entries_of(&known);
        for (index, entry) in indexes.into_iter().zip(&entries) {
            if let Some(entry) = entry {
                excuse_by(entry, &mut findings.sites[index]);
            }
        }
        let is_needed =
            |entry: &BaselineEntry| entries.iter().flatten().any(|used| std::ptr::eq(*used, entry));
        let removable = baseline.entries().iter().filter(|entry| !is_needed(entry));
        findings.applied.removable = removable.map(|entry| entry.place.clone()).collect();
    }
}

/// Whether what is said of call sites is said of such only as a suppression names.
fn is_excused(diagnostic: &Diagnostic, sites: &[Finding]) -> bool {
    let suppressed = |holder: &TopHolder| {
        sites.iter().any(|finding| finding.site.id == holder.site && finding.class == Class::Suppressed)
    };
    let of_sites = matches!(diagnostic.kind, DiagnosticKind::Teardown | DiagnosticKind::GrowingWithPeers);
    of_sites && !diagnostic.top.is_empty() && diagnostic.top.iter().all(suppressed)
}

fn excuse_by(entry: &BaselineEntry, finding: &mut Finding) {
    if finding.leaked <= entry.calls {
        excuse(finding, entry.excuse());
    } else if finding.class == Class::Leak {
        finding.baseline = Some(entry.calls);
    }
}

fn excuse(finding: &mut Finding, by: String) {
    finding.class_before = finding.class;
    finding.class = Class::Suppressed;
    finding.suppressed_by = Some(by);
}

/// Kept calls that nothing excuses. Pools, and what another program made, are no fault of a site.
fn total(sites: &[Finding]) -> u64 {
    let counts = |finding: &&Finding| matches!(finding.class, Class::Leak | Class::Allowed);
    sites.iter().filter(counts).map(|finding| finding.leaked).sum()
}

/// A leak stands on complete records of its own handles, whatever else was lost.
fn verdict(findings: &Findings) -> Verdict {
    let applied = &findings.applied;
    let is_leak = findings.sites.iter().any(|finding| finding.class == Class::Leak)
        || applied.max_total.is_some_and(|most| applied.total > most)
        || findings.diagnostics.iter().any(|diagnostic| diagnostic.fatal)
        || findings.scopes.iter().any(|scope| scope.said == Some(Word::Fail));
    match is_leak {
        true => Verdict::Leak,
        false if findings.incomplete_reasons.is_empty() => Verdict::Clean,
        false => Verdict::Inconclusive,
    }
}
