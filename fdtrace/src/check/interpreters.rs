//! Programs that run scripts.
//!
//! A file's name proves nothing: anybody may call a program `python3`. So a module counts as an interpreter by its name
//! *and* by functions that only this interpreter has and that every script comes through, in some stack of the same
//! program; or, where a shell has no names at all, by where it is installed.

use std::collections::HashSet;

use super::evaluate::Evaluator;
use crate::{
    model::UserFrame,
    stacks::{
        interpreters::{Interpreter, called},
        is_script,
    },
    stream::Site,
};

/// Where distributions install shells: who can write there is root.
const FOLDERS: [&str; 7] =
    ["/bin/", "/usr/bin/", "/usr/local/bin/", "/lib/", "/usr/lib/", "/lib64/", "/usr/lib64/"];

/// A module: its path and its build-id.
type Module = (String, Option<String>);

/// The interpreters that ran.
#[derive(Default)]
pub(super) struct Interpreters(HashSet<Module>);

impl Interpreters {
    /// All that some stack proves to be one.
    pub(super) fn of(evaluator: &Evaluator) -> Self {
        let ids: HashSet<u64> = evaluator.groups().filter_map(|(_, group)| group.site).collect();
        let sites = || ids.iter().filter_map(|id| evaluator.site(*id)).map(|site| &**site);
        let named = sites().flat_map(frames).filter(|frame| has_name(frame)).filter_map(module);
        let named: HashSet<Module> = named.collect();
        let proven = sites().flat_map(|site| {
            candidates(site).filter(|(module, interpreter)| {
                enters(site, interpreter) || (is_installed(module, interpreter) && !named.contains(module))
            })
        });
        Self(proven.map(|(module, _)| module).collect())
    }

    /// Whether a stack leads through one and does not say where the script was: then it stands for all lines that come that way.
    pub(super) fn hide_lines(&self, site: &Site) -> bool {
        !frames(site).any(is_script) && frames(site).filter_map(module).any(|module| self.0.contains(&module))
    }
}

/// Whether it is where distributions have a program that shows no names.
fn is_installed(module: &Module, interpreter: &Interpreter) -> bool {
    interpreter.stripped && FOLDERS.iter().any(|folder| module.0.starts_with(folder))
}

fn frames(site: &Site) -> impl Iterator<Item = &UserFrame> {
    site.user.frames.iter().map(|frame| &**frame)
}

fn module(frame: &UserFrame) -> Option<Module> {
    Some((frame.module.clone()?, frame.build_id.clone()))
}

fn has_name(frame: &UserFrame) -> bool {
    // A program that exports nothing has an entry all the same, and unwinders know its name.
    frame.symbol.as_deref().is_some_and(|symbol| symbol != "_start")
}

/// The modules of a stack that are called like an interpreter.
fn candidates(site: &Site) -> impl Iterator<Item = (Module, &'static Interpreter)> {
    frames(site).filter_map(|frame| {
        let path = frame.module.as_deref()?;
        let (_, interpreter) = called(path.rsplit('/').next().unwrap_or(path))?;
        Some((module(frame)?, interpreter))
    })
}

/// Whether a stack leads through a function of an interpreter's own: one of its module, or of a library of Java's.
fn enters(site: &Site, interpreter: &'static Interpreter) -> bool {
    let symbols =
        frames(site).filter(|frame| is_part(frame, interpreter)).filter_map(|frame| frame.symbol.as_deref());
    symbols.into_iter().any(|symbol| interpreter.is_entry(symbol))
}

fn is_part(frame: &UserFrame, interpreter: &'static Interpreter) -> bool {
    let file = frame.module.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    interpreter.names.contains(&"libjvm")
        || called(file).is_some_and(|(_, found)| std::ptr::eq(found, interpreter))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{Origin, fixture},
        stream::{Alloc, Call, Event, Fact, ImageKey, UserStack},
    };

    /// An evaluator that has seen these stacks, each a list of modules and functions.
    fn evaluator(stacks: &[&[(&str, &str)]]) -> Evaluator {
        let mut evaluator = Evaluator::default();
        let image = ImageKey { tgid: 5, since: 0 };
        for (id, stack) in (1..).zip(stacks) {
            let call = Call { user_stack: id, ..Call::default() };
            evaluator.apply(&Event::Alloc(Alloc { handle: id * 8, generation: id, tgid: 5, tid: 5, call }));
            evaluator.apply(&Event::Fact(Box::new(Fact::Site(Arc::new(site(id, stack))))));
            evaluator.apply(&Event::Fact(Box::new(Fact::Belongs { image, call, site: id })));
        }
        evaluator
    }

    fn site(id: u64, stack: &[(&str, &str)]) -> Site {
        let frame = |(module, symbol): &(&str, &str)| {
            Arc::new(UserFrame {
                symbol: Some((*symbol).to_owned()).filter(|symbol| !symbol.is_empty()),
                module: Some((*module).to_owned()),
                ..UserFrame::default()
            })
        };
        let user = UserStack { frames: stack.iter().map(frame).collect(), complete: true };
        Site { id, origin: Origin::Open, kernel: Vec::new(), user }
    }

    /// Whether the last of some stacks leads through an interpreter.
    fn is_script(stacks: &[&[(&str, &str)]]) -> bool {
        let evaluator = evaluator(stacks);
        let last = evaluator.site(stacks.len() as u64).expect("a site");
        Interpreters::of(&evaluator).hide_lines(last)
    }

    #[test]
    fn by_a_name_and_a_function_of_its_own() {
        const LIBC: (&str, &str) = ("/usr/lib/libc.so.6", "open64");
        for (module, symbol) in [
            ("/usr/bin/python3.11", "_PyEval_EvalFrameDefault"),
            ("/home/a/.pyenv/versions/3.13.0t/bin/python3.13t", "_PyEval_EvalFrameDefault.cold"),
            ("/usr/lib/libpython3.11.so.1.0", "Py_BytesMain"),
            ("/usr/local/bin/node", "node::Start(int, char**)"),
            ("/usr/bin/perl", "Perl_runops_standard"),
            ("/usr/lib/x86_64-linux-gnu/libruby-3.1.so.3.1.2", "ruby_run_node"),
            ("/usr/bin/php8.2", "execute_ex"),
            ("/usr/bin/bash", "execute_command_internal"),
            ("/usr/lib/liblua5.4.so.0.0.0", "lua_pcallk"),
        ] {
            assert!(is_script(&[&[LIBC, (module, ""), (module, symbol)]]), "{module}");
            assert!(!is_script(&[&[LIBC, (module, "main")]]), "{module} that is none");
            assert!(!is_script(&[&[LIBC, ("/tmp/app", ""), ("/tmp/app", symbol)]]), "no interpreter's name");
        }
        let native = ("/usr/lib/jvm/libnio.so", "Java_sun_nio_fs_UnixNativeDispatcher_open0");
        assert!(is_script(&[&[LIBC, native, ("/usr/lib/jvm/libjvm.so", "")]]));
        assert!(
            is_script(&[&[LIBC, ("/usr/lib/jvm/libjava.so", "handleOpen")]]),
            "a stack that compiled code cuts"
        );
        assert!(!is_script(&[&[LIBC, ("/tmp/libjvm.so", "")]]));
    }

    #[test]
    fn a_stack_with_lines_of_the_script_stands_for_one_of_them() {
        let native = [("/usr/lib/libc.so.6", "open64"), ("/usr/bin/python3.11", "_PyEval_EvalFrameDefault")];
        let mut with_line = site(1, &native);
        with_line.user.frames.push(Arc::new(fixture::script("load", "/app/db.py", 12)));
        let interpreters = Interpreters::of(&evaluator(&[&native]));
        assert!(interpreters.hide_lines(&site(1, &native)) && !interpreters.hide_lines(&with_line));
    }

    #[test]
    fn one_stack_proves_a_program_for_all_of_them() {
        let thread: &[(&str, &str)] = &[("/usr/bin/node", "uv__fs_work")];
        assert!(is_script(&[&[("/usr/bin/node", "node::Start(int, char**)")], thread]));
        assert!(!is_script(&[&[("/opt/node", "node::Start(int, char**)")], thread]), "another file");
    }

    #[test]
    fn a_shell_without_names_is_known_by_its_folder() {
        assert!(is_script(&[&[("/usr/bin/dash", ""), ("/usr/bin/dash", "_start")]]));
        assert!(is_script(&[&[("/bin/sh", "")]]));
        assert!(!is_script(&[&[("/home/a/dash", "")]]));
        assert!(!is_script(&[&[("/usr/bin/dash", "")], &[("/usr/bin/dash", "main")]]), "it has names");
        assert!(!is_script(&[&[("/usr/bin/python3", "")]]), "they all export their own");
    }
}
