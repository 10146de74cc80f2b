//! Documents that were written by hand, as others read and write them: each key of theirs is a key of ours.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Document, UserFrame, check::Findings, explain};

/// Reads a document and writes it again: all that it says is still there, under the same keys.
fn keeps<T: Serialize + DeserializeOwned>(golden: &Value) {
    let document: T = serde_json::from_value(golden.clone()).expect("the shape");
    let written = serde_json::to_value(document).expect("JSON");
    assert_inside(golden, &written, "document");
}

fn assert_inside(golden: &Value, written: &Value, path: &str) {
    match (golden, written) {
        (Value::Object(golden), Value::Object(written)) => {
            for (key, value) in golden {
                let found = written.get(key).unwrap_or_else(|| panic!("{path}.{key} is not there"));
                assert_inside(value, found, &format!("{path}.{key}"));
            }
        }
        (Value::Array(golden), Value::Array(written)) => {
            assert_eq!(golden.len(), written.len(), "{path}");
            golden.iter().zip(written).for_each(|(golden, written)| assert_inside(golden, written, path));
        }
        _ => assert_eq!(golden, written, "{path}"),
    }
}

fn trace() -> Value {
    json!({
        "start": "2026-01-02T03:04:05Z", "duration_ns": 12, "backend": "kprobe", "complete": false,
        "events": {"allocated": 9, "released": 4, "never_opened": 1, "errors": {"ENFILE": 2}},
        "lost": {"events": 1, "handles": 2, "stacks": 3, "skipped": 4, "healed": 5},
    })
}

fn site() -> Value {
    json!({
        "id": "00c1ea", "origin": "open", "live": 5, "allocated": 9, "released": 4,
        "released_by": {"close": 3, "exit": 1}, "oldest_age_ns": 7, "verdict": "growing", "kinds": {"regular": 5},
        "processes": [{"pid": 7, "comm": "app", "exe": "/opt/app", "cgroup": "/", "live": 5}],
        "examples": [{"name": "/tmp/x", "kind": "regular", "pid": 7, "fd": 3, "age_ns": 7},
                     {"name": "/tmp/y", "kind": "regular", "pid": 7, "fd": null, "age_ns": 6}],
        "kernel_stack": [{"symbol": "do_sys_open", "offset": 16}],
        "user_stack": [{"symbol": "leak", "module": "/opt/app", "file": "a.c", "line": 3, "inlined": false,
                        "build_id": "b1d0", "offset": 512},
                       {"runtime": "cpython", "symbol": "load", "file": "/app/db.py", "line": 12}],
        "user_stack_complete": true,
    })
}

#[test]
fn report() {
    keeps::<Document>(&json!({
        "schema": "fdtrace.report/1", "trace": trace(), "handles": {"live": 5, "pre_existing": 2}, "sites": [site()],
    }));
}

#[test]
fn native_frames_have_no_runtime() {
    let frame: UserFrame =
        serde_json::from_value(json!({"symbol": "leak"})).expect("an old document's frame");
    assert_eq!(frame.runtime, None);
    assert_eq!(serde_json::to_value(frame).expect("JSON").get("runtime"), None);
}

#[test]
fn explain() {
    let holders = json!({
        "descriptor": 3, "shm_attach": 1, "mapping": 2, "shm_segment": 0, "scm_rights": 0, "io_uring": 0, "executable": 1,
    });
    keeps::<explain::Document>(&json!({
        "schema": "fdtrace.explain/1",
        "file_nr": {"allocated": 9, "min": 8, "max": 10, "exact": true, "limit": 100},
        "handles": {"total": 7, "accounted": 6, "unaccounted_by_file_nr": 1, "hidden": 2, "by_holder": holders},
        "residual": {"min": 1, "max": 3, "reasons": ["loop devices"],
                     "unreadable_processes": [{"pid": 1, "comm": "init", "descriptors": 250}]},
        "partial": ["no mappings"], "lsof_view": {"descriptors": 4},
        "processes": [{"pid": 7, "comm": "app", "exe": "/opt/app", "cgroup": "/", "handles": 7, "descriptors": 4,
                       "hidden": 2, "limit": {"soft": 1024, "hard": 4096}, "by_holder": holders,
                       "files": [{"kind": "regular", "name": "/tmp/x", "holders": {"descriptor": 1, "mapping": 2},
                                  "count": 1}]}],
    }));
}

#[test]
fn check() {
    let mut site = site();
    let more = json!({
        "leaked": 5, "class": "suppressed", "suppressed_by": "leak:leak", "because": null, "class_before": "leak",
        "baseline": null, "handles": 5, "closed_by_end": 0, "images_in_all": 1,
        "images": [{"pid": 7, "comm": "app", "exe": "/opt/app", "calls": 5, "handles": 5, "allocated": 9, "released": 4,
                    "ended": "signal", "exit_status": 143}],
    });
    site.as_object_mut().expect("an object").append(&mut more.as_object().expect("an object").clone());
    keeps::<Findings>(&json!({
        "schema": "fdtrace.check/1", "verdict": "clean", "incomplete_reasons": [], "evaluated_early": false,
        "command": {"argv": ["app", "-x"], "exit_status": 143, "signal": 15, "duration_ns": 9},
        "trace": trace(), "sites": [site], "diagnostics": [], "processes": [], "scopes": [], "programs": 1,
        "total": 0, "max_total": null, "baseline_removable": [],
        "suppressions": [{"line": "leak:leak", "place": "known:1", "sites": 1}],
    }));
}
