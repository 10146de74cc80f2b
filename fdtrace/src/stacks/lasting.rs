//! What of a stack is the same in the next run of a program: what ids of call sites are made of.
//!
//! Code that a program makes while it runs (compiled by Java, V8, LuaJIT or .NET, or unpacked) lies elsewhere in each run,
//! has more frames or fewer as functions are inlined, and is interpreted at first. So a stack counts from the kernel up to
//! the first frame of such code that has no name. What called that does not count.
//!
//! Where the lines of a script are known, they count, and code that a program makes does not.

use std::borrow::Cow;

use crate::model::{Runtime, UserFrame};

/// A frame, of whichever document.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameRef<'a> {
    /// The function.
    pub symbol: Option<&'a str>,
    /// The module's path.
    pub module: Option<&'a str>,
    /// The module's build-id.
    pub build_id: Option<&'a str>,
    /// Offset in the module; without one the address.
    pub offset: u64,
    /// The line of a script.
    pub script: Option<ScriptCode<'a>>,
}

impl<'a> FrameRef<'a> {
    pub(crate) fn of(frame: &'a UserFrame) -> Self {
        Self {
            symbol: frame.symbol.as_deref(),
            module: frame.module.as_deref(),
            build_id: frame.build_id.as_deref(),
            offset: frame.offset,
            script: ScriptCode::of(frame),
        }
    }
}

/// What lasts of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lasting<'a> {
    /// Code of a file.
    File(FileCode<'a>),
    /// Code of a script.
    Script(ScriptCode<'a>),
    /// Code that the program made, by the name that it gave to it.
    Made(Cow<'a, str>),
    /// Code that the program made and that calls the kernel itself, by its place in its page.
    InPage(u64),
}

/// Code of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileCode<'a> {
    /// The function.
    pub symbol: Option<&'a str>,
    /// The file's path.
    pub module: &'a str,
    /// Its build-id, else its path.
    pub file: &'a str,
    /// Offset in it.
    pub offset: u64,
}

/// Code of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScriptCode<'a> {
    /// What runs it.
    pub runtime: Runtime,
    /// The function.
    pub function: &'a str,
    /// The file's path.
    pub file: &'a str,
    /// The line, for code that is of one.
    pub line: Option<u32>,
}

impl<'a> ScriptCode<'a> {
    fn of(frame: &'a UserFrame) -> Option<Self> {
        let function = frame.symbol.as_deref().unwrap_or_default();
        let file = frame.file.as_deref().unwrap_or_default();
        Some(Self { runtime: frame.runtime?, function, file, line: frame.line })
    }
}

/// Bytes of a page: mappings begin anywhere, at a multiple of it.
const PAGE: u64 = 4096;

/// Beginnings of paths of memory that is no file's.
const MEMORY: [&str; 4] = ["/memfd:", "/dev/zero", "/dev/shm/", "/SYSV"];

/// Beginnings of functions of V8: which of them lead from a script to a function in C++ depends on whether the script is
/// compiled by then.
const V8: [&str; 2] = ["Builtins_", "v8::internal::"];

/// What a stack, innermost frame first, has in common with that of the next run.
pub(crate) fn lasting<'a>(
    stack: impl Iterator<Item = FrameRef<'a>> + Clone,
) -> impl Iterator<Item = Lasting<'a>> {
    let has_script = stack.clone().any(|frame| frame.script.is_some());
    let counts =
        move |frame: &FrameRef<'_>| !has_script || frame.script.is_some() || file_of(*frame).is_some();
    let mut called = false;
    stack.filter(counts).map_while(move |frame| {
        let lasting = what_lasts(frame, called)?;
        called |= !matches!(lasting, Lasting::InPage(_));
        Some(lasting)
    })
}

/// None where what lasts of a stack ends: at the first frame of the run's own that has called what lasts.
fn what_lasts(frame: FrameRef<'_>, called: bool) -> Option<Lasting<'_>> {
    if let Some(script) = frame.script {
        return Some(Lasting::Script(script));
    }
    let FrameRef { symbol, build_id, offset, .. } = frame;
    match (file_of(frame), symbol) {
        (Some(_), Some(symbol)) if called && V8.iter().any(|begin| symbol.starts_with(begin)) => None,
        (Some(module), _) => {
            Some(Lasting::File(FileCode { symbol, module, file: build_id.unwrap_or(module), offset }))
        }
        (None, Some(name)) => Some(Lasting::Made(without_addresses(name))),
        (None, None) if called => None,
        (None, None) => Some(Lasting::InPage(offset % PAGE)),
    }
}

/// The path of the file that has the code, if a file has it.
fn file_of(frame: FrameRef<'_>) -> Option<&str> {
    let is_memory =
        |path: &str| frame.build_id.is_none() && MEMORY.iter().any(|begin| path.starts_with(begin));
    frame.module.filter(|path| !is_memory(path))
}

/// A name that a program gave to code of its own, without the addresses in it.
fn without_addresses(name: &str) -> Cow<'_, str> {
    if !name.contains("0x") {
        return Cow::Borrowed(name);
    }
    let mut parts = name.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    Cow::Owned(parts.fold(first, |name, part| {
        name + "0x" + part.trim_start_matches(|digit: char| digit.is_ascii_hexdigit())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JIT: FrameRef<'_> =
        FrameRef { symbol: None, module: None, build_id: None, offset: 0x7f12_3456_7abc, script: None };

    fn code<'a>(symbol: &'a str, module: &'a str) -> FrameRef<'a> {
        FrameRef { symbol: Some(symbol), module: Some(module), build_id: Some("ab"), ..JIT }
    }

    fn symbols<'a>(stack: &[FrameRef<'a>]) -> Vec<Option<&'a str>> {
        let symbol = |lasting| match lasting {
            Lasting::File(code) => code.symbol,
            Lasting::Script(code) => Some(code.function),
            Lasting::Made(Cow::Borrowed(name)) => Some(name),
            _ => None,
        };
        lasting(stack.iter().copied()).map(symbol).collect()
    }

    #[test]
    fn code_of_the_run_ends_what_lasts() {
        let open = code("handleOpen", "/lib/libjava.so");
        let main = code("JavaMain", "/lib/libjli.so");
        assert_eq!(symbols(&[open, JIT, JIT, main]), [Some("handleOpen")]);
        assert_eq!(symbols(&[open, main, JIT]), [Some("handleOpen"), Some("JavaMain")]);
        let memory = FrameRef { module: Some("/memfd:doublemapper"), ..JIT };
        assert_eq!(symbols(&[open, memory, main]), [Some("handleOpen")], "no file, but memory");
        let program = FrameRef { module: Some("/memfd:runc"), build_id: Some("cd"), ..JIT };
        assert_eq!(symbols(&[open, program, main]).len(), 3, "a program that was copied to memory");
    }

    #[test]
    fn names_count_and_their_addresses_do_not() {
        let open = code("_io_open", "/lib/libpython3.12.so");
        let named = FrameRef { symbol: Some("py::one:/a.py"), ..JIT };
        assert_eq!(symbols(&[open, named, open, JIT, open]), [Some("_io_open"), named.symbol, open.symbol]);
        assert_eq!(without_addresses("stub 0x7f00ab<int>, 0x12"), "stub 0x<int>, 0x");
        assert_eq!(without_addresses("a0"), "a0");
    }

    #[test]
    fn a_script_counts_the_same_once_it_is_compiled() {
        let open = code("uv_fs_open", "/usr/bin/node");
        let interpreted = [open, code("v8::internal::Builtin_HandleApiCall(int)", "/usr/bin/node"), open];
        let compiled = [open, code("Builtins_CallApiCallback", "/usr/bin/node"), JIT];
        assert_eq!(symbols(&interpreted), symbols(&compiled));
        assert_eq!(symbols(&interpreted), [Some("uv_fs_open")]);
    }

    #[test]
    fn lines_of_a_script_last_whatever_was_compiled_between_them() {
        let open = code("open64", "/lib/libc.so.6");
        let line = |function| {
            let script = ScriptCode { runtime: Runtime::Cpython, function, file: "/a.py", line: Some(3) };
            FrameRef { script: Some(script), ..FrameRef::default() }
        };
        let trampoline = FrameRef { symbol: Some("py::load:/a.py"), ..JIT };
        let stack = [open, JIT, line("load"), trampoline, line("main")];
        assert_eq!(symbols(&stack), [Some("open64"), Some("load"), Some("main")]);
    }

    #[test]
    fn an_unpacked_program_has_its_places_in_pages() {
        let other = FrameRef { offset: 0x7f99_0000_0abc, ..JIT };
        let all = |stack: [FrameRef<'static>; 3]| lasting(stack.into_iter()).collect::<Vec<_>>();
        assert_eq!(all([JIT, other, code("main", "/a")]), all([other, JIT, code("main", "/a")]));
        assert_eq!(all([JIT, other, code("main", "/a")])[0], Lasting::InPage(0xabc));
    }
}
