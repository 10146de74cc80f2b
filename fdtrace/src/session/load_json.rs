//! Reads a document that `explain --json` printed.

use std::path::Path;

use serde::{Deserialize, de::IgnoredAny};

use super::Failure;
use crate::{
    files,
    model::explain::{Document, SCHEMA},
    text::fmt::escape_control,
};

/// The most of a document that is read: a machine of ten thousand processes has less.
const MAX: u64 = 64 << 20;

/// What a document may take in memory.
const MAX_MEMORY: usize = 150 << 20;

/// Memory that an object and an element take at most, whatever they are.
const OBJECT: usize = 400;
const ELEMENT: usize = 32;

/// The first document of a file.
pub(crate) fn read(path: &Path) -> Result<Document, Failure> {
    let name = escape_control(&path.to_string_lossy());
    let fail = |why: String| Failure::Failed(anyhow::anyhow!("{name}: {why}"));
    let bytes = files::read(path, MAX).map_err(|error| fail(error.to_string()))?;
    document(&bytes).map_err(fail)
}

/// What is asked of a document before anything of it is kept.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Outline {
    schema: Option<String>,
    handles: Option<IgnoredAny>,
    processes: Option<IgnoredAny>,
}

fn document(bytes: &[u8]) -> Result<Document, String> {
    let mut outlines = serde_json::Deserializer::from_slice(bytes).into_iter::<Outline>();
    let outline = match outlines.next() {
        Some(Ok(outline)) => outline,
        Some(Err(error)) if error.is_eof() => return Err(format!("the document is cut off ({error})")),
        Some(Err(error)) => return Err(format!("no document of `fdtrace explain --json` ({error})")),
        None => return Err("the file is empty".to_owned()),
    };
    let first = bytes.get(..outlines.byte_offset()).unwrap_or(bytes);
    outline.check()?;
    let memory = memory(first);
    if memory > MAX_MEMORY {
        return Err(format!(
            "the document would take {} MiB of memory; the most is {} MiB",
            memory >> 20,
            MAX_MEMORY >> 20
        ));
    }
    serde_json::from_slice(first).map_err(|error| escape_control(&format!("not as {SCHEMA} has it: {error}")))
}

impl Outline {
    fn check(&self) -> Result<(), String> {
        match self.schema.as_deref() {
            Some(SCHEMA) => (),
            Some(other) => {
                return Err(format!(
                    "a document of schema {}; this one reads {SCHEMA}",
                    escape_control(other)
                ));
            }
            None => return Err("no document of `fdtrace explain --json`: it has no schema".to_owned()),
        }
        let missing = |key: &str| Err(format!("the document has no {key}"));
        match (&self.handles, &self.processes) {
            (None, _) => missing("handles"),
            (_, None) => missing("processes"),
            _ => Ok(()),
        }
    }
}

/// What a document takes at most when it is read: empty objects are short, and large in memory.
fn memory(bytes: &[u8]) -> usize {
    let count = |byte| memchr::memchr_iter(byte, bytes).count();
    bytes.len() + OBJECT * count(b'{') + ELEMENT * count(b',')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_no_document_says_so() {
        let refused = |value: Value| document(value.to_string().as_bytes()).expect_err("not a document");
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
        let document = document(old.to_string().as_bytes()).expect("a document");
        assert_eq!((document.handles.total, document.processes[0].handles), (7, 3));
        assert_eq!(document.processes[0].started_ns, 0);
    }

    #[test]
    fn short_texts_that_are_large_in_memory_are_refused() {
        let many =
            format!(r#"{{"schema":"{SCHEMA}","handles":{{}},"processes":[{}{{}}]}}"#, "{},".repeat(1 << 20));
        let why = document(many.as_bytes()).expect_err("too many");
        assert!(why.contains("MiB of memory"), "{why}");
    }
}
