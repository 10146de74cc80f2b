//! Which frame of a stack is the one to look at.

use super::{
    interpreters,
    libraries::{self, file_name},
    script_frames::{is_library, is_package, is_script, names},
};
use crate::model::UserFrame;

/// Part of the name of a Python module that is compiled, as those of its standard library are.
const PYTHON_MODULE: &str = ".cpython-";

/// Libraries in which Java's own classes enter the system: they open what all classes open.
const JAVA_LIBRARIES: [&str; 8] = [
    "libextnet.so",
    "libjava.so",
    "libjimage.so",
    "libjli.so",
    "libmanagement.so",
    "libnet.so",
    "libnio.so",
    "libzip.so",
];

/// Functions that are no more than a system call, for programs that have libc in them.
const WRAPPERS: [&str; 30] = [
    "open",
    "open64",
    "openat",
    "openat64",
    "creat",
    "fopen",
    "fopen64",
    "opendir",
    "popen",
    "socket",
    "socketpair",
    "accept",
    "accept4",
    "pipe",
    "pipe2",
    "epoll_create",
    "epoll_create1",
    "eventfd",
    "timerfd_create",
    "signalfd",
    "memfd_create",
    "inotify_init",
    "inotify_init1",
    "shmat",
    "mmap",
    "mmap64",
    "dlopen",
    "mkstemp",
    "tmpfile",
    "syscall",
];

/// Beginnings of functions of the standard libraries of Rust and C++.
const RUNTIME_FUNCTIONS: [&str; 10] = [
    "std::",
    "<std::",
    "core::",
    "<core::",
    "alloc::",
    "<alloc::",
    "__gnu_cxx::",
    "__rust_",
    "_dl_",
    "__libc_",
];

/// Beginnings of functions of Go's standard library.
const GO_FUNCTIONS: [&str; 13] = [
    "runtime.",
    "runtime/",
    "syscall.",
    "internal/",
    "os.",
    "os/",
    "net.",
    "net/",
    "io.",
    "io/",
    "crypto/",
    "database/sql.",
    "vendor/golang.org/",
];

/// Folders whose sources came with a compiler or a system.
const SYSTEM_SOURCES: [&str; 4] = ["/rustc/", "/usr/include/", "/usr/lib/", "/usr/local/go/src/"];

/// Folders whose sources came with a package manager.
const FOREIGN_SOURCES: [&str; 5] =
    ["/.cargo/registry/", "/.cargo/git/", "/pkg/mod/", "/site-packages/", "/node_modules/"];

/// The frame that its author can most likely do something about: outside of the runtime; of those the first one of which
/// the source is known, not in a package of somebody else if there is another; none where all is the runtime's, and no script.
pub(crate) fn own(user: &[UserFrame]) -> Option<&UserFrame> {
    own_index(user).map(|index| &user[index])
}

/// Its place in the stack.
fn own_index(user: &[UserFrame]) -> Option<usize> {
    let find = |is_it: fn(&UserFrame) -> bool| {
        user.iter().position(|frame| !is_runtime(frame) && !is_interpreter(frame) && is_it(frame))
    };
    find(|frame| has_line(frame) && !is_foreign(frame))
        .or_else(|| find(has_line))
        .or_else(|| user.iter().position(is_script))
        .or_else(|| find(|frame| frame.symbol.is_some() || frame.module.is_some()))
}

/// Whether the source is known; that of a script is, but for the line in what has none.
fn has_line(frame: &UserFrame) -> bool {
    is_script(frame) || frame.file.is_some() && frame.line.is_some()
}

fn is_foreign(frame: &UserFrame) -> bool {
    is_package(frame) || is_source_in(frame, &FOREIGN_SOURCES)
}

fn is_source_in(frame: &UserFrame, folders: &[&str]) -> bool {
    frame.file.as_deref().is_some_and(|file| folders.iter().any(|folder| file.contains(folder)))
}

/// Whether a frame is of the runtime: of libc, or of a language's own library.
pub(crate) fn is_runtime(frame: &UserFrame) -> bool {
    // A script's functions and folders may be called like those of a compiled language.
    if is_script(frame) {
        return is_library(frame);
    }
    frame.module.as_deref().is_some_and(libraries::is_runtime)
        || begins(frame.symbol.as_deref(), &RUNTIME_FUNCTIONS)
        || begins(frame.symbol.as_deref(), &GO_FUNCTIONS)
        || frame.symbol.as_deref() == Some("_start")
        || is_wrapper(frame)
        || is_source_in(frame, &SYSTEM_SOURCES)
}

/// A function of the program's own that has this name has a line too, if anything has.
fn is_wrapper(frame: &UserFrame) -> bool {
    let name = frame.symbol.as_deref().map(|symbol| symbol.trim_start_matches('_'));
    !has_line(frame) && name.is_some_and(|name| WRAPPERS.contains(&name))
}

/// Whether a frame is of a program that runs scripts, and not of the script.
fn is_interpreter(frame: &UserFrame) -> bool {
    !is_script(frame) && interpreter(frame).is_some()
}

/// The program that runs scripts, without its version.
pub(crate) fn interpreter(frame: &UserFrame) -> Option<&'static str> {
    if let Some(runtime) = frame.runtime {
        return Some(names(runtime)[0]);
    }
    let module = file_name(frame.module.as_deref()?);
    if module.contains(PYTHON_MODULE) && (!has_line(frame) || is_library(frame)) {
        return Some("python");
    }
    if JAVA_LIBRARIES.contains(&module) && !has_line(frame) {
        return Some("java");
    }
    interpreters::named(module)
}

fn begins(text: Option<&str>, beginnings: &[&str]) -> bool {
    text.is_some_and(|text| beginnings.iter().any(|beginning| text.starts_with(beginning)))
}

/// The function by which a program entered the runtime on its way to the kernel: `fopen`, not what `fopen` calls.
pub(crate) fn entered(user: &[UserFrame]) -> Option<&str> {
    let inside = user.iter().take_while(|frame| is_runtime(frame)).count();
    user[..inside].last()?.symbol.as_deref()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{place_of, place_of_frame},
        *,
    };
    use crate::model::fixture::*;

    fn at(symbol: &str, file: &str, line: u32) -> UserFrame {
        UserFrame { file: Some(file.to_owned()), line: Some(line), ..frame(symbol, "/opt/app", 1) }
    }

    #[test]
    fn a_line_of_the_program_comes_first() {
        let library = frame("curl_easy_perform", "/usr/lib/libcurl.so.4", 1);
        let user = [frame("open64", "/usr/lib/libc.so.6", 1), library, at("fetch", "/src/app/fetch.c", 7)];
        assert_eq!(own(&user).map(place_of_frame), Some("app/fetch.c:7 (fetch)".to_owned()));
        assert_eq!(own(&user[..2]).map(place_of_frame), Some("curl_easy_perform in libcurl.so.4".to_owned()));
        assert!(own(&user[..1]).is_none());
    }

    #[test]
    fn standard_libraries_are_passed_by() {
        let rust = [
            at("std::fs::File::open", "/rustc/abc/library/std/src/fs.rs", 1),
            at("notify::watch", "/home/u/.cargo/registry/src/notify-6/lib.rs", 2),
            at("app::main", "/home/u/app/src/main.rs", 3),
        ];
        assert_eq!(own_index(&rust), Some(2));
        assert_eq!(own_index(&rust[..2]), Some(1));
        let go = [at("os.OpenFile", "/usr/local/go/src/os/file.go", 1), at("main.leak", "/src/main.go", 2)];
        assert_eq!(own_index(&go), Some(1));
        assert_eq!(entered(&go), Some("os.OpenFile"));
    }

    #[test]
    fn libc_may_be_in_the_program() {
        let user = [frame("__open64", "/opt/static", 1), frame("leak", "/opt/static", 2)];
        assert_eq!(own_index(&user), Some(1));
        assert_eq!(own_index(&[at("open", "/src/door.c", 3), frame("main", "/opt/app", 2)]), Some(0));
    }

    #[test]
    fn a_script_of_the_programs_own_comes_before_packages_and_the_library() {
        let library = script("open.<locals>.x", "/usr/lib/python3.11/tempfile.py", 3);
        let package = script("Pool.get", "/v/lib/python3.11/site-packages/pool.py", 7);
        let python = Some("/usr/bin/python3.11".to_owned());
        let user = [
            frame("open64", "/usr/lib/libc.so.6", 1),
            UserFrame { module: python, ..at("_io_open", "Modules/_io.c", 2) },
            library,
            package,
            script("os.load", "/usr/lib/app/db.py", 12),
            script("main", "/usr/lib/app/db.py", 30),
        ];
        assert_eq!([6, 4, 3, 2].map(|end| own_index(&user[..end])), [Some(4), Some(3), Some(2), None]);
        assert_eq!(entered(&user), Some("open64"));
        assert_eq!(place_of(&user, &[]), "os.load at app/db.py:12");
        let no_line = [UserFrame { line: None, ..user[4].clone() }];
        assert_eq!(place_of(&no_line, &[]), "os.load at app/db.py");
        let by_extension = |folder: &str| {
            let module = Some(format!("{folder}/x.cpython-311-x86_64-linux-gnu.so"));
            own_index(&[UserFrame { module, ..at("load", "/src/native.c", 9) }, user[4].clone()])
        };
        let folders = ["/srv/app", "/v/lib/python3.11/site-packages", "/usr/lib/python3.11/lib-dynload"];
        assert_eq!(folders.map(by_extension), [Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn interpreters_say_nothing_of_a_script() {
        let user = [
            frame("open64", "/usr/lib/libc.so.6", 1),
            frame("_io_FileIO___init__", "/usr/bin/python3.11", 1),
            frame("__libc_start_main", "/usr/lib/libc.so.6", 1),
        ];
        assert!(own(&user).is_none());
        assert_eq!(place_of(&user, &[]), "python3.11");
        assert!(!is_interpreter(&frame("f", "/opt/node-agent", 1)));
        let module = "/usr/lib/python3.11/lib-dynload/_socket.cpython-311-x86_64-linux-gnu.so";
        assert!(is_interpreter(&frame("sock_initobj", module, 1)));
        assert_eq!(interpreter(&frame("f", "/usr/lib/libpython3.so", 1)), Some("libpython"));
        let java = [frame("open64", "/usr/lib/libc.so.6", 1), frame("handleOpen", "/jvm/lib/libjava.so", 1)];
        assert!(own(&java).is_none(), "all files of all classes come that way");
        assert_eq!(place_of(&java, &[]), "java");
    }
}
