//! Whether a file is an archive of code, by its beginning: what is on a class path.

use std::{io::Read as _, path::Path};

use crate::files;

/// Where a zip archive has the length of its first entry's name, and where the name is.
const LENGTH: usize = 26;
const NAME: usize = 30;
/// So much of a file is read.
const MAX: u64 = 512;

/// Whether a file is a zip archive that begins as one of classes does: with its manifest, or with a class.
pub(crate) fn holds_code(path: &str) -> bool {
    let mut beginning = Vec::new();
    let read = files::open(Path::new(path)).and_then(|file| file.take(MAX).read_to_end(&mut beginning));
    path.starts_with('/') && read.is_ok() && begins_like_one(&beginning)
}

fn begins_like_one(beginning: &[u8]) -> bool {
    let length =
        beginning.get(LENGTH..LENGTH + 2).map(|bytes| usize::from(bytes[0]) | usize::from(bytes[1]) << 8);
    let name = length.and_then(|length| beginning.get(NAME..NAME + length)).unwrap_or_default();
    beginning.starts_with(b"PK\x03\x04") && (name.starts_with(b"META-INF/") || name.ends_with(b".class"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(first: &str) -> Vec<u8> {
        let length = u8::try_from(first.len()).expect("short");
        [b"PK\x03\x04", &[0; 22][..], &[length, 0, 0, 0], first.as_bytes(), b"rest"].concat()
    }

    #[test]
    fn by_the_first_entry() {
        assert!(
            ["META-INF/", "META-INF/MANIFEST.MF", "a/Main.class"]
                .iter()
                .all(|name| begins_like_one(&archive(name)))
        );
        assert!(!["", "notes.txt", "word/document.xml"].iter().any(|name| begins_like_one(&archive(name))));
        assert!(!begins_like_one(b"META-INF/") && !begins_like_one(b"PK\x03\x04"));
    }

    #[test]
    fn what_is_no_file_holds_nothing() {
        assert!(
            !holds_code("/dev/zero") && !holds_code("/") && !holds_code("/not/there") && !holds_code("a.jar")
        );
    }
}
