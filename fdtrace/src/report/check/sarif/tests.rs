use serde_json::Value;

use super::{super::fixture::*, *};
use crate::model::fixture::written;

fn sarif(findings: &Findings) -> Value {
    let text = written(|out| write(out, findings, Path::new("/src/app")));
    serde_json::from_str(&text).expect("JSON")
}

fn assert_valid(findings: &Findings) {
    let schema = include_str!("../../../../tests/schemas/sarif-used.json");
    let schema: Value = serde_json::from_str(schema).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let value = sarif(findings);
    let errors: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn all_sorts_are_as_the_standard_has_it() {
    let mut findings = all_sorts();
    findings
        .diagnostics
        .extend(DiagnosticKind::ALL.map(|kind| Diagnostic { fatal: true, ..noticed(kind, 2) }));
    (findings.applied.total, findings.applied.max_total) = (54, Some(10));
    findings.incomplete_reasons.push("7 events were lost".to_owned());
    assert_valid(&findings);
    let mut nothing_known = c_leak();
    nothing_known.site.user_stack.clear();
    nothing_known.site.name_id = None;
    assert_valid(&super::super::fixture::findings(Verdict::Leak, vec![nothing_known]));
}

#[test]
fn no_leak_is_as_the_standard_has_it() {
    assert_valid(&findings(Verdict::Clean, no_leaks()));
    assert_valid(&findings(Verdict::Inconclusive, Vec::new()));
}

#[test]
fn a_scripts_line_is_a_place_as_well() {
    let findings = findings(Verdict::Leak, vec![script_leak()]);
    assert_valid(&findings);
    let result = &sarif(&findings)["runs"][0]["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "app/db.py");
    assert_eq!(place["region"]["startLine"], 12);
    let frames = result["stacks"][0]["frames"].as_array().expect("frames");
    let name = |frame: &Value| frame["location"]["logicalLocations"][0]["fullyQualifiedName"].clone();
    let names: Vec<Value> = frames.iter().map(name).collect();
    assert_eq!(names, ["pipe2", "load_config", "main", "__libc_start_call_main"]);
}

#[test]
fn the_line_is_the_users() {
    let value = sarif(&all_sorts());
    let run = &value["runs"][0];
    let result = &run["results"][0];
    assert_eq!([&result["ruleId"], &result["level"]], ["leak", "error"]);
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "src/server.c");
    assert_eq!(place["artifactLocation"]["uriBaseId"], "%SRCROOT%");
    assert_eq!(place["region"]["startLine"], 41);
    assert_eq!(run["originalUriBaseIds"]["%SRCROOT%"]["uri"], "file:///src/app/");
    assert_eq!(result["partialFingerprints"]["fdtrace/site/v1"], "c1ea");
    assert_eq!(result["stacks"][0]["frames"].as_array().map(Vec::len), Some(8));
    assert_eq!(
        result["message"]["text"],
        "50 files opened at src/server.c:41 (handle_request) were never closed. To fix it: call fclose() on every \
         path out of handle_request, error paths too, or hand it to an owner that does."
    );
}

#[test]
fn what_is_known_is_there_and_suppressed() {
    let value = sarif(&all_sorts());
    let results = value["runs"][0]["results"].as_array().expect("results");
    let rules: Vec<&str> = results.iter().filter_map(|result| result["ruleId"].as_str()).collect();
    assert_eq!(rules, ["leak", "leak", "leak", "emfile", "inherit"]);
    assert_eq!(results[2]["suppressions"][0]["justification"], "leak:known");
    assert_eq!(results[3]["level"], "note");
}

#[test]
fn what_is_lost_is_said() {
    let mut findings = findings(Verdict::Inconclusive, Vec::new());
    findings.incomplete_reasons.push("7 events were lost".to_owned());
    let value = sarif(&findings);
    let invocation = &value["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    assert_eq!(invocation["toolExecutionNotifications"][0]["message"]["text"], "7 events were lost");
}
