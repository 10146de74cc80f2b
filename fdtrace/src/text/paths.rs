//! Paths and addresses as text: the files may be on another machine.

/// A path without `.`, and without `..` where it has something to go back from. Nobody asks a file system: the sources
/// may be elsewhere.
pub(crate) fn tidy_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match parts.last() {
            Some(last) if part == ".." && *last != ".." => drop(parts.pop()),
            None if part == ".." && path.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    let start = if path.starts_with('/') { "/" } else { "" };
    start.to_owned() + &parts.join("/")
}

/// The bytes of a part of an address, in which percent signs stand before two hexadecimal digits; `None` where one does not.
pub(crate) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
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

/// What stands before `://`, and what behind.
pub(crate) fn scheme(text: &str) -> Option<(&str, &str)> {
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.split_once("://").filter(|(name, _)| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_without_detours() {
        assert_eq!(["/a/./b//c/../d", "../a", "/../a", "a/.."].map(tidy_path), ["/a/b/d", "../a", "/a", ""]);
    }

    #[test]
    fn parts_of_addresses() {
        assert_eq!(percent_decoded("a%20b").as_deref(), Some(&b"a b"[..]));
        assert_eq!(["%", "%zz", "%\u{e4}"].map(percent_decoded), [const { None }; 3]);
        assert_eq!(scheme("webpack://app/a.ts"), Some(("webpack", "app/a.ts")));
        assert_eq!(["/a://b", "://b", "a.ts"].map(scheme), [None; 3]);
    }
}
