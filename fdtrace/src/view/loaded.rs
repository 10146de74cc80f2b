//! Handles that every running program has: its executable, its libraries, its locales.
//!
//! They stay open as long as the program runs, and say nothing about a leak.

use super::sites::SiteGroups;
use crate::{
    model::{Origin, UserFrame},
    stream::{FdLookup, Site},
};

/// Dynamic loaders: glibc's, musl's.
const LOADERS: [&str; 2] = ["ld-", "ld.so"];

/// Functions of glibc that map locales and character sets.
const LOCALES: [&str; 3] = ["_nl_load_locale", "_nl_find_locale", "__gconv_load"];

/// How far from the system call a loader is looked for.
const FRAMES: usize = 4;

/// Whether a site has loaded what programs run, and no descriptor is known to point to any of it.
pub(super) fn is_loaded(site: &SiteGroups) -> bool {
    let has_descriptor = |old: &FdLookup| matches!(old, FdLookup::Found(..));
    loads(&site.site) && !site.oldest.iter().any(|(_, old)| has_descriptor(&old.descriptor))
}

fn loads(site: &Site) -> bool {
    site.origin == Origin::Exec
        || site.origin == Origin::Open && site.user.frames.iter().take(FRAMES).any(|frame| is_loader(frame))
}

fn is_loader(frame: &UserFrame) -> bool {
    let begins = |name: &str, with: &[&str]| with.iter().any(|beginning| name.starts_with(beginning));
    let file_name = |module: &str| module.rsplit('/').next().is_some_and(|name| begins(name, &LOADERS));
    frame.module.as_deref().is_some_and(file_name)
        || frame.symbol.as_deref().is_some_and(|function| begins(function, &LOCALES))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::UserStack;

    fn site(origin: Origin, symbol: &str, module: &str) -> Site {
        let frame = |symbol: &str, module: &str| {
            Arc::new(UserFrame {
                symbol: Some(symbol.to_owned()),
                module: Some(module.to_owned()),
                ..UserFrame::default()
            })
        };
        let frames =
            vec![frame("open64", "/usr/lib/libc.so.6"), frame(symbol, module), frame("main", "/opt/app")];
        Site { id: 1, origin, kernel: Vec::new(), user: UserStack { frames, complete: true } }
    }

    #[test]
    fn programs_libraries_and_locales() {
        assert!(loads(&site(Origin::Open, "_dl_map_object", "/lib64/ld-linux-x86-64.so.2")));
        assert!(loads(&site(Origin::Open, "_nl_load_locale_from_archive", "/usr/lib/libc.so.6")));
        assert!(loads(&site(Origin::Exec, "execve", "/usr/lib/libc.so.6")));
        assert!(!loads(&site(Origin::Open, "fopen64", "/usr/lib/libc.so.6")));
        assert!(!loads(&site(Origin::Socket, "connect", "/lib64/ld-linux-x86-64.so.2")));
    }
}
