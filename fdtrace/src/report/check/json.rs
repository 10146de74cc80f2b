//! The findings as JSON have the keys that others read.

use serde_json::{Value, json};

use super::fixture::*;
use crate::{
    model::{
        check::{Ended, Findings, Suppressing, Verdict},
        fixture::written,
    },
    report::write_json,
};

fn value(findings: &Findings) -> Value {
    serde_json::from_str(&written(|out| write_json(out, findings))).expect("JSON")
}

#[test]
fn what_others_read() {
    let mut findings = all_sorts();
    findings.sites[0].baseline = Some(12);
    let line = Suppressing { line: "leak:x".to_owned(), place: "f:1".to_owned(), sites: 0 };
    findings.applied.suppressions.push(line);
    let value = value(&findings);
    assert_eq!([&value["schema"], &value["verdict"]], ["fdtrace.check/1", "leak"]);
    assert_eq!(value["command"]["argv"], json!(["server", "--once"]));
    assert_eq!(value["command"]["exit_status"], 0);
    assert_eq!(value["trace"]["events"]["allocated"], 1_062);
    let first = &value["sites"][0];
    assert_eq!([&first["id"], &first["class"], &first["origin"]], ["c1ea", "leak", "open"]);
    assert_eq!([&first["leaked"], &first["baseline"]], [50, 12]);
    assert_eq!(first["user_stack"][3]["line"], 41);
    assert_eq!(first["images"][0]["ended"], "exit");
    assert_eq!(value["sites"][1]["images"][0]["exit_status"], 143);
    let suppressed = &value["sites"][2];
    assert_eq!([&suppressed["class"], &suppressed["class_before"]], ["suppressed", "leak"]);
    assert_eq!(suppressed["suppressed_by"], "leak:known");
    assert_eq!(value["diagnostics"][0]["top"][0]["place"], "handle_request");
    assert_eq!(value["suppressions"], json!([{"line": "leak:x", "place": "f:1", "sites": 0}]));
}

#[test]
fn what_was_killed_has_the_status_of_a_shell() {
    let mut findings = findings(Verdict::Clean, Vec::new());
    findings.command.ended = Ended::Signal(9);
    let value = value(&findings);
    assert_eq!([&value["command"]["exit_status"], &value["command"]["signal"]], [137, 9]);
}
