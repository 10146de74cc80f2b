//! Files of scripts, by the names that their runtimes have for them.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::File,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use crate::{
    runtimes::{MapAt, Place, Placed, Unplaced},
    stacks::{reader::Reader, unwind::Root},
    text::{percent_decoded, scheme, tidy_path},
};

/// Where a call of a script is.
pub(in crate::stacks) struct Located {
    /// The file that the script was made of, where a source map tells.
    pub(in crate::stacks) source: Option<String>,
    pub(in crate::stacks) place: Place,
}

/// What is known of scripts' files.
#[derive(Default)]
pub(super) struct Scripts {
    /// Source maps that were too much once.
    unread: HashSet<PathBuf>,
}

/// The most source maps of which that is remembered.
const MAX_UNREAD: usize = 1024;

impl Scripts {
    /// Where a call is, by the text of its script as the process sees it, or as we do when that is gone.
    pub(super) fn located(
        &mut self,
        reader: &mut Reader,
        pid: u32,
        script: &str,
        unplaced: &Unplaced,
    ) -> Option<Located> {
        let path = path(script)?;
        let root = Root::of(pid).or_else(Root::own)?;
        let file = root.open(&path)?;
        let Placed { place, map } = match reader.place(&file, unplaced) {
            Ok(placed) => placed?,
            Err(why) => {
                reader.remark(&path, why, "its calls have no lines");
                return None;
            }
        };
        let source = map.and_then(|map| self.source(reader, &root, (&path, &file), &map, place));
        Some(source.unwrap_or(Located { source: None, place }))
    }

    /// The same in what the script was made of.
    fn source(
        &mut self,
        reader: &mut Reader,
        root: &Root,
        (script, file): (&Path, &File),
        map: &MapAt,
        place: Place,
    ) -> Option<Located> {
        let (path, beside);
        let (path, file, is_inside) = match map {
            MapAt::Inside => (script, file, true),
            MapAt::Beside(url) => {
                path = script.parent()?.join(relative(url)?);
                beside = root.open(&path)?;
                (&*path, &beside, false)
            }
        };
        if self.unread.contains(path) {
            return None;
        }
        match reader.source(file, is_inside, place) {
            Ok(found) => {
                let (name, place) = found?;
                Some(Located { source: Some(source_path(path, &name)), place })
            }
            Err(why) => {
                reader.remark(path, why, "calls have the places of the script that was made");
                if self.unread.len() < MAX_UNREAD {
                    self.unread.insert(path.to_owned());
                }
                None
            }
        }
    }
}

/// A path from a script's folder on; `None` for what is an address, or of another folder altogether.
fn relative(url: &str) -> Option<PathBuf> {
    let is_relative =
        !url.starts_with('/') && !url.split('/').next().is_some_and(|first| first.contains(':'));
    is_relative.then(|| percent_decoded(url))?.map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
}

/// What a source is called: a path, or an address as bundlers make them up (`webpack://app/src/main.ts`).
fn source_path(map: &Path, name: &str) -> String {
    if let Some(path) = path(name) {
        return tidy_path(&path.to_string_lossy());
    }
    match map.parent() {
        Some(folder) if scheme(name).is_none() => tidy_path(&folder.join(name).to_string_lossy()),
        _ => name.to_owned(),
    }
}

/// The path of a script: `/srv/app.js`, `file:///srv/an%20app.mjs`; `None` for what is in no file.
fn path(name: &str) -> Option<PathBuf> {
    let bytes = match name.strip_prefix("file://") {
        Some(rest) => percent_decoded(rest)?,
        None => name.as_bytes().to_vec(),
    };
    bytes.starts_with(b"/").then(|| PathBuf::from(OsString::from_vec(bytes)))
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

    #[test]
    fn maps_lie_in_the_folders_of_scripts() {
        let found = |url: &str| relative(url).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(found("app.js.map").as_deref(), Some("app.js.map"));
        assert_eq!(found("../maps/a%20b.js.map").as_deref(), Some("../maps/a b.js.map"));
        assert_eq!(["/etc/shadow", "https://host/a.map", "file:a.map", "%"].map(found), [const { None }; 4]);
    }

    #[test]
    fn sources_by_their_names() {
        let found = |name: &str| source_path(Path::new("/srv/dist/app.js.map"), name);
        assert_eq!(found("../src/./app.ts"), "/srv/src/app.ts");
        assert_eq!(found("file:///srv/src/a%20b.ts"), "/srv/src/a b.ts");
        assert_eq!(found("/srv/x/../app.ts"), "/srv/app.ts");
        assert_eq!(found("webpack://app/./src/main.ts"), "webpack://app/./src/main.ts");
    }
}
