//! Documents for the tests of the formats.

use std::collections::BTreeMap;

use super::{Document, Events, Handles, KernelFrame, Lost, Process, Site, Trace, UserFrame, Verdict};

pub(super) fn document(sites: Vec<Site>) -> Document {
    Document {
        schema: "fdtrace.report/1",
        trace: Trace {
            start: "2024-05-06T07:08:09Z".to_owned(),
            duration_ns: 12_000_000_000,
            looks: 1,
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
    }
}

/// A site of one process, `app (7)`, that called `leak` from `main`.
pub(super) fn site(id: &str, live: u64) -> Site {
    Site {
        id: id.to_owned(),
        name_id: None,
        origin: "open",
        origin_function: None,
        live,
        aged: live,
        change: 0,
        allocated: live + 5,
        released: 5,
        released_by: BTreeMap::from([("close", 5)]),
        oldest_age_ns: 9_000_000_000,
        verdict: Verdict::Unknown,
        lifetimes: None,
        kinds: BTreeMap::from([("regular", live)]),
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

pub(super) fn process(pid: u32, comm: &str, live: u64) -> Process {
    Process {
        pid,
        comm: comm.to_owned(),
        exe: "/opt/app".to_owned(),
        cgroup: "/".to_owned(),
        live,
        allocated: None,
    }
}

/// Every module has a build-id of its own, as in life: readers take modules of one build-id for one.
pub(super) fn frame(symbol: &str, module: &str, offset: u64) -> UserFrame {
    UserFrame {
        symbol: Some(symbol.to_owned()),
        module: Some(module.to_owned()),
        file: None,
        line: None,
        inlined: false,
        build_id: Some(format!("b1d{:02x}", module.len())),
        offset,
    }
}

pub(super) fn kernel(symbols: &[&str]) -> Vec<KernelFrame> {
    symbols.iter().map(|symbol| KernelFrame { symbol: (*symbol).to_owned(), offset: 0x10 }).collect()
}

/// What a format wrote.
pub(super) fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("the formats are text")
}
