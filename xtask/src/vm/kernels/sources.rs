//! The apt sources of this machine, in both of their formats (see `man sources.list`).

use anyhow::{Result, bail};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

const FOLDER: &str = "/etc/apt";

/// An archive of Debian packages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    pub(super) uri: String,
    /// The suites that the machine itself uses.
    pub(super) suites: Vec<String>,
    components: Vec<String>,
    /// The keyring, when the source names one.
    pub(super) signed_by: Option<PathBuf>,
}

impl Source {
    /// Debian's main archive, at the mirror that this machine uses or at the one that is given.
    pub(super) fn of_this_machine(mirror: Option<&str>) -> Result<Self> {
        if let Some(uri) = mirror {
            return Ok(Self {
                uri: uri.into(),
                suites: vec![],
                components: vec!["main".into()],
                signed_by: None,
            });
        }
        let candidates: Vec<_> = files().iter().flat_map(|(path, text)| main_archives(path, text)).collect();
        match preferred(&candidates) {
            Some(source) => Ok(source.clone()),
            None => {
                bail!("apt on this machine has no source for Debian's main archive: give one by --mirror URI")
            }
        }
    }

    /// Whether this is the main archive, and not that of security updates, nor another distribution's or project's.
    fn is_main_archive(&self) -> bool {
        let has_main = self.components.iter().any(|component| component == "main");
        has_main && self.suites.iter().any(|suite| is_debian_suite(suite))
    }
}

/// The releases of Debian that have the kernels that we know, and the names that move from one to the next.
fn is_debian_suite(suite: &str) -> bool {
    const RELEASES: [&str; 10] = [
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ];
    let release =
        suite.strip_suffix("-updates").or_else(|| suite.strip_suffix("-backports")).unwrap_or(suite);
    RELEASES.contains(&release)
}

/// The files of apt's configuration that name sources, with their contents.
fn files() -> Vec<(PathBuf, String)> {
    let folder = Path::new(FOLDER);
    let parts = fs::read_dir(folder.join("sources.list.d")).into_iter().flatten().flatten();
    let mut paths: Vec<_> = parts.map(|entry| entry.path()).collect();
    paths.push(folder.join("sources.list"));
    paths.sort();
    paths.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?))).collect()
}

/// Other projects name their suites as Debian does; what sets a mirror of Debian apart is the end of its address.
fn preferred(candidates: &[Source]) -> Option<&Source> {
    let is_mirror = |source: &&Source| source.uri.trim_end_matches('/').ends_with("/debian");
    candidates.iter().find(is_mirror).or(candidates.first())
}

fn main_archives(path: &Path, text: &str) -> Vec<Source> {
    let mut sources = match path.extension().and_then(OsStr::to_str) {
        Some("sources") => deb822(text),
        Some("list") => one_line(text),
        _ => vec![],
    };
    sources.retain(Source::is_main_archive);
    sources
}

/// The format of `.sources`: paragraphs of fields, one source for each address.
fn deb822(text: &str) -> Vec<Source> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(paragraph).flatten().collect()
}

fn paragraph(lines: &[&str]) -> Option<Vec<Source>> {
    let enabled = field(lines, "Enabled").is_none_or(|values| values != ["no"]);
    if !enabled || !field(lines, "Types")?.contains(&"deb".to_owned()) {
        return None;
    }
    let suites = field(lines, "Suites")?;
    let components = field(lines, "Components").unwrap_or_default();
    let signed_by = field(lines, "Signed-By").unwrap_or_default().first().and_then(|path| keyring(path));
    let sources = field(lines, "URIs")?.into_iter().map(|uri| Source {
        uri,
        suites: suites.clone(),
        components: components.clone(),
        signed_by: signed_by.clone(),
    });
    Some(sources.collect())
}

/// The words of a field; a line that begins with white space continues the one before.
fn field(lines: &[&str], name: &str) -> Option<Vec<String>> {
    let is_named =
        |line: &&str| line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
    let start = lines.iter().position(is_named)?;
    let first = lines[start].split_once(':')?.1;
    let continued = lines[start + 1..].iter().take_while(|line| line.starts_with([' ', '\t']));
    let words = std::iter::once(&first).chain(continued).flat_map(|line| line.split_whitespace());
    Some(words.map(str::to_owned).collect())
}

/// The format of `.list`: a source on each line.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(line).collect()
}

/// `deb [option=value ...] uri suite component...`
fn line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.and_then(keyring),
    })
}

/// `Signed-By` may also hold fingerprints or a whole key; only a file is of use for another suite.
fn keyring(value: &str) -> Option<PathBuf> {
    let first = value.split(',').next()?;
    first.starts_with('/').then(|| PathBuf::from(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
# A comment
Types: deb deb-src
# another, inside a paragraph
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /keys/security.gpg

Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
signed-by: /keys/debian.gpg
";

    fn only(mut sources: Vec<Source>) -> Source {
        assert_eq!(sources.len(), 1);
        sources.remove(0)
    }

    #[test]
    fn the_main_archive_is_found_among_paragraphs() {
        let source = only(main_archives(Path::new("x.sources"), DEB822));
        assert_eq!(source.uri, "http://mirror.example/debian");
        assert_eq!(source.suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(source.signed_by, Some("/keys/debian.gpg".into()));
    }

    #[test]
    fn a_disabled_paragraph_is_no_source() {
        let text = "Types: deb\nURIs: http://a.example\nSuites: trixie\nComponents: main\nEnabled: no\n";
        assert_eq!(deb822(text), []);
    }

    #[test]
    fn an_embedded_key_is_no_keyring() {
        let text = "Types: deb\nURIs: http://a.example\nSuites: trixie\nComponents: main\nSigned-By:\n \
                    -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n";
        assert_eq!(deb822(text)[0].signed_by, None);
    }

    #[test]
    fn the_main_archive_is_found_among_lines() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb-src http://src.example/debian bookworm main\n\
                    deb http://other.example stable nonfree\n\
                    deb http://security.example bookworm-security main\n\
                    deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.example/debian trixie main # note\n";
        let source = only(main_archives(Path::new("x.list"), text));
        assert_eq!(source.uri, "http://mirror.example/debian");
        assert_eq!(source.suites, ["trixie"]);
        assert_eq!(source.signed_by, Some("/keys/debian.gpg".into()));
    }

    #[test]
    fn other_projects_and_other_files_are_left_alone() {
        let text = "deb https://project.example/apt cloud-bookworm main\ndeb https://u.example noble main\n";
        assert_eq!(main_archives(Path::new("x.list"), text), []);
        assert_eq!(main_archives(Path::new("x.sources.disabled"), DEB822), []);
    }

    #[test]
    fn a_mirror_is_preferred_to_a_project_with_the_same_suite() {
        let text =
            "deb https://project.example/apt trixie main\ndeb http://mirror.example/debian/ trixie main\n";
        let preferred = preferred(&one_line(text)).map(|source| source.uri.clone());
        assert_eq!(preferred.as_deref(), Some("http://mirror.example/debian/"));
    }
}
