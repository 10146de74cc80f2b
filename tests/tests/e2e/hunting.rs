//! The purpose of it all: the leaking program is on top, whatever runs beside it.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Document, Tracer, Workload, say, turn};

#[test]
fn the_leaking_program_is_on_top_within_three_intervals() -> Result<()> {
    let _turn = turn();
    let mut leak = Workload::start(["--repeat", "--pause-ms", "20", "kept=10"])?;
    let mut storm = Workload::start(["--repeat", "--threads", "2", "pairs=1000", "failed=100"])?;
    let tracer = Tracer::start(["--top", "5"])?;
    storm.repeat()?;
    leak.repeat()?;
    let mut document = tracer.next()?;
    for _ in 1..3 {
        document = tracer.next()?;
    }
    leak.stop()?;
    storm.stop()?;
    let top = document.sites.first().context("no site at all")?;
    say(&format!("top of {}: {} at {:?}", document.sites.len(), top.origin, top.processes));
    ensure!(top.processes.iter().any(|process| process.pid == leak.pid()), "on top is {top:?}");
    ensure!(top.origin == "open", "origin {}", top.origin);
    ensure!(!holds(&document, storm.pid(), 100), "the clean storm is listed as holding many handles");
    Ok(())
}

fn holds(document: &Document, pid: u32, count: u64) -> bool {
    let processes = document.sites.iter().flat_map(|site| &site.processes);
    processes.filter(|process| process.pid == pid).map(|process| process.live).sum::<u64>() >= count
}

/// Whose handles they are, and what they are called.
#[test]
fn a_site_names_its_process_and_its_files() -> Result<()> {
    let _turn = turn();
    let mut workload = Workload::start(["kept=20"])?;
    let pid = workload.pid();
    let tracer = Tracer::start(["-p", &pid.to_string()])?;
    workload.go()?;
    let named = |document: &Document| document.sites.iter().any(|site| site_is_named(site, pid));
    let document = tracer.wait_for(fdtrace_tests::harness::TIMEOUT / 4, named)?;
    ensure!(named(&document), "{:?}", document.sites);
    Ok(())
}

fn site_is_named(site: &fdtrace::model::Site, pid: u32) -> bool {
    let ours = site.processes.iter().any(|process| process.pid == pid && process.comm == "workload");
    let named = site
        .examples
        .iter()
        .any(|example| example.pid == pid && example.fd.is_some() && example.name.ends_with("/file"));
    ours && named
}
