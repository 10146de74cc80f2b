//! What a developer can do about a leak, in a sentence.

use super::nouns;
use crate::{
    model::{Kind, Origin, Site, UserFrame},
    stacks,
    text::fmt::escape_control,
};

/// How a language's programs let go of what they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Python,
    Node,
    Java,
    Shell,
    OtherScript,
    Go,
    Rust,
    Other,
}

/// What the leaking program should do.
pub(super) fn fix(site: &Site) -> String {
    // A library and a segment have functions of their own that unmap them.
    if nouns::is_mapped(site) && opposite(site) == "close" {
        return "call munmap() for each mapping: it keeps the file alive when its descriptor is closed"
            .to_owned();
    }
    match language(&site.user_stack) {
        Language::Python => python(site).to_owned(),
        Language::Node => {
            "close the stream or the handle in a `finally`, and destroy() sockets on errors".to_owned()
        }
        Language::Java => "open it in a try-with-resources block".to_owned(),
        Language::Shell => "close the descriptor in the script when it is done: `exec {fd}>&-`".to_owned(),
        Language::OtherScript => "close it in the script on every path, error paths too".to_owned(),
        Language::Go => go(site).to_owned(),
        Language::Other if site.origin == Origin::Recvmsg => received(site),
        Language::Rust => {
            "find what keeps its owner from being dropped: a collection that only grows, a cycle of Rc or \
                           Arc, mem::forget, into_raw_fd"
                .to_owned()
        }
        Language::Other => by_call(site),
    }
}

fn python(site: &Site) -> &'static str {
    match site.origin {
        _ if site.acquired => "close() each duplicate, as in a `with` block: closing the original does not",
        // A number, and no object that could close itself: os.openpty, os.eventfd, select.epoll, os.memfd_create.
        _ if is_bare(site) => "call os.close(), or its close(), in a `finally`: nothing else closes it",
        Origin::Pipe => "close both ends, or run the child as `with subprocess.Popen(...)`",
        Origin::Socket => "use it in a `with` block, or close() the connection, the response or the session",
        _ => "open it in a `with` block, or close() it in a `finally`",
    }
}

/// Whether most of a site's handles are what programs get as a bare descriptor: terminals, anonymous inodes, memory.
fn is_bare(site: &Site) -> bool {
    matches!(nouns::kind(site), Kind::Char | Kind::Anon | Kind::Memfd)
}

fn go(site: &Site) -> &'static str {
    match site.origin {
        _ if site.acquired => "`defer f.Close()` for each duplicate: File() of a connection makes one",
        Origin::Socket => {
            "call Close() on it on every path; of an HTTP response, `defer resp.Body.Close()` after the error check"
        }
        Origin::Pipe => "close both ends, and Wait() for the command",
        _ => "`defer f.Close()` right after the error check",
    }
}

/// Who gets a descriptor in a message owns it, whoever made what it points to.
fn received(site: &Site) -> String {
    let function = stacks::own(&site.user_stack).and_then(|frame| frame.symbol.as_deref());
    let by = function.map(|function| format!(" by {}", escape_control(function))).unwrap_or_default();
    format!(
        "call close() on each descriptor received{by} when it was used: after mmap(), or after it was handed on"
    )
}

/// What ends the life of what these functions make.
const ENDS: [(&str, &str); 12] = [
    ("fopen", "fclose"),
    ("fdopen", "fclose"),
    ("tmpfile", "fclose"),
    ("popen", "pclose"),
    ("opendir", "closedir"),
    ("scandir", "closedir"),
    ("dlopen", "dlclose"),
    ("dlmopen", "dlclose"),
    ("shmat", "shmdt"),
    ("mq_open", "mq_close"),
    ("sem_open", "sem_close"),
    ("setmntent", "endmntent"),
];

fn by_call(site: &Site) -> String {
    let end = opposite(site);
    let what = if site.origin == Origin::Pipe && end == "close" { " for both ends" } else { "" };
    match stacks::own(&site.user_stack).and_then(|frame| frame.symbol.as_deref()) {
        Some(function) => {
            format!(
                "call {end}(){what} on every path out of {}, error paths too, or hand it to an owner that does",
                escape_control(function)
            )
        }
        None => format!("call {end}(){what} on every path, error paths too"),
    }
}

/// The function that undoes what was called.
fn opposite(site: &Site) -> &'static str {
    let entered = stacks::entered(&site.user_stack).unwrap_or_default();
    let name = entered.trim_start_matches("_IO_").trim_start_matches('_');
    let end = ENDS.iter().find(|(made, _)| name.starts_with(made)).map(|(_, end)| *end);
    end.unwrap_or(if site.origin == Origin::ShmAttach { "shmdt" } else { "close" })
}

fn language(user: &[UserFrame]) -> Language {
    match user.iter().find_map(stacks::interpreter) {
        Some("python" | "libpython") => return Language::Python,
        Some("node" | "nodejs" | "libnode") => return Language::Node,
        Some("java" | "libjvm") => return Language::Java,
        Some("sh" | "bash" | "dash" | "zsh" | "ksh") => return Language::Shell,
        Some(_) => return Language::OtherScript,
        None => {}
    }
    let written_in = |suffix: &str, runtime: &str| {
        user.iter().any(|frame| {
            frame.file.as_deref().is_some_and(|file| file.ends_with(suffix))
                || frame.symbol.as_deref().is_some_and(|symbol| symbol.starts_with(runtime))
        })
    };
    match () {
        () if written_in(".go", "runtime.") => Language::Go,
        () if written_in(".rs", "std::rt::") => Language::Rust,
        () => Language::Other,
    }
}

/// The line of a suppressions file that hides a site: none where it would hide all others too, for the functions of an
/// interpreter stand for all scripts, and `main` or `<module>` is in every stack.
pub(super) fn suppression(site: &Site) -> Option<String> {
    let function = stacks::own(&site.user_stack)?.symbol.as_deref()?;
    // What a compiler puts behind a name is another one in the next build.
    let function = stacks::name::function(function);
    let is_main = function == "main" || function.ends_with("::main") || function == "main.main";
    let has_no_name = function.starts_with('<') && function.ends_with('>');
    (!is_main && !has_no_name).then(|| format!("leak:{}", escape_control(function)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

    fn called(function: &str) -> Site {
        let mut site = site("a", 3);
        site.user_stack[0].symbol = Some(function.to_owned());
        site
    }

    #[test]
    fn what_was_called_has_its_opposite() {
        assert_eq!(
            ["open64", "fopen64", "_IO_popen", "opendir", "dlopen"].map(|function| {
                fix(&called(function)).split(' ').nth(1).map(str::to_owned).expect("a function")
            }),
            ["close()", "fclose()", "pclose()", "closedir()", "dlclose()"]
        );
        assert!(fix(&called("open")).contains("out of leak,"));
        let pipe = Site { origin: Origin::Pipe, ..called("pipe2") };
        assert!(fix(&pipe).starts_with("call close() for both ends on every path out of leak"));
    }

    #[test]
    fn a_bare_descriptor_has_no_block_of_its_own() {
        let of = |kind: Kind, origin: Origin| {
            let user_stack = vec![frame("f", "/usr/bin/python3.11", 1)];
            fix(&Site { kinds: [(kind, 3)].into(), origin, user_stack, ..site("a", 3) })
        };
        assert!(of(Kind::Regular, Origin::Open).contains("`with` block"));
        for (kind, origin) in
            [(Kind::Char, Origin::Open), (Kind::Anon, Origin::AnonInode), (Kind::Memfd, Origin::Shmem)]
        {
            let advice = of(kind, origin);
            assert!(advice.contains("os.close()") && !advice.contains("with"), "{kind}: {advice}");
        }
    }

    #[test]
    fn lines_that_hide_one_site() {
        let of = |function: &str| {
            let mut site = called("open");
            site.user_stack[1].symbol = Some(function.to_owned());
            suppression(&site)
        };
        assert_eq!(of("leak.constprop.0"), Some("leak:leak".to_owned()));
        assert_eq!(["main", "app::main", "main.main"].map(of), [None, None, None]);
    }

    #[test]
    fn scripts() {
        let of =
            |function: &str| Site { user_stack: vec![script(function, "/app/db.py", 12)], ..site("a", 3) };
        assert_eq!(suppression(&of("Pool.get")), Some("leak:Pool.get".to_owned()));
        assert_eq!(["<module>", "<lambda>", "main"].map(|name| suppression(&of(name))), [None, None, None]);
        assert!(fix(&of("Pool.get")).contains("`with` block"));
    }

    #[test]
    fn languages() {
        let of = |file: &str, module: &str| {
            let mut frame = frame("f", module, 1);
            frame.file = Some(file.to_owned());
            language(&[frame])
        };
        assert_eq!(of("a.c", "/opt/app"), Language::Other);
        assert_eq!(of("src/main.rs", "/opt/app"), Language::Rust);
        assert_eq!(of("main.go", "/opt/app"), Language::Go);
        assert_eq!(of("Objects/call.c", "/usr/bin/python3.12"), Language::Python);
        assert_eq!(of("x.cc", "/usr/bin/node"), Language::Node);
        assert_eq!(of("x.c", "/usr/bin/perl"), Language::OtherScript);
        assert_eq!(of("redir.c", "/bin/bash"), Language::Shell);
    }
}
