//! What the guest says: the protocol of `vm-init` on one serial port, the kernel's messages on the other.

use fdtrace_tests::guest::{MARKER, Message};
use std::mem;

/// Begins the lines by which a program in the guest hands a JSON object to the host.
const RESULT: &str = "RESULT ";

/// How a command ended. One that the end of the guest cut off has no status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CommandReport {
    pub(super) label: String,
    pub(super) status: Option<i32>,
    pub(super) output: String,
    /// The JSON objects that the command handed out.
    pub(super) results: Vec<String>,
}

/// Gathers the reports of the commands from the lines of the guest.
#[derive(Default)]
pub(super) struct Console {
    finished: Vec<CommandReport>,
    running: CommandReport,
    done: bool,
}

impl Console {
    /// Takes in one line, without its line ending; gives it back when a command wrote it, for somebody who watches.
    pub(super) fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        match line.strip_prefix(MARKER).and_then(|json| serde_json::from_str(json).ok()) {
            None => {
                self.output(line);
                return Some(line);
            }
            Some(Message::Start { start }) => {
                self.running = CommandReport { label: start, ..Default::default() };
            }
            Some(Message::End { end, status }) => {
                let running = mem::take(&mut self.running);
                self.finished.push(CommandReport { label: end, status: Some(status), ..running });
            }
            Some(Message::Done { done }) => self.done = done,
        }
        None
    }

    /// Whether the guest has run everything.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The reports of the commands that ended, and of the one that did not.
    pub(super) fn into_reports(self) -> (Vec<CommandReport>, Option<CommandReport>) {
        let interrupted = (!self.running.label.is_empty()).then_some(self.running);
        (self.finished, interrupted)
    }

    fn output(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix(RESULT) {
            self.running.results.push(result.to_owned());
        }
        self.running.output.push_str(line);
        self.running.output.push('\n');
    }
}

/// Messages of a kernel that will not go on, or not as it should. With `panic=-1 oops=panic` on its command line an
/// oops ends in the first of them.
const FATAL: [(&str, &str); 5] = [
    ("Kernel panic - not syncing", "kernel panic"),
    ("soft lockup - CPU", "soft lockup"),
    ("hard LOCKUP", "hard lockup"),
    ("detected stall", "RCU stall"),
    ("self-detected stall", "RCU stall"),
];

/// What a message of the kernel says about its end, if anything.
pub(super) fn fatal(message: &str) -> Option<&'static str> {
    FATAL.iter().find(|(text, _)| message.contains(text)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Console {
        let mut console = Console::default();
        for line in lines {
            console.line(line);
        }
        console
    }

    #[test]
    fn output_belongs_to_the_command_that_runs() {
        let console = console(&[
            r#"@vm-init {"start":"one"}"#,
            "a",
            r#"RESULT {"x":1}"#,
            r#"@vm-init {"end":"one","status":0}"#,
            r#"@vm-init {"start":"two"}"#,
            "b",
            r#"@vm-init {"end":"two","status":139}"#,
            r#"@vm-init {"done":true}"#,
        ]);
        assert!(console.is_done());
        let (finished, interrupted) = console.into_reports();
        let one = CommandReport {
            label: "one".into(),
            status: Some(0),
            output: "a\nRESULT {\"x\":1}\n".into(),
            results: vec![r#"{"x":1}"#.into()],
        };
        let two =
            CommandReport { label: "two".into(), status: Some(139), output: "b\n".into(), results: vec![] };
        assert_eq!(finished, [one, two]);
        assert_eq!(interrupted, None);
    }

    #[test]
    fn a_guest_that_ends_early_leaves_an_interrupted_command() {
        let console = console(&[r#"@vm-init {"start":"one"}"#, "half"]);
        assert!(!console.is_done());
        let (finished, interrupted) = console.into_reports();
        assert!(finished.is_empty());
        let interrupted = interrupted.expect("the command was running");
        assert_eq!((interrupted.status, interrupted.output.as_str()), (None, "half\n"));
    }

    #[test]
    fn a_line_that_only_looks_like_a_marker_is_output() {
        let mut console = console(&[r#"@vm-init {"start":"one"}"#]);
        for line in ["@vm-init garbage", r#"say @vm-init {"done":true}"#] {
            assert_eq!(console.line(line), Some(line));
        }
        assert!(!console.is_done());
    }

    #[test]
    fn fatal_messages_are_recognised() {
        let cases = [
            ("[    3.1] Kernel panic - not syncing: Fatal exception", Some("kernel panic")),
            ("[   42.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [e2e:99]", Some("soft lockup")),
            ("[   30.9] rcu: INFO: rcu_preempt self-detected stall on CPU", Some("RCU stall")),
            ("[   30.9] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:", Some("RCU stall")),
            ("[    0.1] rcu: Hierarchical RCU implementation.", None),
        ];
        for (message, expected) in cases {
            assert_eq!(fatal(message), expected, "{message}");
        }
    }
}
