//! SARIF 2.1.0, by which code hosts put a leak beside the line that it comes from.

mod location;
mod log;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use location::Root;
use log::{
    ArtifactBase, Configuration, Driver, Invocation, Log, Message, Notification, Outcome, Rule, Run, Stack,
    StackFrame, SuppressedBy, Tool,
};

use super::{
    advice,
    sentence::{self, of_class},
};
use crate::{
    model::{
        UserFrame,
        check::{Class, Diagnostic, DiagnosticKind, Finding, Findings, Verdict},
    },
    stacks,
};

/// Where the shape is written down.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// What readers call the folder of the sources.
const SOURCES: &str = "%SRCROOT%";
/// The rule of a leak: its id, its level, and what it is about.
const LEAK: (&str, &str, &str) =
    ("leak", "error", "Open files that a call site made and never closed, more than it may keep");

/// What else is found, as rules.
const ALSO: [(DiagnosticKind, &str); 9] = [
    (DiagnosticKind::Emfile, "A process had no descriptors left"),
    (DiagnosticKind::Enfile, "The system had no handles left"),
    (DiagnosticKind::Exec, "Handles were open when another program took the place of the one that made them"),
    (DiagnosticKind::Inherit, "A program was started with descriptors that have no close-on-exec flag"),
    (DiagnosticKind::CloseWait, "Sockets whose peer had hung up were not closed"),
    (DiagnosticKind::Deleted, "Deleted files were held open"),
    (DiagnosticKind::GrowingWithPeers, "A program keeps a socket for each client, and no client has hung up"),
    (DiagnosticKind::Teardown, "What a program opened lived until its end"),
    (DiagnosticKind::Peak, "A process came near to its limit of descriptors"),
];

/// Writes findings as SARIF. Files below `root` are named from there, so that a code host finds them in a checkout.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, findings: &Findings, root: &Path) -> io::Result<()> {
    crate::report::write_pretty_json(out, &log(findings, &Root::new(root)))
}

fn log(findings: &Findings, root: &Root) -> Log {
    let leaks = of_class(findings, Class::Leak).map(|finding| leak(findings, finding, root));
    let known = of_class(findings, Class::Suppressed)
        .filter(|finding| finding.class_before == Class::Leak)
        .map(|finding| suppressed(findings, finding, root));
    let run = Run {
        tool: Tool { driver: driver() },
        invocations: vec![invocation(findings)],
        original_uri_base_ids: BTreeMap::from([(SOURCES, ArtifactBase { uri: root.uri() })]),
        results: leaks
            .chain(known)
            .chain(findings.diagnostics.iter().map(diagnostic))
            .chain(total(findings))
            .collect(),
        column_kind: "unicodeCodePoints",
    };
    Log { schema: SCHEMA, version: "2.1.0", runs: vec![run] }
}

fn driver() -> Driver {
    let rule = |id: &str, level, text: &str| Rule {
        id: id.to_owned(),
        short_description: Message::new(text),
        default_configuration: Configuration { level },
    };
    let mut rules = vec![
        rule(LEAK.0, LEAK.1, LEAK.2),
        rule(TOTAL, "error", "All call sites together kept more than --max-total allows"),
    ];
    rules.extend(ALSO.iter().map(|(kind, text)| rule(kind.name(), "note", text)));
    Driver { name: "fdtrace", version: env!("CARGO_PKG_VERSION"), rules }
}

/// The rule of a sum that is too high.
const TOTAL: &str = "max-total";

fn leak(findings: &Findings, finding: &Finding, root: &Root) -> Outcome {
    let site = &finding.site;
    let own = stacks::own(&site.user_stack);
    let text = format!("{}. To fix it: {}.", sentence::of_site(findings, finding), advice::fix(site));
    let mut fingerprints = BTreeMap::from([("fdtrace/site/v1", site.id.clone())]);
    fingerprints.extend(site.name_id.clone().map(|name| ("fdtrace/functions/v1", name)));
    Outcome {
        locations: own
            .or_else(|| site.user_stack.first())
            .map(|frame| root.location(frame))
            .into_iter()
            .collect(),
        stacks: stack(&site.user_stack, root).into_iter().collect(),
        partial_fingerprints: fingerprints,
        occurrence_count: Some(finding.handles.max(1)),
        ..Outcome::new(LEAK.0, LEAK.1, text)
    }
}

fn suppressed(findings: &Findings, finding: &Finding, root: &Root) -> Outcome {
    let by = SuppressedBy { kind: "external", justification: finding.suppressed_by.clone() };
    Outcome { suppressions: Some(vec![by]), level: "note", ..leak(findings, finding, root) }
}

fn stack(user: &[UserFrame], root: &Root) -> Option<Stack> {
    let frame =
        |frame: &UserFrame| StackFrame { location: root.location(frame), module: frame.module.clone() };
    let message = Message::new("Where they were made, innermost function first");
    (!user.is_empty()).then(|| Stack { message, frames: stacks::telling(user).map(frame).collect() })
}

fn diagnostic(diagnostic: &Diagnostic) -> Outcome {
    let level = if diagnostic.fatal { "warning" } else { "note" };
    Outcome::new(diagnostic.kind.name(), level, sentence::of_diagnostic(diagnostic))
}

/// A sum that is too high belongs to no line.
fn total(findings: &Findings) -> Option<Outcome> {
    let most = findings.applied.max_total.filter(|most| findings.applied.total > *most)?;
    let text = format!(
        "All call sites together kept {} calls, and --max-total allows {most}",
        findings.applied.total
    );
    Some(Outcome::new(TOTAL, "error", text))
}

fn invocation(findings: &Findings) -> Invocation {
    let reason = |text: &String| Notification { level: "warning", message: Message::new(text) };
    Invocation {
        execution_successful: findings.verdict != Verdict::Inconclusive,
        tool_execution_notifications: findings.incomplete_reasons.iter().map(reason).collect(),
    }
}
