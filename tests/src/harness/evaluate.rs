//! Compares what fdtrace saw with the truth, by the file of expected results.

use super::{document::Document, kernel_release, say};
use crate::{
    expected::{Expectations, Expected, Field},
    truth::{Counts, Truth, add, without_zeros},
};
use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

/// One field: what was, what was seen, and whether that is as expected.
#[derive(Debug)]
struct Comparison {
    field: Field,
    truth: Value,
    seen: Value,
    /// How far the two are apart.
    difference: u64,
    empty: bool,
}

/// The outcome of one comparison of a document with the truth.
#[derive(Debug)]
pub struct Verdict {
    backend: String,
    lost: Value,
    fields: Map<String, Value>,
    wrong: Vec<String>,
}

/// Compares every field of a document.
#[must_use]
pub fn evaluate(truth: &Truth, document: &Document, expectations: &Expectations) -> Verdict {
    let (lost, events) = (document.trace.lost, &document.trace.events);
    let mut verdict = Verdict {
        backend: document.trace.backend.clone(),
        lost: json!({"events": lost.events, "handles": lost.handles, "stacks": lost.stacks,
                     "skipped": lost.skipped, "healed": lost.healed, "phantoms": lost.phantoms,
                     "untraced": events.untraced_releases, "complete": document.trace.complete}),
        fields: Map::new(),
        wrong: Vec::new(),
    };
    for comparison in compare(truth, document) {
        verdict.enter(&comparison, document, expectations);
    }
    verdict
}

impl Verdict {
    fn enter(&mut self, comparison: &Comparison, document: &Document, expectations: &Expectations) {
        let Comparison { field, truth, seen, .. } = comparison;
        let expected = expectations.of(*field);
        let good = comparison.is(expected, document);
        let exactness = if comparison.difference == 0 { "exact" } else { "different" };
        let entry = json!({"truth": truth, "seen": seen, "expected": expected.word(), "found": exactness,
                           "verdict": if good { "pass" } else { "FAIL" }});
        self.fields.insert(field.word().to_owned(), entry);
        if !good {
            let field = field.word();
            self.wrong.push(format!("{field}: truth {truth}, seen {seen}, expected: {}", expected.word()));
        }
    }

    /// Everything is as expected.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Prints the line from which docs/kernels.md is made, and fails when something is not as expected.
    ///
    /// # Errors
    /// When a field is not as expected.
    pub fn report(&self, test: &str) -> Result<()> {
        let word = if self.passes() { "pass" } else { "FAIL" };
        let line = json!({"kernel": kernel_release(), "backend": self.backend, "test": test, "lost": self.lost,
                          "fields": self.fields, "verdict": word});
        say(&format!("RESULT {line}"));
        ensure!(
            self.passes(),
            "{test}, {}, lost {}:\n  {}",
            self.backend,
            self.lost,
            self.wrong.join("\n  ")
        );
        Ok(())
    }
}

impl Comparison {
    fn is(&self, expected: &Expected, document: &Document) -> bool {
        let lost = document.trace.lost;
        let shown = lost.skipped + lost.events + lost.handles;
        match expected {
            Expected::Exact => self.difference == 0,
            // Never silently short: what differs was resynced, or the document says that it is not complete.
            Expected::CountedLoss { .. } => {
                let told = !document.trace.complete || lost.healed >= self.difference;
                self.difference == 0 || (self.difference <= shown && told)
            }
            Expected::NotSeen { .. } => self.empty,
        }
    }
}

fn compare(truth: &Truth, document: &Document) -> Vec<Comparison> {
    let events = &document.trace.events;
    let truth = &with_retries(truth, events.never_opened);
    vec![
        number(Field::Allocated, truth.allocated, events.allocated),
        number(Field::Released, truth.released, events.released),
        number(Field::NeverOpened, truth.never_opened, events.never_opened),
        number(Field::Live, truth.live, document.handles.live),
        words(Field::Origin, &truth.origins, &document.origins()),
        words(Field::Kind, &truth.kinds, &document.kinds()),
        words(Field::Cause, &truth.released_by, &with_tracer(&truth.released_by, document.released_by())),
        words(Field::Errors, &truth.errors, &super::words(&events.errors)),
    ]
}

/// Opens that the kernel may have tried twice.
const MAX_RETRIES: u64 = 8;

/// An open whose path walk loses a race is tried again by the kernel itself, with a new handle (`do_filp_open`, after
/// ECHILD): one more allocated, released, and never opened than the program can know of.
fn with_retries(truth: &Truth, never_opened: u64) -> Truth {
    let mut truth = truth.clone();
    let retries = never_opened.saturating_sub(truth.never_opened);
    if (1..=MAX_RETRIES).contains(&retries) {
        truth.allocated += retries;
        truth.released += retries;
        truth.never_opened += retries;
        add(&mut truth.released_by, "close", retries);
    }
    truth
}

/// Whoever looks at a handle while its owner closes it becomes the one who lets go of it. That is reported truly, as the
/// tracer's doing, and stands for any cause that is short by as many.
fn with_tracer(truth: &Counts, mut seen: Counts) -> Counts {
    let mut spare = seen.remove("tracer").unwrap_or_default();
    for (cause, count) in truth {
        let entry = seen.entry(cause.clone()).or_default();
        let given = count.saturating_sub(*entry).min(spare);
        *entry += given;
        spare -= given;
    }
    add(&mut seen, "tracer", spare);
    without_zeros(seen)
}

fn number(field: Field, truth: u64, seen: u64) -> Comparison {
    let difference = truth.abs_diff(seen);
    Comparison { field, truth: truth.into(), seen: seen.into(), difference, empty: seen == 0 }
}

fn words(field: Field, truth: &Counts, seen: &Counts) -> Comparison {
    let count = |counts: &Counts, word| counts.get(word).copied().unwrap_or_default();
    let short: u64 = truth.keys().map(|word| count(truth, word).saturating_sub(count(seen, word))).sum();
    let over: u64 = seen.keys().map(|word| count(seen, word).saturating_sub(count(truth, word))).sum();
    Comparison {
        field,
        truth: json!(truth),
        seen: json!(seen),
        // One handle with the wrong word is short in one place and over in another.
        difference: short.max(over),
        // A handle about which nothing is known is counted as unknown.
        empty: seen.keys().all(|word| word == "unknown"),
    }
}
