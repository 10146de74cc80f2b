//! What is read of the document of `fdtrace check --json-out`.

use anyhow::{Result, ensure};
use fdtrace_tests::corpus::{Class, Verdict};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Report {
    schema: String,
    pub(crate) verdict: Verdict,
    pub(super) doubts: Vec<String>,
    command: Command,
    pub(super) programs: u64,
    trace: Trace,
    sites: Vec<Site>,
}

#[derive(Clone, Debug, Deserialize)]
struct Command {
    exit_status: Option<i32>,
}

#[derive(Clone, Debug, Deserialize)]
struct Trace {
    events: Events,
}

#[derive(Clone, Debug, Deserialize)]
struct Events {
    allocated: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Site {
    class: Class,
    leaked: u64,
    #[serde(default)]
    user_stack: Vec<Frame>,
    #[serde(default)]
    images: Vec<Image>,
}

#[derive(Clone, Debug, Deserialize)]
struct Frame {
    symbol: Option<String>,
    module: Option<String>,
    #[serde(default)]
    offset: u64,
    line: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
struct Image {
    comm: String,
}

impl Report {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let report: Self = serde_json::from_str(text)?;
        ensure!(report.schema == "fdtrace.check/1", "schema {:?}", report.schema);
        Ok(report)
    }

    /// The command's own exit status, as a shell has it.
    pub(super) fn status(&self) -> Option<i32> {
        self.command.exit_status
    }

    pub(super) fn files(&self) -> u64 {
        self.trace.events.allocated
    }

    /// Of each call site that leaks: the program, how many calls, and the chain.
    pub(crate) fn leaks(&self) -> Vec<String> {
        self.of(Class::Leak).map(Site::say).collect()
    }

    /// Calls that are kept, at all call sites that leak: an interpreter may make several of one line of a script.
    pub(crate) fn leaked(&self) -> u64 {
        self.of(Class::Leak).map(|site| site.leaked).sum()
    }

    /// Call sites that kept more than a site may and are no leak for another reason.
    pub(super) fn steady(&self) -> usize {
        self.of(Class::Steady).count()
    }

    fn of(&self, class: Class) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(move |site| site.class == class)
    }
}

impl Site {
    fn say(&self) -> String {
        let program = self.images.first().map_or("?", |image| image.comm.as_str());
        let chain: Vec<_> = self.user_stack.iter().take(8).map(Frame::name).collect();
        format!("{program}: {} calls at {}", self.leaked, chain.join(" < "))
    }
}

impl Frame {
    fn name(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let module = || self.module.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or("?");
        match &self.symbol {
            Some(symbol) => format!("{symbol}{line}"),
            None => format!("{}+{:#x}", module(), self.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leaks_are_said_with_their_chain() -> Result<()> {
        let frames = json!([
            {"symbol": "open64", "module": "/lib/libc.so.6", "offset": 1, "line": null},
            {"symbol": null, "module": "/usr/bin/tool", "offset": 18},
            {"symbol": "main", "offset": 2, "line": 7}
        ]);
        let document = json!({
            "schema": "fdtrace.check/1", "verdict": "leak", "doubts": [], "command": {"exit_status": 3},
            "programs": 2, "trace": {"events": {"allocated": 9}},
            "sites": [
                {"class": "leak", "leaked": 4, "user_stack": frames, "images": [{"comm": "tool"}]},
                {"class": "steady", "leaked": 2}
            ]
        });
        let report = Report::parse(&document.to_string())?;
        assert_eq!(report.leaks(), ["tool: 4 calls at open64 < tool+0x12 < main:7"]);
        assert_eq!((report.status(), report.files(), report.steady()), (Some(3), 9, 1));
        assert!(Report::parse(&document.to_string().replace("check/1", "check/2")).is_err());
        Ok(())
    }
}
