//! Who mapped a handle, and that a mapping keeps it alive after its descriptor is closed.

use crate::{backends::has_hook, observe::Observation, recording::Recorded};
use anyhow::{Context as _, Result, ensure};
use fdtrace::model::{Holder, MappedAt, Site};
use fdtrace_tests::{
    expected::Load,
    harness::{Document, TIMEOUT, Workload, report, say, turn},
};

/// Bytes of the workload's file.
const LENGTH: u64 = 4096;

/// What the workload maps.
const FILES: u64 = 40;
/// All of them of different origins: a workload without frame pointers has one call site for each.
const STEPS: [&str; 3] = ["pipes=7", "mapped=40", "shm-attach=15"];

/// The site whose handles only a mapping holds.
fn mapped_site(document: &Document) -> Option<&Site> {
    document.sites.iter().find(|site| site.origin == "open" && site.live == FILES)
}

fn mappings(site: &Site) -> u64 {
    site.mapped_by.iter().map(|mapped| mapped.handles).sum()
}

/// Every mapping of the files is known, and where it was made: that is found out a moment later.
fn all_known(document: &Document) -> bool {
    mapped_site(document).is_some_and(|site| {
        mappings(site) == FILES && site.mapped_by.iter().all(|mapped| !mapped.user_stack.is_empty())
    })
}

/// What is said of the mapping: where it is, and by which code.
fn check(document: &Document, pid: u32) -> Result<()> {
    let site = mapped_site(document).with_context(|| format!("no site: {:?}", document.sites))?;
    ensure!(mappings(site) == FILES, "{} of {FILES} are known to be mapped", mappings(site));
    let [mapped] = site.mapped_by.as_slice() else { anyhow::bail!("by several: {:?}", site.mapped_by) };
    check_example(mapped, pid)?;
    ensure!(mapped.site != site.id, "what opens is not what maps: {mapped:?}");
    let named = mapped.user_stack.iter().find_map(|frame| frame.symbol.as_deref());
    say(&format!("mapped by {named:?}, {} frames", mapped.user_stack.len()));
    // A program without symbols has no names, and no stack may be reported before its code is known.
    let sensible =
        named.is_none_or(|name| ["map", "syscall", "steps"].iter().any(|word| name.contains(word)));
    ensure!(!mapped.user_stack.is_empty() && sensible, "mapped by {named:?}: {:?}", mapped.user_stack);
    check_others(document)
}

fn check_example(mapped: &MappedAt, pid: u32) -> Result<()> {
    let example = mapped.example.context("no example")?;
    ensure!(example.pid == pid && example.length == LENGTH, "not ours: {example:?}");
    // 0 when the kernel had not chosen the address yet.
    ensure!(example.address % LENGTH == 0, "no address of a page: {example:?}");
    Ok(())
}

/// Files that were never mapped, and segments, which nothing but a mapping can hold.
fn check_others(document: &Document) -> Result<()> {
    let pipes = document.sites.iter().find(|site| site.origin == "pipe").context("no pipes")?;
    ensure!(pipes.mapped_by.is_empty(), "nobody mapped {:?}", pipes.mapped_by);
    let attached = document.sites.iter().find(|site| site.origin == "shm_attach").context("no attach")?;
    ensure!(attached.holders.get(&Holder::ShmAttach) == Some(&15), "held by {:?}", attached.holders);
    Ok(())
}

#[test]
fn live_shows_who_mapped_what() -> Result<()> {
    let _turn = turn();
    let mut observation = Observation::start(Workload::start(STEPS)?, Load::One, &["--mappings"])?;
    let backend = observation.tracer.first.trace.backend.clone();
    let truth = observation.workload.go()?;
    if !has_hook(&backend, "mapping")? {
        observation.settle(&truth)?.report("mappings, without the hook")?;
        return absent(&observation.last_words(&truth)?.1);
    }
    let document = observation.tracer.wait_for(TIMEOUT / 4, all_known)?;
    check(&document, observation.workload.pid())?;
    observation.settle(&truth)?.report("mappings")?;
    // A mapping is an attribute of a handle and keeps none.
    let truth = observation.workload.close()?;
    observation.settle(&truth)?.report("mappings, let go")
}

fn absent(document: &Document) -> Result<()> {
    let mapped = document.sites.iter().find(|site| !site.mapped_by.is_empty());
    ensure!(mapped.is_none(), "mapped by somebody, without a hook that sees it: {mapped:?}");
    Ok(())
}

/// Without the option nobody watches.
#[test]
fn live_does_not_watch_mappings_by_itself() -> Result<()> {
    let _turn = turn();
    let mut observation = Observation::start(Workload::start(STEPS)?, Load::One, &[])?;
    let truth = observation.workload.go()?;
    observation.settle(&truth)?.report("mappings, not asked for")?;
    absent(&observation.last_words(&truth)?.1)
}

/// A record always has them, and says at its end what holds each handle.
#[test]
fn a_record_shows_what_holds_a_mapped_file() -> Result<()> {
    let _turn = turn();
    let Recorded { recorder, mut workload, scratch } = Recorded::start(STEPS, &[])?;
    let truth = workload.go()?;
    let pid = workload.pid();
    recorder.wait_for(TIMEOUT / 4, |document| document.handles.live == truth.live)?;
    recorder.interrupt()?;
    let document = report(&scratch.path().join("trace"))?.document;
    if !has_hook(&document.trace.backend, "mapping")? {
        return absent(&document);
    }
    check(&document, pid)?;
    let holders = mapped_site(&document).map(|site| &site.holders).context("no site")?;
    ensure!(holders.get(&Holder::Mapping) == Some(&FILES) && holders.len() == 1, "held by {holders:?}");
    let pipes = document.sites.iter().find(|site| site.origin == "pipe").context("no pipes")?;
    if has_hook(&document.trace.backend, "who points to it")? {
        ensure!(pipes.holders.get(&Holder::Descriptor) == Some(&14), "held by {:?}", pipes.holders);
    }
    Ok(())
}
