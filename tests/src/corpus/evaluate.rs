//! Compares what a check has said with what is expected of it.

use super::{Class, Ended, Place, Program, Run, Verdict};
use anyhow::{Result, ensure};
use fdtrace::model::{UserFrame, check::SCHEMA};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The exit status of a check that has found a leak.
const LEAK: i32 = 23;

/// The document of `fdtrace check --json-out`, as far as it is read here.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    schema: String,
    /// The answer.
    pub verdict: Verdict,
    /// Call sites of which something is said.
    pub sites: Vec<Site>,
    #[serde(default)]
    diagnostics: Vec<Diagnostic>,
    #[serde(default)]
    incomplete_reasons: Vec<String>,
    #[serde(default)]
    command: Command,
    /// Programs that ran under the check: each exec and each fork.
    #[serde(default)]
    pub programs: u64,
    /// Where it was found.
    #[serde(default)]
    pub trace: Traced,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Command {
    exit_status: Option<i32>,
}

/// Where a trace was taken.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Traced {
    /// `uname -r`
    kernel: String,
    /// How fdtrace was attached.
    backend: String,
    #[serde(default, skip_serializing)]
    events: Events,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Events {
    allocated: u64,
}

/// A call site.
#[derive(Clone, Debug, Deserialize)]
pub struct Site {
    /// What it is found to be.
    pub class: Class,
    /// Calls that were kept, in the image that kept most.
    pub leaked: u64,
    /// Handles that were kept, in all images.
    pub handles: Option<u64>,
    #[serde(default)]
    user_stack: Vec<UserFrame>,
    #[serde(default)]
    images: Vec<Image>,
}

/// A program that kept something.
#[derive(Clone, Debug, Deserialize)]
struct Image {
    #[serde(default)]
    comm: String,
    /// Handles that it made at the site.
    #[serde(default)]
    allocated: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Diagnostic {
    kind: String,
    count: u64,
}

impl Report {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let report: Self = serde_json::from_str(text)?;
        ensure!(report.schema == SCHEMA, "schema {:?}", report.schema);
        Ok(report)
    }

    /// The command's own exit status, as a shell has it.
    #[must_use]
    pub fn status(&self) -> Option<i32> {
        self.command.exit_status
    }

    /// Files that were opened, of all kinds.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.trace.events.allocated
    }

    /// Why it could not be said.
    #[must_use]
    pub fn incomplete_reasons(&self) -> &[String] {
        &self.incomplete_reasons
    }

    /// Of each call site that leaks: the program, how many calls, and the chain.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        self.of(Class::Leak).map(Site::say).collect()
    }

    /// Calls that are kept, at all call sites that leak: an interpreter may make several of one line of a script.
    #[must_use]
    pub fn leaked(&self) -> u64 {
        self.of(Class::Leak).map(|site| site.leaked).sum()
    }

    fn of(&self, class: Class) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(move |site| site.class == class)
    }
}

impl Site {
    fn say(&self) -> String {
        let program = self.images.first().map_or("?", |image| image.comm.as_str());
        format!("{program}: {} calls at {}", self.leaked, stack(self))
    }
}

/// Says what differs; nothing when all is as it should be. `stacks` must be whole for `lines` to be compared.
#[must_use]
pub fn evaluate(
    (program, run, place): (&Program, &Run, &Place),
    alone: &Ended,
    checked: &Ended,
    report: &Report,
    lines: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if alone.status != run.exit {
        wrong.push(format!("the program itself ended with {} and not {}", alone.status, run.exit));
    }
    if report.verdict != run.verdict {
        wrong.push(format!("{} and not {} ({})", report.verdict, run.verdict, found(report)));
    }
    let status = if run.verdict == Verdict::Leak { LEAK } else { run.exit };
    if checked.status != status {
        wrong.push(format!("status {} and not {status}", checked.status));
    }
    if checked.stdout != alone.stdout {
        wrong.push(format!("its output is {:?} and not {:?}", checked.stdout, alone.stdout));
    }
    wrong.extend(run.also.iter().filter_map(|words| reported(words, report).err()));
    let lines = lines && program.language().is_compiled() && !run.is_strict();
    if let Some(class) = run.class() {
        let sites = match report.of(class).next() {
            None => vec![Err(format!("no call site is {class:?}"))],
            Some(_) if lines => vec![count(run, class, report), find(program, class, place, report)],
            Some(_) => vec![count(run, class, report)],
        };
        wrong.extend(made(run, class, report).err());
        wrong.extend(sites.into_iter().filter_map(Result::err));
    }
    wrong
}

/// Looks for what else must be reported: a kind, and perhaps how many in all.
fn reported(words: &str, report: &Report) -> Result<(), String> {
    let (kind, wanted) = words.split_once(' ').unwrap_or((words, ""));
    let of_kind: Vec<u64> =
        report.diagnostics.iter().filter(|also| also.kind == kind).map(|also| also.count).collect();
    let sum: u64 = of_kind.iter().sum();
    match of_kind.is_empty() {
        true => Err(format!("nothing of {kind:?} is reported")),
        false if wanted.is_empty() || wanted == sum.to_string() => Ok(()),
        false => Err(format!("{sum} of {kind:?} are reported and not {wanted}")),
    }
}

/// Compares the number of handles that were made where most were kept.
fn made(run: &Run, class: Class, report: &Report) -> Result<(), String> {
    let Some(wanted) = run.made else { return Ok(()) };
    let worst = report.of(class).max_by_key(|site| site.leaked);
    let found = worst.and_then(|site| site.images.first()).map_or(0, |image| image.allocated);
    if found == wanted { Ok(()) } else { Err(format!("{found} were made and not {wanted}")) }
}

/// Compares the number of calls that were kept.
fn count(run: &Run, class: Class, report: &Report) -> Result<(), String> {
    let sites = || report.of(class).map(|site| site.leaked);
    let Some(expected) = run.leaked else { return Ok(()) };
    let good = match run.split {
        // What is found once at a site is no leak, and there are a few such sites.
        true => (expected / 2..=expected).contains(&sites().sum()) || sites().max() == Some(expected),
        false => sites().max() == Some(expected),
    };
    let found: Vec<_> = sites().map(|calls| calls.to_string()).collect();
    if good { Ok(()) } else { Err(format!("{} calls and not {expected}", found.join(", "))) }
}

/// Looks for the line, or the function, in every site that is a leak, and in one site of another class.
fn find(program: &Program, class: Class, place: &Place, report: &Report) -> Result<(), String> {
    let has = |site: &&Site| match &program.frame {
        Some(function) => site.user_stack.iter().any(|frame| frame.symbol.as_deref() == Some(function)),
        None => site.user_stack.iter().any(|frame| is_marked(frame, place)),
    };
    let lines = || format!("{}:{:?}", place.source, place.lines);
    let wanted = || program.frame.clone().unwrap_or_else(lines);
    if program.frame.is_none() && place.lines.is_empty() {
        return Ok(());
    }
    if report.of(class).any(|site| has(&site)) {
        return match report.of(Class::Leak).find(|site| !has(site)) {
            Some(other) => Err(format!("a leak that is none: {}", stack(other))),
            None => Ok(()),
        };
    }
    let stacks: Vec<_> = report.of(class).map(stack).collect();
    Err(format!(
        "{} is not in {}",
        wanted(),
        if stacks.is_empty() { "any site".into() } else { stacks.join(" and ") }
    ))
}

fn is_marked(frame: &UserFrame, place: &Place) -> bool {
    let file = frame.file.as_deref().and_then(|file| Path::new(file).file_name());
    file.is_some_and(|file| file == place.source.as_str())
        && frame.line.is_some_and(|line| place.lines.contains(&line))
}

/// What was found of the sites with most, for whoever wonders.
fn found(report: &Report) -> String {
    let mut sites: Vec<&Site> = report.sites.iter().filter(|site| site.class != Class::Mapped).collect();
    sites.sort_by_key(|site| (site.class, std::cmp::Reverse(site.leaked)));
    let of = |site: &&Site| format!("{:?}: {} calls at {}", site.class, site.leaked, stack(site));
    sites.iter().take(4).map(of).collect::<Vec<_>>().join(", ")
}

fn stack(site: &Site) -> String {
    site.user_stack.iter().take(8).map(name).collect::<Vec<_>>().join(" < ")
}

/// A function with its line, or else the file with the place in it.
fn name(frame: &UserFrame) -> String {
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    let module = || frame.module.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or("?");
    match &frame.symbol {
        Some(symbol) => format!("{symbol}{line}"),
        None => format!("{}+{:#x}", module(), frame.offset),
    }
}

impl Run {
    /// Whether single handles are leaks, of which there are some in every runtime.
    pub(super) fn is_strict(&self) -> bool {
        self.options.iter().any(|option| option == "--strict")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::programs;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn ended(status: i32) -> Ended {
        Ended { status, stdout: "out\n".into(), stderr: String::new(), time: Duration::ZERO }
    }

    fn place() -> Place {
        Place { command: vec!["program".into()], source: "program.c".into(), lines: vec![7] }
    }

    fn site(class: &str, leaked: u64, line: u32) -> Value {
        let frame = json!({"symbol": "open", "file": null, "line": null});
        let caller = json!({"symbol": "parse", "file": "/src/program.c", "line": line});
        json!({"class": class, "leaked": leaked, "user_stack": [frame, caller]})
    }

    fn report(verdict: &str, sites: &[Value], also: &[&str]) -> Report {
        let also: Vec<_> = also.iter().map(|kind| json!({"kind": kind, "count": 1})).collect();
        let text =
            json!({"schema": "fdtrace.check/1", "verdict": verdict, "sites": sites, "diagnostics": also});
        Report::parse(&text.to_string()).expect("a document")
    }

    /// What is said of the first run of a program of the table with this name, or of another one of it.
    fn judged(name: &str, number: usize, status: i32, report: &Report) -> Vec<String> {
        let programs = programs().expect("the table");
        let program = programs.iter().find(|program| program.name == name).expect("a program");
        let run = &program.runs[number];
        evaluate((program, run, &place()), &ended(run.exit), &ended(status), report, true)
    }

    #[test]
    fn a_leak_at_the_right_line_with_the_right_count_is_right() {
        let right = report("leak", &[site("leak", 30, 7), site("allowed", 1, 2)], &["peak"]);
        assert_eq!(judged("error-path", 0, 23, &right), Vec::<String>::new());
        assert_eq!(judged("error-path", 1, 23, &right), Vec::<String>::new(), "it failed, and leaks");
    }

    #[test]
    fn whatever_differs_is_said() {
        let clean = report("clean", &[], &[]);
        assert_eq!(judged("error-path", 2, 0, &clean), Vec::<String>::new());
        assert_eq!(judged("error-path", 3, 0, &clean), ["status 0 and not 3"]);
        let said = judged("error-path", 0, 0, &clean);
        assert_eq!(said[..2], ["clean and not leak ()", "status 0 and not 23"]);
        let fewer = report("leak", &[site("leak", 29, 7)], &[]);
        assert_eq!(judged("error-path", 0, 23, &fewer), ["29 calls and not 30"]);
        let elsewhere = report("leak", &[site("leak", 30, 8)], &[]);
        assert_eq!(judged("error-path", 0, 23, &elsewhere), ["program.c:[7] is not in open < parse:8"]);
        let more = report("leak", &[site("leak", 30, 7), site("leak", 2, 9)], &[]);
        assert_eq!(judged("error-path", 0, 23, &more), ["a leak that is none: open < parse:9"]);
        let silent = report("leak", &[site("leak", 30, 7)], &[]);
        assert_eq!(judged("accept-without-close", 0, 23, &silent), ["nothing of \"close-wait\" is reported"]);
    }

    #[test]
    fn leaks_are_said_with_their_chain() -> Result<()> {
        let frames = json!([
            {"symbol": "open64", "module": "/lib/libc.so.6", "offset": 1, "line": null},
            {"symbol": null, "module": "/usr/bin/tool", "offset": 18},
            {"symbol": "main", "offset": 2, "line": 7}
        ]);
        let document = json!({
            "schema": "fdtrace.check/1", "verdict": "leak", "incomplete_reasons": [], "command": {"exit_status": 3},
            "programs": 2, "trace": {"kernel": "6.1", "backend": "kprobe", "events": {"allocated": 9}},
            "sites": [
                {"class": "leak", "leaked": 4, "user_stack": frames, "images": [{"comm": "tool"}]},
                {"class": "steady", "leaked": 2}
            ]
        });
        let report = Report::parse(&document.to_string())?;
        assert_eq!(report.leaks(), ["tool: 4 calls at open64 < tool+0x12 < main:7"]);
        assert_eq!((report.status(), report.files(), report.leaked()), (Some(3), 9, 4));
        assert!(Report::parse(&document.to_string().replace("check/1", "check/2")).is_err());
        Ok(())
    }

    #[test]
    fn other_classes_are_looked_for_by_name() {
        let steady = report("clean", &[site("steady", 8, 7)], &[]);
        assert_eq!(judged("cache-with-eviction", 0, 0, &steady), Vec::<String>::new());
        let allowed = report("clean", &[site("allowed", 1, 1)], &[]);
        assert_eq!(judged("cache-with-eviction", 0, 0, &allowed), ["no call site is Steady"]);
    }

    #[test]
    fn pieces_of_one_line_are_added_up() {
        let pieces = report("leak", &[site("leak", 20, 1), site("leak", 9, 1)], &[]);
        assert_eq!(judged("opened-and-forgotten", 0, 23, &pieces), Vec::<String>::new());
        let few = report("leak", &[site("leak", 5, 1)], &[]);
        assert_eq!(judged("opened-and-forgotten", 0, 23, &few), ["5 calls and not 30"]);
    }
}
