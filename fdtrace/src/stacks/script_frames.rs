//! Frames of scripts in stacks: which native frames are only the interpreter at work, and whose script it is.

use super::{interpreters, libraries::file_name};
use crate::{
    model::{Runtime, UserFrame},
    runtimes::works_for_another,
};

/// What a file is called whose process was gone when somebody looked.
pub(super) const GONE: &str = "[gone]";

pub(crate) const fn is_script(frame: &UserFrame) -> bool {
    frame.runtime.is_some()
}

/// The frames of a stack that say something: all, but where a script's frames are there, not those of the interpreter that
/// runs it, and not those of files that were gone when somebody looked. CPython specialises itself as it goes, so one line of a
/// script comes by several native ways; and of two calls of a line, one may have been followed before a module was gone.
pub(crate) fn telling<'a, S>(stack: S) -> impl DoubleEndedIterator<Item = &'a UserFrame> + Clone
where
    S: IntoIterator<Item = &'a UserFrame, IntoIter: DoubleEndedIterator + Clone>,
{
    let mut stack: Vec<&UserFrame> = stack.into_iter().collect();
    let runtimes: Vec<Runtime> = stack.iter().filter_map(|frame| frame.runtime).collect();
    if let Some(submission) = stack.iter().position(|frame| frame.is_submission()) {
        // Nor what a thread of a pool does between two requests.
        let end = stack[..submission].iter().position(|frame| is_machinery(frame, &runtimes));
        stack.drain(end.unwrap_or(submission)..submission);
    }
    // What a compiling runtime begins a thread with is not always come to.
    let last = stack.iter().rposition(|frame| frame.runtime.is_some_and(compiles));
    let end = last.map_or(stack.len(), |last| last + 1);
    stack.into_iter().take(end).filter(move |frame| !is_machinery(frame, &runtimes))
}

/// Whether a thread of a pool did it for another one, of which nothing is known.
pub(crate) fn is_for_another(stack: &[UserFrame]) -> bool {
    let works = |frame: &UserFrame| frame.symbol.as_deref().is_some_and(works_for_another);
    stack.iter().any(works) && !stack.iter().any(UserFrame::is_submission)
}

/// Whether a native frame is of an interpreter that runs scripts of this stack, or code that it made of them. Modules that it loads
/// are not.
fn is_machinery(frame: &UserFrame, runtimes: &[Runtime]) -> bool {
    let is_made = frame.module.is_none() && !is_script(frame) && !frame.is_submission();
    if is_made && runtimes.iter().any(|runtime| compiles(*runtime)) {
        return true;
    }
    let name = || interpreters::named(file_name(frame.module.as_deref()?));
    let runs_it =
        || name().is_some_and(|name| runtimes.iter().any(|runtime| names(*runtime).contains(&name)));
    !runtimes.is_empty() && (frame.module.as_deref() == Some(GONE) || runs_it())
}

/// Whether a runtime makes code of scripts, whose frames are those that their calls have.
const fn compiles(runtime: Runtime) -> bool {
    matches!(runtime, Runtime::V8 | Runtime::Hotspot)
}

/// What the program and the library of a runtime are called.
pub(super) const fn names(runtime: Runtime) -> &'static [&'static str] {
    match runtime {
        Runtime::Cpython => &["python", "libpython"],
        Runtime::Php => &["php", "php-fpm", "php-cgi", "libphp"],
        Runtime::Perl => &["perl", "libperl"],
        Runtime::Ruby => &["ruby", "libruby"],
        Runtime::V8 => &["node", "nodejs", "libnode"],
        Runtime::Hotspot => &["java", "libjvm", "libjava", "libjli", "libnio", "libnet"],
    }
}

/// Whether a program or a library of this name runs scripts that can be read.
pub(super) fn is_readable(name: &str) -> bool {
    Runtime::ALL.iter().any(|runtime| names(*runtime).contains(&name))
}

/// Whose a script or an extension module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Runtime,
    Package,
    Program,
}

/// Whether a frame is of a runtime's own library: of a script, or of an extension module.
pub(crate) fn is_library(frame: &UserFrame) -> bool {
    owner(frame) == Owner::Runtime
}

/// Whether a frame is of an installed package, likewise.
pub(crate) fn is_package(frame: &UserFrame) -> bool {
    owner(frame) == Owner::Package
}

/// By its folders, as installers lay them out.
fn owner(frame: &UserFrame) -> Owner {
    let file = if is_script(frame) { &frame.file } else { &frame.module };
    let file = file.as_deref().unwrap_or_default();
    let folders = || file.split('/');
    let in_library =
        || folders().zip(folders().skip(1)).any(|(outer, inner)| is_library_folder(outer, inner));
    let in_perl = || match frame.runtime {
        Some(Runtime::Perl) => owner_in_perl(file, true),
        None => owner_in_perl(file, false),
        Some(_) => None,
    };
    let in_archive = || folders().any(|name| name.strip_suffix(".zip").is_some_and(is_versioned));
    match () {
        // Composer's, and Debian's packages of PHP.
        () if frame.runtime == Some(Runtime::Php)
            && (folders().any(|name| name == "vendor") || file.starts_with("/usr/share/php/")) =>
        {
            Owner::Package
        }
        () if folders().any(|name| matches!(name, "site-packages" | "dist-packages")) => Owner::Package,
        // RubyGems, Bundler's, and Debian's packages of Ruby.
        () if folders().any(|name| matches!(name, "vendor_ruby" | "site_ruby" | "rubygems-integration"))
            || folders().zip(folders().skip(1)).any(|(outer, inner)| outer == "gems" && is_gem(inner)) =>
        {
            Owner::Package
        }
        () if frame.runtime == Some(Runtime::V8) && is_of_node(file) => Owner::Runtime,
        () if frame.runtime == Some(Runtime::V8) && folders().any(|name| name == "node_modules") => {
            Owner::Package
        }
        () if frame.runtime == Some(Runtime::Hotspot) && is_of_java(file) => Owner::Runtime,
        () if frame.runtime == Some(Runtime::Ruby) && file.starts_with("<internal:") => Owner::Runtime,
        () if file.starts_with("<frozen ") || in_library() || in_archive() => Owner::Runtime,
        () => in_perl().unwrap_or(Owner::Program),
    }
}

/// Whether a class, or a source file in the folder of its package, is of Java's own library.
fn is_of_java(file: &str) -> bool {
    ["java/", "javax/", "jdk/", "sun/", "com/sun/"].iter().any(|package| file.starts_with(package))
}

/// Whose a module of Perl is: the innermost folder decides of those that distributions and installers have. Packages are in
/// `site_perl`, `/usr/share/perl5`, Debian's `perl5/5.36`, and in `lib/perl5` of those who install for themselves; the library is
/// in `perl/5.36`, `perl5/5.36.0`, or perlbrew's `lib/5.36.0`, where others have things too.
fn owner_in_perl(file: &str, is_script: bool) -> Option<Owner> {
    let pairs = file.split('/').zip(file.split('/').skip(1));
    let owners = pairs.filter_map(|(outer, inner)| match (outer, parts_of_version(inner)) {
        ("perl", Some(2 | 3)) | ("perl5", Some(3)) | ("perl-base" | "core_perl", _) => Some(Owner::Runtime),
        ("lib", Some(3)) if is_script => Some(Owner::Runtime),
        ("perl5" | "site_perl" | "vendor_perl", _) => Some(Owner::Package),
        _ => None,
    });
    owners.last()
}

/// Whether a script is one of those that Node.js has in its program: `node:fs`, to 14 `fs.js` and `internal/timers.js`. All others
/// have a whole path, or a name that is none.
fn is_of_node(file: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let old = || file.strip_suffix(".js").is_some_and(|path| path.split('/').all(is_name));
    file.starts_with("node:") || old()
}

/// How many numbers a version has.
fn parts_of_version(name: &str) -> Option<usize> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.split('.').all(is_number).then(|| name.split('.').count())
}

/// `lib/python3.11`, `ruby/3.1.0`
fn is_library_folder(outer: &str, inner: &str) -> bool {
    let is_of_ruby = || outer == "ruby" && inner.split('.').count() == 3 && is_number(inner);
    (matches!(outer, "lib" | "lib64") && is_versioned(inner)) || is_of_ruby()
}

/// `rack-3.0.8`, or a commit of one: `rack-1f2e3d4c5b6a`
fn is_gem(name: &str) -> bool {
    let (name, version) = name.rsplit_once('-').unwrap_or_default();
    let is_commit = version.len() >= 7 && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    !name.is_empty() && (version.starts_with(|first: char| first.is_ascii_digit()) || is_commit)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
}

/// `python3`, `python3.13t`, `python311`
fn is_versioned(name: &str) -> bool {
    let version = name.strip_prefix("python").map(|version| version.trim_end_matches(['d', 't']));
    version.is_some_and(|version| !version.is_empty() && is_number(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

    fn symbols(stack: &[UserFrame]) -> Vec<&str> {
        telling(stack).filter_map(|frame| frame.symbol.as_deref()).collect()
    }

    #[test]
    fn an_interpreter_says_nothing_beside_its_script() {
        let stack = [
            frame("open64", "/usr/lib/libc.so.6", 1),
            frame("sqlite3_open", "/usr/lib/libsqlite3.so.0", 1),
            frame("connect", "/usr/lib/python3.11/lib-dynload/_sqlite3.cpython-311-x86_64-linux-gnu.so", 1),
            frame("_PyEval_EvalFrameDefault", "/usr/lib/libpython3.11.so.1.0", 1),
            frame("close", GONE, 1),
            script("load", "/app/db.py", 12),
            frame("Py_RunMain", "/usr/bin/python3.11", 1),
            frame("perl_run", "/usr/bin/perl", 1),
        ];
        assert_eq!(symbols(&stack), ["open64", "sqlite3_open", "connect", "load", "perl_run"]);
        assert_eq!(symbols(&stack[..4]).len(), 4, "it is all that there is");
    }

    #[test]
    fn a_thread_of_a_pool_says_nothing_beside_the_script_that_it_works_for() {
        let stack = [
            frame("open64", "/usr/lib/libc.so.6", 1),
            frame("uv__fs_work", "/usr/bin/node", 1),
            frame("worker", "/usr/bin/node", 1),
            frame("start_thread", "/usr/lib/libc.so.6", 1),
            UserFrame::submission(),
            frame("uv__work_submit", "/usr/bin/node", 1),
            UserFrame { runtime: Some(Runtime::V8), ..script("load", "/app/db.js", 12) },
        ];
        assert_eq!(symbols(&stack), ["open64", "[submitted by]", "load"]);
        assert_eq!(symbols(&stack[..6]).len(), 6, "no script is known");
    }

    #[test]
    fn code_that_is_made_says_nothing_beside_its_script() {
        let made = UserFrame { module: None, ..frame("Interpreter", "", 1) };
        let java = UserFrame { runtime: Some(Runtime::Hotspot), ..script("Main.main", "Main.java", 3) };
        let begin = frame("clone3", "/usr/lib/libc.so.6", 1);
        assert_eq!(symbols(&[made.clone(), java, begin]), ["Main.main"]);
        assert_eq!(symbols(&[made, script("load", "/app/db.py", 12)]).len(), 2, "CPython makes none");
    }

    #[test]
    fn whose_a_script_is() {
        let owner = |file: &str| owner(&script("f", file, 1));
        for file in [
            "<frozen importlib._bootstrap>",
            "/usr/lib/python3.11/subprocess.py",
            "/usr/lib64/python3/x.py",
            "/opt/py/lib/python3.13t/asyncio/base_events.py",
            "/opt/app/python311.zip/os.py",
            "/usr/lib/python3.11.zip/os.py",
        ] {
            assert_eq!(owner(file), Owner::Runtime, "{file}");
        }
        for file in ["/usr/lib/python3/dist-packages/apt.py", "/v/lib/python3.11/site-packages/flask/app.py"]
        {
            assert_eq!(owner(file), Owner::Package, "{file}");
        }
        for file in [
            "/home/u/python3/app.py",
            "/srv/lib/pythonish/app.py",
            "/usr/lib/calibre/main.py",
            "app.py",
            "<string>",
            "",
        ] {
            assert_eq!(owner(file), Owner::Program, "{file}");
        }
        let php = |file: &str| UserFrame { runtime: Some(Runtime::Php), ..script("f", file, 1) };
        assert!(
            is_package(&php("/srv/app/vendor/monolog/src/Logger.php"))
                && !is_package(&php("/srv/vendors/a.php"))
        );
        let perl =
            |file: &str| super::owner(&UserFrame { runtime: Some(Runtime::Perl), ..script("f", file, 1) });
        for file in [
            "/usr/share/perl/5.36.0/Carp.pm",
            "/usr/lib/x86_64-linux-gnu/perl/5.36/IO/File.pm",
            "/usr/lib/x86_64-linux-gnu/perl-base/POSIX.pm",
            "/usr/local/lib/perl5/5.38.2/Carp.pm",
            "/home/u/perl5/perlbrew/perls/perl-5.38.2/lib/5.38.2/Carp.pm",
            "/usr/share/perl5/core_perl/Carp.pm",
        ] {
            assert_eq!(perl(file), Owner::Runtime, "{file}");
        }
        for file in [
            "/usr/share/perl5/DBI.pm",
            "/usr/lib/x86_64-linux-gnu/perl5/5.36/DBI.pm",
            "/usr/local/lib/perl5/site_perl/5.38.2/DBI.pm",
            "/usr/share/perl5/vendor_perl/DBI.pm",
            "/srv/app/local/lib/perl5/Mojo.pm",
        ] {
            assert_eq!(perl(file), Owner::Package, "{file}");
        }
        for file in ["/srv/perl/app.pl", "/srv/lib/App/Db.pm", "(eval)", "-e", "app.pl"] {
            assert_eq!(perl(file), Owner::Program, "{file}");
        }
        assert!(is_library(&frame("f", "/usr/lib/x86_64-linux-gnu/perl/5.36/auto/List/Util/Util.so", 1)));
        assert!(!is_library(&frame("f", "/opt/app/lib/5.36.0/app.so", 1)), "no module of Perl");
        let java =
            |file: &str| is_library(&UserFrame { runtime: Some(Runtime::Hotspot), ..script("f", file, 1) });
        assert!(java("java/io/FileInputStream.java") && java("jdk/internal/misc/Unsafe.java"));
        assert!(!java("com/acme/java/Db.java") && !java("javanese/Main.java") && !java("Main.java"));
        let ruby = |file: &str| UserFrame { runtime: Some(Runtime::Ruby), ..script("f", file, 1) };
        for file in
            ["<internal:kernel>", "/usr/lib/ruby/3.1.0/set.rb", "/usr/local/lib/ruby/3.3.0/x86_64-linux/a.rb"]
        {
            assert!(is_library(&ruby(file)), "{file}");
        }
        for file in [
            "/var/lib/gems/3.1.0/gems/rack-3.0.8/lib/rack.rb",
            "/usr/lib/ruby/vendor_ruby/rubygems.rb",
            "/srv/app/vendor/bundle/ruby/3.1.0/bundler/gems/rails-1f2e3d4c5b6a/a.rb",
            "/usr/share/rubygems-integration/all/a.rb",
        ] {
            assert!(is_package(&ruby(file)), "{file}");
        }
        for file in
            ["/srv/gems/main.rb", "/srv/ruby/main.rb", "(eval)", "/srv/ruby/3/a.rb", "/srv/gems/a-cache/b.rb"]
        {
            assert!(!is_package(&ruby(file)) && !is_library(&ruby(file)), "{file}");
        }
        let v8 = |file: &str| UserFrame { runtime: Some(Runtime::V8), ..script("f", file, 1) };
        for file in ["node:fs", "node:internal/timers", "fs.js", "internal/process/task_queues.js"] {
            assert!(is_library(&v8(file)), "{file}");
        }
        for file in
            ["/srv/fs.js", "file:///srv/a.mjs", "[eval]", "evalmachine.<anonymous>", "", "/srv/modules/a.js"]
        {
            assert!(!is_library(&v8(file)) && !is_package(&v8(file)), "{file}");
        }
        assert!(is_package(&v8("/srv/node_modules/express/lib/router/index.js")));
        assert!(is_library(&frame("f", "/usr/lib/x86_64-linux-gnu/ruby/3.1.0/socket.so", 1)));
        assert!(is_library(&frame("f", "/usr/lib/python3.11/lib-dynload/x.so", 1)), "its extension modules");
        assert!(is_package(&frame("f", "/v/lib/python3.11/site-packages/x.so", 1)));
    }
}
