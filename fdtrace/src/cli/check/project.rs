//! `.fdtrace.toml`: what a project wants unless the command line says otherwise.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::super::values;
use crate::{
    files,
    model::{Kind, check::DiagnosticKind},
    session::Failure,
    text::fmt::escape_control,
};

/// The file's name.
const NAME: &str = ".fdtrace.toml";

/// The most of it that is read.
const MAX: u64 = 1 << 20;

/// A project's file that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where.
    pub(super) path: PathBuf,
    /// Whose it is: what it names has to be that user's as well.
    pub(super) owner: u32,
    /// What it wants.
    pub(super) project: Project,
}

impl Found {
    /// A path as the file has it: from the folder of that file.
    pub(super) fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| file.to_owned(), |folder| folder.join(file))
    }

    /// Reads a file that it names.
    pub(super) fn read(&self, file: &Path, most: u64) -> Result<(PathBuf, String), Failure> {
        let path = self.beside(file);
        match files::read_of(self.owner, &path, most) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(cannot_read(&path, &error)),
        }
    }
}

/// What a project wants of `fdtrace check`: the options' own names.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Project {
    /// `--max-per-site`
    pub(super) max_per_site: Option<u64>,
    /// `--strict`
    pub(super) strict: Option<bool>,
    /// `--max-total`
    pub(super) max_total: Option<u64>,
    /// `--settle`
    #[serde(deserialize_with = "duration")]
    pub(super) settle: Option<Duration>,
    /// `--close-wait`
    #[serde(deserialize_with = "duration")]
    pub(super) close_wait: Option<Duration>,
    /// `--suppressions`: a file beside this one, or the lines themselves.
    pub(super) suppressions: Option<Suppressed>,
    /// `--baseline`: a file beside this one.
    pub(super) baseline: Option<PathBuf>,
    /// `--ignore-kind`
    #[serde(deserialize_with = "kinds")]
    pub(super) ignore_kind: Option<Vec<Kind>>,
    /// `--fail-on`
    #[serde(deserialize_with = "diagnostic_kinds")]
    pub(super) fail_on: Option<Vec<DiagnosticKind>>,
    /// `--leak-exit-code`
    pub(super) leak_exit_code: Option<u8>,
}

/// Suppressions of a project.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a file's name, or a list of lines such as \"leak:function\"")]
pub(super) enum Suppressed {
    /// A file of them.
    File(PathBuf),
    /// Themselves.
    Lines(Vec<String>),
}

/// The whole file: one table for each verb that takes defaults.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Whole {
    check: Project,
}

impl Project {
    /// The file of a folder's project, and its path: in the folder or the next one above it, up to the root of the
    /// repository. Outside of a repository only the folder itself counts, for the others may be anybody's.
    ///
    /// # Errors
    /// A file that cannot be read or understood: a sentence with its line.
    pub(super) fn find(from: &Path) -> Result<Option<Found>, Failure> {
        for path in folders(from).into_iter().map(|folder| folder.join(NAME)) {
            match files::read_owned(&path, MAX) {
                Ok((owner, text)) => {
                    return Self::parse(&path, &text).map(|project| Some(Found { path, owner, project }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot_read(&path, &error)),
            }
        }
        Ok(None)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let whole: Result<Whole, _> = toml::from_str(text);
        whole.map(|whole| whole.check).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Failure::Usage(format!("{}:{line}: {}", shown(path), escape_control(error.message())))
        })
    }
}

/// Where a project's file may be, the nearest folder first.
fn folders(from: &Path) -> Vec<&Path> {
    let root = from.ancestors().find(|folder| folder.join(".git").exists());
    let is_inside = |folder: &&Path| root.map_or(*folder == from, |root| folder.starts_with(root));
    from.ancestors().take_while(is_inside).collect()
}

pub(super) fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", shown(path)))
}

/// A path in a message.
pub(super) fn shown(path: &Path) -> String {
    escape_control(&path.to_string_lossy())
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::duration(&text).map(Some).map_err(D::Error::custom)
}

fn kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Kind>>, D::Error> {
    words(deserializer, values::kind)
}

fn diagnostic_kinds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<DiagnosticKind>>, D::Error> {
    words(deserializer, values::diagnostic_kind)
}

/// One word, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a word or a list of words")]
enum Words {
    One(String),
    Several(Vec<String>),
}

fn words<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, D::Error> {
    let words = match Words::deserialize(deserializer)? {
        Words::One(word) => vec![word],
        Words::Several(words) => words,
    };
    let parsed: Result<Vec<T>, String> = words.iter().map(|word| parse(word)).collect();
    parsed.map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parse(text: &str) -> Result<Project, String> {
        Project::parse(Path::new("/p/.fdtrace.toml"), text).map_err(|failure| match failure {
            Failure::Usage(sentence) => sentence,
            Failure::Failed(error) => error.to_string(),
        })
    }

    #[test]
    fn all_keys() {
        let text = r#"
            [check]
            max-per-site = 3
            strict = false
            max-total = 40
            settle = "2s"
            close-wait = "1m"
            suppressions = "ci/known.supp"
            baseline = "ci/baseline.json"
            ignore-kind = "socket"
            fail-on = ["emfile", "close-wait"]
            leak-exit-code = 7
        "#;
        let expected = Project {
            max_per_site: Some(3),
            strict: Some(false),
            max_total: Some(40),
            settle: Some(Duration::from_secs(2)),
            close_wait: Some(Duration::from_mins(1)),
            suppressions: Some(Suppressed::File("ci/known.supp".into())),
            baseline: Some("ci/baseline.json".into()),
            ignore_kind: Some(vec![Kind::Socket]),
            fail_on: Some(vec![DiagnosticKind::Emfile, DiagnosticKind::CloseWait]),
            leak_exit_code: Some(7),
        };
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(Project::default()));
        let lines = parse("[check]\nsuppressions = [\"leak:a\"]").map(|project| project.suppressions);
        assert_eq!(lines, Ok(Some(Suppressed::Lines(vec!["leak:a".to_owned()]))));
    }

    #[test]
    fn mistakes_name_their_line() {
        let refused = |text: &str| parse(text).expect_err("a mistake");
        let unknown = refused("[check]\nstrict = true\nmax-sites = 3\n");
        assert!(
            unknown.starts_with("/p/.fdtrace.toml:3: unknown field `max-sites`, expected one of"),
            "{unknown}"
        );
        assert!(refused("[live]\n").starts_with("/p/.fdtrace.toml:1: unknown field `live`"));
        assert!(refused("[check]\nfail-on = \"x\"\n").contains(":2: words of --fail-on are emfile, enfile"));
        assert!(refused("[check]\n\nsettle = \"5\"\n").contains(":3: "));
        assert!(refused("[check]\nsuppressions = 3\n").contains("a file's name, or a list of lines"));
        assert!(refused("[check\n").starts_with("/p/.fdtrace.toml:1: "));
    }

    #[test]
    fn the_nearest_file_up_to_the_root_of_the_repository() -> io::Result<()> {
        let top = std::env::temp_dir().join(format!("fdtrace-project-{}", std::process::id()));
        let inner = top.join("repository/a/b");
        fs::create_dir_all(&inner)?;
        let found = |from: &Path| {
            Project::find(from).ok().flatten().map(|found| (found.path, found.project.max_total))
        };
        fs::write(top.join(NAME), "[check]\nmax-total = 1\n")?;
        assert_eq!(found(&inner), None, "it is not the folder's own");
        fs::create_dir(top.join("repository/.git"))?;
        assert_eq!(found(&inner), None, "it is outside of the repository");
        let (middle, root) = (top.join("repository/a").join(NAME), top.join("repository").join(NAME));
        fs::write(&root, "[check]\nmax-total = 2\n")?;
        assert_eq!(found(&inner), Some((root, Some(2))));
        fs::write(&middle, "[check]\nmax-total = 3\n")?;
        assert_eq!(found(&inner), Some((middle, Some(3))));
        fs::remove_dir_all(&top)
    }
}
