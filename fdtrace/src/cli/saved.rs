//! Reads a document that `explain --json` printed.

use std::{fs::File, io::BufReader, path::Path};

use serde_json::Value;

use super::Failure;
use crate::report::{
    explain::{Document, document::SCHEMA},
    words::harmless,
};

/// The first document of a file.
pub(super) fn read(path: &Path) -> Result<Document, Failure> {
    let name = harmless(&path.to_string_lossy());
    let fail = |why: String| Failure::Failed(anyhow::anyhow!("{name}: {why}"));
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let mut documents = serde_json::Deserializer::from_reader(BufReader::new(file)).into_iter::<Value>();
    let first = match documents.next() {
        Some(Ok(first)) => first,
        Some(Err(error)) if error.is_eof() => return Err(fail(format!("the document is cut off ({error})"))),
        Some(Err(error)) => return Err(fail(format!("no document of `fdtrace explain --json` ({error})"))),
        None => return Err(fail("the file is empty".to_owned())),
    };
    document(first).map_err(fail)
}

fn document(value: Value) -> Result<Document, String> {
    match value.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) => (),
        Some(other) => {
            return Err(format!("a document of schema {}; this one reads {SCHEMA}", harmless(other)));
        }
        None => return Err("no document of `fdtrace explain --json`: it has no schema".to_owned()),
    }
    if let Some(missing) = ["handles", "processes"].into_iter().find(|key| value.get(key).is_none()) {
        return Err(format!("the document has no {missing}"));
    }
    serde_json::from_value(value).map_err(|error| format!("not as {SCHEMA} has it: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_document_says_so() {
        let refused = |value: Value| document(value).expect_err("not a document");
        assert!(refused(json!([])).contains("no schema"));
        assert!(refused(json!({"schema": "fdtrace.report/1"})).contains("fdtrace.report/1"));
        assert!(refused(json!({"schema": SCHEMA, "handles": {}})).contains("no processes"));
        let wrong = json!({"schema": SCHEMA, "handles": {"total": "many"}, "processes": []});
        assert!(refused(wrong).contains("many"));
    }

    #[test]
    fn keys_may_be_missing_and_others_may_be_there() {
        let old = json!({
            "schema": SCHEMA,
            "handles": {"total": 7, "later": true},
            "processes": [{"pid": 1, "comm": "init", "handles": 3}],
        });
        let document = document(old).expect("a document");
        assert_eq!((document.handles.total, document.processes[0].handles), (7, 3));
        assert_eq!(document.processes[0].started_ns, 0);
    }
}
