//! Programs that run scripts, by the names of their files and of their functions.

/// An interpreter.
pub(crate) struct Interpreter {
    /// What its program and its library are called, without `.so` and version.
    pub(crate) names: &'static [&'static str],
    /// Functions of its own that lead to a script; of a name that ends with `*`, the beginning.
    entries: &'static [&'static str],
    /// Distributions strip it, and it exports nothing: it is known by its folder.
    pub(crate) stripped: bool,
}

impl Interpreter {
    /// Whether a function is one of those that lead to a script.
    pub(crate) fn is_entry(&self, symbol: &str) -> bool {
        let name = function(symbol);
        self.entries.iter().any(|entry| match entry.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *entry,
        })
    }
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
        names: &["java", "libjvm", "libjava", "libjli", "libnio", "libnet"],
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

/// The interpreter that a module's file is called like, without its version: for words, not for verdicts.
pub(crate) fn named(file: &str) -> Option<&'static str> {
    called(file).map(|(name, _)| name)
}

/// The interpreter that a module is called like, and by which of its names.
pub(crate) fn called(file: &str) -> Option<(&'static str, &'static Interpreter)> {
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

/// A function's name without its arguments, and without what a compiler adds to the parts that it makes of one.
pub(crate) fn function(symbol: &str) -> &str {
    symbol.split(['(', '.', '@']).next().unwrap_or(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

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
