//! The lines of FDTRACE_SCOPE; docs/scopes.md says them in words.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    model::{
        Example, Kind, Origin, UserFrame,
        check::{KeptInScope, Word},
    },
    stacks::{place_of_frame, telling},
    text::fmt::escape_control,
};

/// The longest line, in bytes, with its end.
pub(crate) const LINE: usize = 4096;
/// The longest name, whatever the verb.
pub(crate) const MAX_SCOPE_NAME: usize = LINE - 16;
/// Call sites in a reply, and frames of each.
const MAX_SITES: usize = 16;
const MAX_FRAMES: usize = 24;
/// Characters of a name in a reply.
const MAX_NAME: usize = 400;

/// What a runner asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Begin(String),
    Process(String),
    End(String),
    Kept(String),
    Say(String, Word),
    Done,
}

impl Verb {
    /// A line without its end.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "the line is no UTF-8")?;
        if line == "done" {
            return Ok(Self::Done);
        }
        let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
        let verb = match verb {
            "begin" => Self::Begin,
            "process" => Self::Process,
            "end" => Self::End,
            "kept" => Self::Kept,
            "pass" => |name| Self::Say(name, Word::Pass),
            "fail" => |name| Self::Say(name, Word::Fail),
            _ => {
                return Err(
                    "a line is one of: begin NAME, process NAME, end NAME, kept NAME, pass NAME, fail NAME, done",
                );
            }
        };
        if name.is_empty() { Err("a scope has a name") } else { Ok(verb(name.to_owned())) }
    }
}

/// An answer, a line of JSON.
#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(flatten)]
    kept: Option<Kept<'a>>,
}

/// What a scope keeps.
#[derive(Serialize)]
struct Kept<'a> {
    handles: u64,
    duplicates: u64,
    kept: Vec<SiteKept<'a>>,
}

#[derive(Serialize)]
struct SiteKept<'a> {
    site: &'a str,
    origin: Origin,
    place: String,
    calls: u64,
    handles: u64,
    acquired: bool,
    suppressed_by: Option<String>,
    kinds: BTreeSet<Kind>,
    stack: Vec<String>,
    examples: Vec<ExampleKept>,
}

#[derive(Serialize)]
struct ExampleKept {
    pid: u32,
    fd: Option<u32>,
    kind: Kind,
    name: String,
}

/// It is done.
pub(crate) fn done(scope: Option<&str>) -> String {
    line(&Answer { ok: true, error: None, scope, kept: None })
}

/// It cannot be done.
pub(crate) fn refused(why: &str) -> String {
    line(&Answer { ok: false, error: Some(why), scope: None, kept: None })
}

/// What a scope keeps; `excuse` says which suppression names a site.
pub(crate) fn kept(
    scope: &str,
    kept: &[KeptInScope],
    excuse: impl Fn(&KeptInScope) -> Option<String>,
) -> String {
    let sum = |acquired| {
        let such = kept.iter().filter(|kept| kept.acquired == acquired);
        such.map(|kept| kept.handles).sum()
    };
    let kept = Kept {
        handles: sum(false),
        duplicates: sum(true),
        kept: kept.iter().take(MAX_SITES).map(|kept| site(kept, excuse(kept))).collect(),
    };
    line(&Answer { ok: true, error: None, scope: Some(scope), kept: Some(kept) })
}

fn line(answer: &Answer<'_>) -> String {
    // A structure of texts and numbers.
    serde_json::to_string(answer).unwrap_or_default() + "\n"
}

fn site(kept: &KeptInScope, suppressed_by: Option<String>) -> SiteKept<'_> {
    let stack = &kept.call_site.user_stack;
    SiteKept {
        site: &kept.id,
        origin: kept.origin,
        place: cut(&kept.place),
        calls: kept.calls,
        handles: kept.handles,
        acquired: kept.acquired,
        suppressed_by,
        kinds: kept.examples.iter().map(|example| example.kind).collect(),
        stack: telling(stack).take(MAX_FRAMES).map(frame).collect(),
        examples: kept.examples.iter().map(example).collect(),
    }
}

fn frame(frame: &UserFrame) -> String {
    cut(&place_of_frame(frame))
}

fn example(example: &Example) -> ExampleKept {
    let Example { pid, fd, kind, ref name, .. } = *example;
    ExampleKept { pid, fd, kind, name: cut(name) }
}

fn cut(name: &str) -> String {
    escape_control(&name.chars().take(MAX_NAME).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_verbs_and_names() {
        let parse = |line: &str| Verb::parse(line.as_bytes());
        assert_eq!(parse("begin a b"), Ok(Verb::Begin("a b".to_owned())));
        assert_eq!(parse("fail x"), Ok(Verb::Say("x".to_owned(), Word::Fail)));
        assert_eq!(parse("done"), Ok(Verb::Done));
        assert!(
            ["", "begin", "begin ", "Begin x", "done now", "\u{0}"].iter().all(|line| parse(line).is_err())
        );
        assert!(Verb::parse(b"begin \xff").is_err());
    }

    #[test]
    fn answers_are_lines() {
        assert_eq!(done(Some("a\nb\"")), "{\"ok\":true,\"scope\":\"a\\nb\\\"\"}\n");
        assert_eq!(refused("no"), "{\"ok\":false,\"error\":\"no\"}\n");
        let nothing = kept("t", &[], |_| None);
        assert_eq!(nothing, "{\"ok\":true,\"scope\":\"t\",\"handles\":0,\"duplicates\":0,\"kept\":[]}\n");
    }
}
