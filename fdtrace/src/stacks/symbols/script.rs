//! Files of scripts, by the names that their runtimes have for them.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use crate::stacks::unwind::Root;

/// The path of a script: `/srv/app.js`, `file:///srv/an%20app.mjs`; `None` for what is in no file.
pub(super) fn path(name: &str) -> Option<PathBuf> {
    let bytes = match name.strip_prefix("file://") {
        Some(rest) => unescaped(rest)?,
        None => name.as_bytes().to_vec(),
    };
    bytes.starts_with(b"/").then(|| PathBuf::from(OsString::from_vec(bytes)))
}

/// Percent signs stand before two hexadecimal digits.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(*first);
        if *first == b'%' {
            let (digits, behind) = rest.split_first_chunk::<2>()?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.pop();
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind;
        }
    }
    Some(bytes)
}

/// Opens it as the process sees it, or when that is gone, as we do.
pub(super) fn open(pid: u32, path: &Path) -> Option<File> {
    Root::of(pid).or_else(Root::own)?.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths() {
        let found = |name: &str| path(name).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(found("/srv/a%20b.js").as_deref(), Some("/srv/a%20b.js"));
        assert_eq!(found("file:///srv/a%20b.mjs").as_deref(), Some("/srv/a b.mjs"));
        let none = [
            "node:fs",
            "fs.js",
            "[eval]",
            "",
            "file://host/x.mjs",
            "file:///%",
            "file:///%zz",
            "file:///%\u{e4}",
        ];
        assert_eq!(none.map(found), [const { None }; 8]);
    }
}
