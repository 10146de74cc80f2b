//! What `check` takes for a leak: from the command line, and from the project's file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    super::values,
    project::{Found, Project, Suppressed, cannot_read, shown},
};
use crate::{
    check::{Baseline, Policy, Suppressions},
    files,
    model::{Kind, check::DiagnosticKind},
    session::Failure,
};

/// A program that ends when its connection does has it in CLOSE_WAIT for a moment.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// What has been closed is gone after this time, also when somebody else had to do it.
const SETTLE: Duration = Duration::from_millis(500);
/// LeakSanitizer's number.
const LEAK_EXIT_CODE: u8 = 23;

/// What is a leak.
#[derive(Args)]
#[command(next_help_heading = "What is a leak")]
pub(super) struct PolicyOptions {
    /// The most calls (open, socket, pipe, ...) that a call site may keep open in one program
    /// [default: 1; 8 where the site is in an interpreter and the lines of its script could not be had, for they have one stack]
    #[arg(long, value_name = "N", conflicts_with = "strict")]
    max_per_site: Option<u64>,
    /// A call site may keep nothing open: --max-per-site 0
    #[arg(long)]
    strict: bool,
    /// The most calls that all call sites together may keep open
    #[arg(long, value_name = "N")]
    max_total: Option<u64>,
    /// Known leaks: a file with lines `leak:PATTERN`, for a function, a module or a source file; can be repeated
    #[arg(long, value_name = "FILE")]
    suppressions: Vec<PathBuf>,
    /// Known leaks: what --write-baseline wrote; they fail when they grow
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write what leaks now as a baseline
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// Handles of this kind never leak (regular, socket, fifo, memfd, ...); can be repeated
    #[arg(long = "ignore-kind", value_name = "KIND", value_delimiter = ',', value_parser = values::kind)]
    ignore_kinds: Vec<Kind>,
    /// Fail on this too; can be repeated: emfile, enfile, exec, inherit, close-wait, deleted,
    /// growing-with-peers, teardown, peak
    ///
    /// emfile, enfile: there were no descriptors, or no handles, left. exec: a program left calls open at an exec.
    /// inherit: a program was started with descriptors that have no close-on-exec flag. close-wait: sockets whose peer
    /// had hung up were open at the end. deleted: so were files that had been deleted.
    /// growing-with-peers: a program kept a socket for each of its clients, and none had hung up. teardown: what a call
    /// site opened lived until the program's end, and nothing else closed it. peak: a process had more handles of its own
    /// at once than half of its limit of descriptors.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = values::diagnostic_kind)]
    fail_on: Vec<DiagnosticKind>,
    /// Report sockets in CLOSE_WAIT at the end only when they have been so for this long [default: 1s]
    #[arg(long, value_name = "DUR", value_parser = values::duration)]
    close_wait: Option<Duration>,
    /// How long what the command left behind may take to close its files [default: 500ms]
    #[arg(long, value_name = "DUR", value_parser = values::duration)]
    settle: Option<Duration>,
    /// Exit status when there is a leak [default: 23]
    #[arg(long, value_name = "N")]
    leak_exit_code: Option<u8>,
}

/// The options and the project's file together, and what the files that they name hold.
pub(super) struct Settled {
    /// The most calls that a site may keep.
    pub(super) max_per_site: Option<u64>,
    /// How long what the command left behind may take.
    pub(super) settle: Duration,
    /// How long sockets may be in CLOSE_WAIT.
    pub(super) close_wait: Duration,
    /// The exit status for a leak.
    pub(super) leak_exit_code: u8,
    /// What is said to the findings.
    pub(super) policy: Policy,
    /// Where what leaks is to be written down.
    pub(super) write_baseline: Option<PathBuf>,
}

impl PolicyOptions {
    /// What holds: the command line first, then the project's file, then what is usual. Suppressions add up.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not what it should be.
    pub(super) fn settle(&self, project: Option<&Found>) -> Result<Settled, Failure> {
        let none = Project::default();
        let defaults = project.map_or(&none, |found| &found.project);
        Ok(Settled {
            max_per_site: self.max_per_site(defaults),
            settle: self.settle.or(defaults.settle).unwrap_or(SETTLE),
            close_wait: self.close_wait.or(defaults.close_wait).unwrap_or(CLOSE_WAIT),
            leak_exit_code: self.leak_exit_code.or(defaults.leak_exit_code).unwrap_or(LEAK_EXIT_CODE),
            policy: Policy {
                max_total: self.max_total.or(defaults.max_total),
                ignore_kinds: chosen(&self.ignore_kinds, defaults.ignore_kind.as_ref()),
                fail_on: chosen(&self.fail_on, defaults.fail_on.as_ref()),
                suppressions: self.suppressions(project)?,
                baseline: self.baseline(project)?,
            },
            write_baseline: self.write_baseline.clone(),
        })
    }

    fn max_per_site(&self, project: &Project) -> Option<u64> {
        match (self.strict, self.max_per_site) {
            (true, _) => Some(0),
            (false, Some(most)) => Some(most),
            (false, None) if project.strict == Some(true) => Some(0),
            (false, None) => project.max_per_site,
        }
    }

    fn suppressions(&self, project: Option<&Found>) -> Result<Suppressions, Failure> {
        let mut suppressions = Suppressions::default();
        if let Some((found, known)) =
            project.and_then(|found| Some((found, found.project.suppressions.as_ref()?)))
        {
            match known {
                Suppressed::File(file) => {
                    let (path, text) = found.read(file, MAX)?;
                    suppressions.add(&shown(&path), &text).map_err(Failure::Usage)?;
                }
                Suppressed::Lines(lines) => suppressions
                    .add_list(&shown(&found.path), lines.iter().map(String::as_str))
                    .map_err(Failure::Usage)?,
            }
        }
        for path in &self.suppressions {
            suppressions.add(&shown(path), &read(path)?).map_err(Failure::Usage)?;
        }
        Ok(suppressions)
    }

    fn baseline(&self, project: Option<&Found>) -> Result<Option<Baseline>, Failure> {
        let (path, text) = match (&self.baseline, project) {
            (Some(path), _) => (path.clone(), read(path)?),
            (None, Some(found @ Found { project: Project { baseline: Some(file), .. }, .. })) => {
                // Whoever writes the first one names it in the project's file before it is there.
                if self.write_baseline.is_some() && !found.beside(file).exists() {
                    return Ok(None);
                }
                found.read(file, MAX)?
            }
            (None, _) => return Ok(None),
        };
        let baseline = Baseline::parse(&text);
        baseline.map(Some).map_err(|why| Failure::Usage(format!("{}: {why}", shown(&path))))
    }
}

/// What the command line lists, else what the project does.
fn chosen<T: Clone>(here: &[T], project: Option<&Vec<T>>) -> Vec<T> {
    if here.is_empty() { project.cloned().unwrap_or_default() } else { here.to_vec() }
}

/// The most of a list of known leaks that is read.
const MAX: u64 = 16 << 20;

fn read(path: &Path) -> Result<String, Failure> {
    files::read_text(path, MAX).map_err(|error| cannot_read(path, &error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::{
        model::check::Verdict,
        report::check::fixture::{c_leak, emfile, findings, python_leak},
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: PolicyOptions,
    }

    fn options(words: &[&str]) -> PolicyOptions {
        Line::try_parse_from(["check"].iter().chain(words)).expect("options").options
    }

    fn usage(settled: Result<Settled, Failure>) -> String {
        match settled {
            Err(Failure::Usage(sentence)) => sentence,
            _ => String::new(),
        }
    }

    #[test]
    fn the_command_line_wins() {
        let project = Project {
            max_per_site: Some(3),
            max_total: Some(4),
            fail_on: Some(vec![DiagnosticKind::Peak]),
            ignore_kind: Some(vec![Kind::Socket]),
            leak_exit_code: Some(5),
            ..Project::default()
        };
        let found = |project| Found { path: "/p/.fdtrace.toml".into(), owner: 0, project };
        let project = found(project);
        let settle = |words: &[&str]| options(words).settle(Some(&project)).ok().expect("settled");
        let usual = options(&[]).settle(None).ok().expect("settled");
        assert_eq!((usual.max_per_site, usual.settle, usual.leak_exit_code), (None, SETTLE, 23));
        let settled = settle(&[]);
        assert_eq!(
            (settled.max_per_site, settled.policy.max_total, settled.leak_exit_code),
            (Some(3), Some(4), 5)
        );
        assert_eq!(settled.policy.fail_on, [DiagnosticKind::Peak]);
        let settled =
            settle(&["--strict", "--fail-on", "emfile,deleted", "--settle", "2s", "--ignore-kind", "fifo"]);
        assert_eq!((settled.max_per_site, settled.settle), (Some(0), Duration::from_secs(2)));
        assert_eq!(settled.policy.fail_on, [DiagnosticKind::Emfile, DiagnosticKind::Deleted]);
        assert_eq!(settled.policy.ignore_kinds, [Kind::Fifo]);
        let strict = found(Project { strict: Some(true), ..Project::default() });
        let of = |words: &[&str]| {
            options(words).settle(Some(&strict)).map_or(Some(99), |settled| settled.max_per_site)
        };
        assert_eq!([of(&[]), of(&["--max-per-site", "2"])], [Some(0), Some(2)]);
    }

    #[test]
    fn words_that_are_none() {
        let refused = |words: [&str; 2]| Line::try_parse_from(["check"].iter().chain(&words)).is_err();
        assert!(refused(["--fail-on", "leak"]) && refused(["--ignore-kind", "file"]));
        assert!(refused(["--leak-exit-code", "256"]));
    }

    #[test]
    fn files_that_are_not_what_they_should_be() -> std::io::Result<()> {
        let folder = std::env::temp_dir().join(format!("fdtrace-policy-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let file = folder.join("known.supp");
        let path = file.to_string_lossy().into_owned();
        let sentence = usage(options(&["--suppressions", &path]).settle(None));
        assert!(sentence.starts_with(&format!("cannot read {path}: No such file")), "{sentence}");
        fs::write(&file, "leak:a\nleek:b\n")?;
        let sentence = usage(options(&["--suppressions", &path]).settle(None));
        assert!(sentence.starts_with(&format!("{path}:2: `leek:b` is no suppression")), "{sentence}");
        let sentence = usage(options(&["--baseline", &path]).settle(None));
        assert!(sentence.starts_with(&format!("{path}: no baseline")), "{sentence}");
        fs::remove_dir_all(&folder)
    }

    #[test]
    fn suppressions_add_up_and_a_baseline_comes_back() -> std::io::Result<()> {
        let folder = std::env::temp_dir().join(format!("fdtrace-settled-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("known.supp"), "leak:handle_request\n")?;
        let baseline = folder.join("baseline.json");
        let project = Project {
            suppressions: Some(Suppressed::File("known.supp".into())),
            baseline: Some("baseline.json".into()),
            ..Project::default()
        };
        let project = Found { path: folder.join(".fdtrace.toml"), owner: 0, project };
        let written = baseline.to_string_lossy().into_owned();
        let settled = options(&["--write-baseline", &written]).settle(Some(&project)).ok().expect("settled");
        let mut found = findings(Verdict::Clean, vec![c_leak(), python_leak()]);
        found.diagnostics.push(emfile());
        settled.policy.apply(&mut found);
        assert_eq!(found.verdict, Verdict::Leak);
        assert_eq!(settled.write_baseline.as_ref(), Some(&baseline));
        fs::write(&baseline, Baseline::of(&found).to_json())?;
        let settled = options(&[]).settle(Some(&project)).ok().expect("settled");
        settled.policy.apply(&mut found);
        assert_eq!(found.verdict, Verdict::Clean);
        fs::remove_dir_all(&folder)
    }
}
