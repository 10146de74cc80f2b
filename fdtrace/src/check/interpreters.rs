//! Programs that run scripts.
//!
//! A file's name proves nothing: anybody may call a program `python3`. So a module counts as an interpreter by its name
//! *and* by functions that only this interpreter has and that every script comes through, in some stack of the same
//! program; or, where a shell has no names at all, by where it is installed.

use std::collections::HashSet;

use super::evaluate::Evaluator;
use crate::stream::{Site, UserFrame};

/// An interpreter.
struct Interpreter {
    /// What its program and its library are called, without `.so` and version.
    names: &'static [&'static str],
    /// Functions of its own that lead to a script; of a name that ends with `*`, the beginning.
    entries: &'static [&'static str],
    /// Distributions strip it, and it exports nothing: it is known by its folder.
    stripped: bool,
}

const INTERPRETERS: [Interpreter; 10] = [
    Interpreter {
        names: &["python", "libpython"],
        entries: &[
            "_PyEval_EvalFrameDefault",
            "PyEval_EvalFrameEx",
            "PyEval_EvalCode",
            "_PyEval_Vector",
            "Py_RunMain",
            "Py_BytesMain",
            "Py_Main",
            "Py_InitializeFromConfig",
        ],
        stripped: false,
    },
    Interpreter {
        names: &["node", "nodejs", "libnode"],
        entries: &[
            "node::Start",
            "node::LoadEnvironment",
            "v8::internal::*",
            "v8::Function::Call",
            "v8::Script::Run",
        ],
        stripped: false,
    },
    Interpreter {
        names: &["perl", "libperl"],
        entries: &["Perl_runops_standard", "Perl_runops_debug", "perl_run", "perl_parse"],
        stripped: false,
    },
    Interpreter {
        names: &["ruby", "libruby"],
        entries: &["ruby_run_node", "ruby_exec_node", "ruby_process_options", "rb_vm_exec"],
        stripped: false,
    },
    Interpreter {
        names: &["php", "php-fpm", "php-cgi", "libphp"],
        entries: &["execute_ex", "zend_execute", "zend_execute_scripts", "php_execute_script"],
        stripped: false,
    },
    Interpreter {
        names: &["lua", "liblua", "luajit", "libluajit"],
        entries: &["luaV_execute", "lua_callk", "lua_pcallk", "lua_call", "lua_pcall", "lua_cpcall"],
        stripped: false,
    },
    Interpreter {
        names: &["java", "libjvm", "libjava", "libnio", "libnet"],
        entries: &[
            "JavaMain",
            "JavaCalls::*",
            "JVM_*",
            "Java_java_*",
            "Java_sun_nio_*",
            "JNI_CreateJavaVM",
            "handleOpen",
        ],
        stripped: false,
    },
    Interpreter {
        names: &["beam.smp"],
        entries: &["erl_start", "process_main", "beam_jit_main"],
        stripped: true,
    },
    Interpreter {
        names: &["bash"],
        entries: &["execute_command_internal", "parse_and_execute", "reader_loop"],
        stripped: true,
    },
    Interpreter {
        names: &["sh", "dash", "zsh", "ksh", "ksh93"],
        entries: &["execute_command_internal", "evaltree", "zsh_main", "execlist", "sh_exec"],
        stripped: true,
    },
];

/// Where distributions install shells: who can write there is root.
const FOLDERS: [&str; 7] =
    ["/bin/", "/usr/bin/", "/usr/local/bin/", "/lib/", "/usr/lib/", "/lib64/", "/usr/lib64/"];

/// The interpreter that a module's file is called like, without its version: for words, not for verdicts.
#[must_use]
pub fn named(file: &str) -> Option<&'static str> {
    called(file).map(|(name, _)| name)
}

fn called(file: &str) -> Option<(&'static str, &'static Interpreter)> {
    INTERPRETERS.iter().find_map(|interpreter| {
        let is_it =
            |name: &&&str| file.strip_prefix(**name).is_some_and(|rest| is_version(rest, interpreter));
        interpreter.names.iter().find(is_it).map(|name| (*name, interpreter))
    })
}

/// What may follow a name: nothing, or a version that is nothing else: `3.11`, `3.13t`, `-3.1.so.3.1.2`, `.so.1`.
/// Shells have none.
fn is_version(rest: &str, interpreter: &Interpreter) -> bool {
    let (own, library) = match rest.split_once(".so") {
        Some((own, library)) => (own, library),
        None => (rest, ""),
    };
    let numbers = |text: &str| text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    let own = own
        .strip_prefix('-')
        .filter(|own| own.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or(own);
    // Variants of CPython: debug, pymalloc, wide characters, free threads.
    let own = own.trim_end_matches(['d', 'm', 'u', 't']);
    match interpreter.stripped {
        true => rest.is_empty(),
        false => numbers(own) && numbers(library),
    }
}

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

    /// Whether a stack leads through one: then it stands for all lines of the script that come that way.
    pub(super) fn run(&self, site: &Site) -> bool {
        frames(site).filter_map(module).any(|module| self.0.contains(&module))
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
    frames(site).filter(|frame| is_part(frame, interpreter)).filter_map(|frame| frame.symbol.as_deref()).any(
        |symbol| {
            let name = function(symbol);
            interpreter.entries.iter().any(|entry| match entry.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == *entry,
            })
        },
    )
}

fn is_part(frame: &UserFrame, interpreter: &'static Interpreter) -> bool {
    let file = frame.module.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    interpreter.names.contains(&"libjvm")
        || called(file).is_some_and(|(_, found)| std::ptr::eq(found, interpreter))
}

/// A function's name without its arguments, and without what a compiler adds to the parts that it makes of one.
pub(super) fn function(symbol: &str) -> &str {
    symbol.split(['(', '.', '@']).next().unwrap_or(symbol)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::{Alloc, Call, Event, Fact, ImageKey, Origin, UserStack};

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
        Interpreters::of(&evaluator).run(last)
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

    #[test]
    fn a_version_is_nothing_else() {
        for (file, name) in [
            ("python3.11", "python"),
            ("libpython3.13t.so.1.0", "libpython"),
            ("bash", "bash"),
            ("perl5.36.0", "perl"),
            ("libruby-3.1.so.3.1.2", "libruby"),
            ("luajit-2.1.0", "luajit"),
            ("php-fpm8.2", "php-fpm"),
            ("ksh93", "ksh93"),
        ] {
            assert_eq!(named(file), Some(name), "{file}");
        }
        let others = [
            "nodelay",
            "sh96",
            "perl5-app",
            "python3.11-config",
            "bash5",
            "node.exe",
            "ruby-x",
            "shell",
            "python3x",
        ];
        for file in others {
            assert_eq!(named(file), None, "{file}");
        }
    }
}
