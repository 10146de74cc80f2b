//! Where a frame is, as URIs.

use std::path::Path;

use super::{
    SOURCES,
    log::{ArtifactLocation, Location, LogicalLocation, PhysicalLocation, Region},
};
use crate::{
    model::UserFrame,
    stacks::{describe::name, is_script},
    text::{percent_decoded, scheme, tidy_path},
};

/// The folder from which sources are named.
pub(super) struct Root {
    /// Without a slash at its end.
    path: String,
}

impl Root {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: tidy_path(&path.to_string_lossy()).trim_end_matches('/').to_owned() }
    }

    /// The folder itself.
    pub(super) fn uri(&self) -> String {
        format!("file://{}/", escaped(&self.path))
    }

    /// The source line where it is known, else the module.
    pub(super) fn location(&self, frame: &UserFrame) -> Location {
        let file = frame.file.as_deref().or(frame.module.as_deref().filter(|module| module.starts_with('/')));
        // `<string>` and its like are no files.
        let file = file.filter(|file| !(is_script(frame) && file.starts_with('<')));
        // Line 0 is what compilers give to code of no line.
        let line = frame.file.as_ref().and(frame.line).filter(|line| *line > 0);
        Location {
            physical_location: file.map(|file| PhysicalLocation {
                artifact_location: self.artifact(file),
                region: line.map(|start_line| Region { start_line, start_column: frame.column }),
            }),
            logical_locations: vec![LogicalLocation { fully_qualified_name: name(frame), kind: "function" }],
        }
    }

    /// A file below the folder by its path from there; so is one of which only such a path is known.
    fn artifact(&self, file: &str) -> ArtifactLocation {
        let decoded = match scheme(file) {
            Some(("file", path)) => percent_decoded(path),
            Some((scheme, rest)) => {
                return ArtifactLocation { uri: format!("{scheme}://{}", escaped(rest)), uri_base_id: None };
            }
            None => None,
        };
        let path = decoded.as_deref().map_or(file.into(), String::from_utf8_lossy);
        let file = tidy_path(&path);
        let below = file.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix('/'));
        let relative = below.or_else(|| (!file.starts_with('/')).then_some(file.as_str()));
        match relative {
            Some(relative) => ArtifactLocation { uri: escaped(relative), uri_base_id: Some(SOURCES) },
            None => ArtifactLocation { uri: format!("file://{}", escaped(&file)), uri_base_id: None },
        }
    }
}

/// A path in a URI: what is not plain is written as its bytes.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' | b'@' => {
                text.push(char::from(byte));
            }
            other => text += &format!("%{other:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::script;

    fn artifact(root: &str, file: &str) -> (String, bool) {
        let found = Root::new(Path::new(root)).artifact(file);
        (found.uri, found.uri_base_id.is_some())
    }

    #[test]
    fn sources_are_named_from_the_folder() {
        assert_eq!(artifact("/src/app/", "/src/app/lib/../src/a b.c"), ("src/a%20b.c".to_owned(), true));
        assert_eq!(artifact("/src/app", "./src/a.c"), ("src/a.c".to_owned(), true));
        assert_eq!(artifact("/src/app", "/src/apple/a.c"), ("file:///src/apple/a.c".to_owned(), false));
        assert_eq!(artifact("/src/app", "file:///src/app/a%20b.mjs"), ("a%20b.mjs".to_owned(), true));
        assert_eq!(
            artifact("/src/app", "webpack://app/a b.ts"),
            ("webpack://app/a%20b.ts".to_owned(), false)
        );
        assert_eq!(artifact("/", "/a.c"), ("a.c".to_owned(), true));
        assert_eq!(Root::new(Path::new("/")).uri(), "file:///");
    }

    #[test]
    fn a_script_may_have_no_file() {
        let of =
            |file: &str| Root::new(Path::new("/src/app")).location(&script("f", file, 3)).physical_location;
        assert!(of("<string>").is_none());
        let uri = of("/src/app/\x1b.py").expect("a file").artifact_location.uri;
        assert_eq!(uri, "%1B.py");
    }

    #[test]
    fn paths() {
        assert_eq!(escaped("ü?#%:\u{1}"), "%C3%BC%3F%23%25%3A%01");
    }
}
