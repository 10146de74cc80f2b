//! Documents for the tests of the formats.

use std::collections::BTreeMap;

use super::{
    Document, Events, Handles, KernelFrame, Kind, Lost, Origin, Process, REPORT_SCHEMA, Runtime, Site, Trace,
    Trend, UserFrame,
};

pub(crate) fn document(sites: Vec<Site>) -> Document {
    Document {
        schema: REPORT_SCHEMA.to_owned(),
        trace: Trace {
            start: "2024-05-06T07:08:09Z".to_owned(),
            duration_ns: 12_000_000_000,
            samples: 1,
            backend: "kprobe".to_owned(),
            kernel: "6.1.0".to_owned(),
            complete: true,
            incomplete: Vec::new(),
            events: Events::default(),
            lost: Lost::default(),
        },
        handles: Handles { live: sites.iter().map(|site| site.live).sum(), ..Handles::default() },
        sites,
        fastest: None,
        own: None,
        processes: Vec::new(),
    }
}

/// A site of one process, `app (7)`, that called `leak` from `main`.
pub(crate) fn site(id: &str, live: u64) -> Site {
    Site {
        id: id.to_owned(),
        name_id: None,
        origin: Origin::Open,
        origin_function: None,
        acquired: false,
        loaded: false,
        descriptors: 0,
        repeats: Vec::new(),
        refused: 0,
        live,
        aged: live,
        change: 0,
        allocated: live + 5,
        released: 5,
        released_by: BTreeMap::from([("close".into(), 5)]),
        oldest_age_ns: 9_000_000_000,
        verdict: Trend::Unknown,
        lifetimes: None,
        kinds: BTreeMap::from([(Kind::Regular, live)]),
        holders: BTreeMap::new(),
        mapped_by: Vec::new(),
        processes: vec![process(7, "app", live)],
        examples: Vec::new(),
        kernel_stack: kernel(&["alloc_empty_file", "path_openat"]),
        user_stack: vec![
            frame("open64", "/usr/lib/libc.so.6", 0x100),
            frame("leak", "/opt/app", 0x200),
            frame("main", "/opt/app", 0x300),
        ],
        user_stack_complete: true,
    }
}

pub(crate) fn process(pid: u32, comm: &str, live: u64) -> Process {
    Process {
        pid,
        comm: comm.to_owned(),
        exe: "/opt/app".to_owned(),
        cgroup: "/".to_owned(),
        live,
        allocated: None,
        descriptors: 0,
    }
}

/// Every module has a build-id of its own, as in life: readers take modules of one build-id for one.
pub(crate) fn frame(symbol: &str, module: &str, offset: u64) -> UserFrame {
    UserFrame {
        symbol: Some(symbol.to_owned()),
        module: Some(module.to_owned()),
        build_id: Some(format!("b1d{:02x}", module.len())),
        offset,
        ..UserFrame::default()
    }
}

/// A frame of a script.
pub(crate) fn script(function: &str, file: &str, line: u32) -> UserFrame {
    UserFrame {
        runtime: Some(Runtime::Cpython),
        symbol: Some(function.to_owned()),
        file: Some(file.to_owned()),
        line: Some(line),
        ..UserFrame::default()
    }
}

pub(crate) fn kernel(symbols: &[&str]) -> Vec<KernelFrame> {
    symbols.iter().map(|symbol| KernelFrame { symbol: (*symbol).to_owned(), offset: 0x10 }).collect()
}

/// What a format wrote.
pub(crate) fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("the formats are text")
}

/// Names that nobody would choose who means well.
pub(crate) const HOSTILE: [&str; 12] = [
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "a\nfdtrace: no leak\r\tb",
    "\u{9b}31m\u{85}\u{90}",
    "gpj.\u{202e}exe\u{202c}\u{2066}\u{2069}\u{200f}\u{61c}",
    "line\u{2028}paragraph\u{2029}end",
    "zero\u{200b}\u{200d}\u{2060}\u{feff}width\u{ad}",
    "tag\u{e0001}\u{e0041}\u{e007f}",
    "no\u{fffe}char\u{ffff}acter\u{fdd0}\u{1ffff}",
    "]]><script>&amp;\"'</title>--><![CDATA[",
    "\u{0}\u{1}\u{8}\u{b}\u{c}\u{e}\u{1f}\u{7f}",
    "\u{fff9}\u{fffb}\u{180e}\u{3164}\u{34f}",
    "lost \u{fffd} bytes; # 5",
];

/// Gives everything at a site that has a name this one.
pub(crate) fn rename(site: &mut Site, name: &str) {
    for process in &mut site.processes {
        (process.comm, process.exe, process.cgroup) = (name.to_owned(), name.to_owned(), name.to_owned());
    }
    site.kernel_stack.iter_mut().for_each(|frame| name.clone_into(&mut frame.symbol));
    site.examples.iter_mut().for_each(|example| name.clone_into(&mut example.name));
    for frame in &mut site.user_stack {
        (frame.symbol, frame.module) = (Some(name.to_owned()), Some(name.to_owned()));
        (frame.file, frame.build_id) = (Some(name.to_owned()), Some(name.to_owned()));
        frame.line = Some(7);
    }
}
