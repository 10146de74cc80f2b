//! What a program's end has closed: it lived until then, and nothing else would have closed it. `docs/verdict.md` says when.

use std::collections::HashMap;

use super::evaluate::{ClosedCount, Evaluator, Group};
use crate::{
    model::UserFrame,
    stacks::{
        interpreters::{function, named},
        is_script,
    },
    stream::{ImageKey, Site},
};

/// Functions of C libraries that nobody comes back from. They run what was registered for the program's end, and the
/// destructors of all that is static.
const EXITS: [&str; 4] = ["exit", "quick_exit", "__run_exit_handlers", "_dl_fini"];

/// What calls `main`.
const CALLERS_OF_MAIN: [&str; 3] = ["__libc_start_call_main", "__libc_start_main", "__libc_start_main_impl"];

/// How an interpreter ends, in a program of its own: a program that embeds one may go on behind that. `php-fpm` does so
/// after each request.
struct Runtime {
    /// What its program is called like.
    names: &'static [&'static str],
    /// Functions in which nothing of the script runs any more, but what it has left to be run at the end.
    ends: &'static [&'static str],
    /// A function that first runs the script and then cleans up, by functions without a name.
    runner: Option<Runner>,
}

enum Runner {
    Named(&'static str),
    Main,
}

const RUNTIMES: [Runtime; 6] = [
    Runtime { names: &["python"], ends: &["Py_FinalizeEx", "Py_Finalize", "_Py_Finalize"], runner: None },
    Runtime { names: &["perl"], ends: &["perl_destruct"], runner: None },
    Runtime {
        names: &["ruby"],
        ends: &["rb_ec_cleanup", "rb_ec_teardown", "rb_ec_finalize", "ruby_cleanup", "ruby_finalize"],
        runner: Some(Runner::Named("ruby_run_node")),
    },
    Runtime { names: &["php"], ends: &["php_request_shutdown", "php_module_shutdown"], runner: None },
    Runtime { names: &["lua", "luajit"], ends: &["lua_close"], runner: Some(Runner::Main) },
    Runtime {
        names: &["node", "nodejs"],
        ends: &["node::FreeEnvironment", "node::Environment::RunCleanup", "node::Environment::Exit"],
        runner: None,
    },
];

/// The ends of all programs.
pub(super) struct Ends<'a> {
    evaluator: &'a Evaluator,
    interpreters: HashMap<ImageKey, Interpreter>,
}

/// An interpreter that ran.
struct Interpreter {
    runtime: &'static Runtime,
    /// Where its [`Runner`] calls what runs the script: before all that it calls later.
    script: Option<u64>,
}

impl<'a> Ends<'a> {
    pub(super) fn of(evaluator: &'a Evaluator) -> Self {
        let ran = evaluator.images().filter_map(|(key, image)| {
            let program = image.program();
            let name = named(program.rsplit('/').next().unwrap_or(&program))?;
            let runtime = RUNTIMES.iter().find(|runtime| runtime.names.contains(&name))?;
            Some((*key, Interpreter { runtime, script: None }))
        });
        let mut interpreters: HashMap<ImageKey, Interpreter> = ran.collect();
        for (_, group) in evaluator.groups() {
            let site = group.site.and_then(|id| evaluator.site(id));
            if let Some((interpreter, site)) = interpreters.get_mut(&group.image).zip(site) {
                interpreter.note(site);
            }
        }
        Self { evaluator, interpreters }
    }

    /// What of a group was closed by its program's end.
    pub(super) fn closed(&self, group: &Group) -> ClosedCount {
        let interpreter = self.interpreters.get(&group.image);
        let mut sum = ClosedCount::default();
        for (by, parted) in &group.parted {
            let site = self.evaluator.group_at(*by).site.and_then(|id| self.evaluator.site(id));
            if site.is_some_and(|site| is_end(site, interpreter)) {
                sum.add(*parted);
            }
        }
        sum
    }
}

fn is_end(site: &Site, interpreter: Option<&Interpreter>) -> bool {
    leads_through(site, &EXITS)
        || interpreter.is_some_and(|interpreter| {
            leads_through(site, interpreter.runtime.ends) || interpreter.cleans_up(site)
        })
}

/// A script may call its own functions as it likes: the interpreter's tell.
fn native(site: &Site) -> impl Iterator<Item = &UserFrame> {
    site.user.frames.iter().map(|frame| &**frame).filter(|frame| !is_script(frame))
}

fn leads_through(site: &Site, functions: &[&str]) -> bool {
    let mut names = native(site).filter_map(|frame| frame.symbol.as_deref());
    names.any(|symbol| functions.contains(&function(symbol)))
}

impl Interpreter {
    /// Takes a stack that made a handle.
    fn note(&mut self, site: &Site) {
        if let Some(at) = self.in_runner(site) {
            self.script = Some(self.script.map_or(at, |script| script.min(at)));
        }
    }

    /// Whether the runner is behind the script.
    fn cleans_up(&self, site: &Site) -> bool {
        self.script.zip(self.in_runner(site)).is_some_and(|(script, at)| at > script)
    }

    /// Where a stack leaves the runner.
    fn in_runner(&self, site: &Site) -> Option<u64> {
        let frames: Vec<&UserFrame> = native(site).collect();
        let is = |frame: &UserFrame, name: &str| frame.symbol.as_deref().is_some_and(|symbol| symbol == name);
        let frame = match self.runtime.runner.as_ref()? {
            Runner::Named(name) => frames.iter().rfind(|frame| is(frame, name)),
            Runner::Main => {
                let calls_main = |frame: &&UserFrame| CALLERS_OF_MAIN.iter().any(|name| is(frame, name));
                let caller = frames.iter().position(calls_main)?;
                frames.get(caller.checked_sub(1)?)
            }
        };
        frame.map(|frame| frame.offset)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{Origin, fixture},
        stream::UserStack,
    };

    /// A stack, innermost first: functions and where they were left.
    fn stack(frames: &[(&str, u64)]) -> Site {
        let frame = |(symbol, offset): &(&str, u64)| {
            let symbol = Some((*symbol).to_owned()).filter(|symbol| !symbol.is_empty());
            Arc::new(UserFrame { symbol, offset: *offset, ..UserFrame::default() })
        };
        let user = UserStack { frames: frames.iter().map(frame).collect(), complete: true };
        Site { id: 1, origin: Origin::Open, kernel: Vec::new(), user }
    }

    fn interpreter(name: &str, made: &[Site]) -> Interpreter {
        let runtime = RUNTIMES.iter().find(|runtime| runtime.names.contains(&name)).expect("a runtime");
        let mut interpreter = Interpreter { runtime, script: None };
        made.iter().for_each(|site| interpreter.note(site));
        interpreter
    }

    #[test]
    fn exit_handlers_are_the_end_of_any_program() {
        let at_exit = stack(&[("close", 1), ("tidy", 2), ("__run_exit_handlers", 3), ("exit", 4)]);
        assert!(is_end(&at_exit, None));
        assert!(!is_end(&stack(&[("close", 1), ("tidy", 2), ("main", 3)]), None));
        assert!(!is_end(&stack(&[("close", 1), ("Session::exit(int)", 2), ("main", 3)]), None));
    }

    #[test]
    fn an_interpreter_ends_in_its_own_program_only() {
        let finalized = stack(&[("close", 1), ("", 2), ("Py_FinalizeEx", 3), ("Py_RunMain", 4)]);
        assert!(is_end(&finalized, Some(&interpreter("python", &[]))));
        assert!(!is_end(&finalized, None), "a program that embeds it");
        assert!(!is_end(&finalized, Some(&interpreter("perl", &[]))));
        let closed = stack(&[("close", 1), ("_PyEval_EvalFrameDefault", 3), ("Py_RunMain", 4)]);
        assert!(!is_end(&closed, Some(&interpreter("python", &[]))));
    }

    #[test]
    fn an_end_is_the_interpreters_whatever_the_scripts_functions_are_called() {
        let with_script = |native: &[(&str, u64)], function: &str| {
            let mut site = stack(native);
            site.user.frames.insert(1, Arc::new(fixture::script(function, "/app/db.py", 12)));
            site
        };
        let python = interpreter("python", &[]);
        let ended = with_script(&[("close", 1), ("Py_FinalizeEx", 3), ("Py_RunMain", 4)], "Pool.close");
        assert!(is_end(&ended, Some(&python)));
        for function in ["exit", "exit.<locals>.tidy", "Py_FinalizeEx"] {
            let runs = with_script(&[("close", 1), ("Py_RunMain", 4)], function);
            assert!(!is_end(&runs, Some(&python)), "{function}");
        }
    }

    #[test]
    fn what_runs_and_cleans_up_is_told_by_where_it_is() {
        let ruby = |at| stack(&[("close", 1), ("", 2), ("ruby_run_node", at), ("main", 5)]);
        let ran = interpreter("ruby", &[ruby(40), ruby(30)]);
        assert!(!is_end(&ruby(30), Some(&ran)));
        assert!(is_end(&ruby(50), Some(&ran)));
        assert!(!is_end(&ruby(50), Some(&interpreter("ruby", &[]))), "nobody knows where the script ran");
    }

    #[test]
    fn main_is_known_by_its_caller() {
        let lua =
            |at| stack(&[("close", 1), ("", 2), ("", at), ("__libc_start_call_main", 9), ("_start", 8)]);
        let ran = interpreter("lua", &[lua(30)]);
        assert!(is_end(&lua(50), Some(&ran)));
        assert!(!is_end(&lua(30), Some(&ran)));
    }
}
