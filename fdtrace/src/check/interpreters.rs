//! Programs that run scripts.

use crate::stream::Site;

/// Programs that run what others wrote in another language: their functions say nothing of it.
const INTERPRETERS: [&str; 21] = [
    "python",
    "libpython",
    "node",
    "nodejs",
    "libnode",
    "perl",
    "libperl",
    "ruby",
    "libruby",
    "php",
    "php-fpm",
    "lua",
    "luajit",
    "java",
    "libjvm",
    "beam.smp",
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
];

/// The interpreter that a module's file is, by the file's name without its version.
#[must_use]
pub fn named(file: &str) -> Option<&'static str> {
    INTERPRETERS.into_iter().find(|name| {
        let version = |next: char| next == '.' || next.is_ascii_digit();
        file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(version))
    })
}

/// Whether a chain leads through one: then it stands for all lines of the script that come that way.
pub(super) fn runs(site: &Site) -> bool {
    let files = site.user.frames.iter().filter_map(|frame| frame.module.as_deref());
    files.map(|path| path.rsplit('/').next().unwrap_or(path)).any(|file| named(file).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_name_of_the_file() {
        assert_eq!(named("python3.11"), Some("python"));
        assert_eq!(named("libpython3.11.so.1.0"), Some("libpython"));
        assert_eq!(named("bash"), Some("bash"));
        assert_eq!(named("nodelay"), None);
    }
}
