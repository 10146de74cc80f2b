//! Tables of descriptors that are full of one handle: no handle is made, and yet there are no descriptors left.

use anyhow::{Context as _, Result, ensure};
use fdtrace::model::Site;
use fdtrace_tests::harness::{Document, Recorder, Scratch, TIMEOUT, Tracer, report, say, turn};
use rustix::io::dup;
use std::{
    fs::File,
    os::fd::OwnedFd,
    process::id,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Enough to be noticed, wherever the test's own table stands.
const MANY: usize = 400;

#[inline(never)]
fn duplicate(file: &File) -> Result<OwnedFd> {
    Ok(dup(file)?)
}

fn duplicates(file: &File, count: usize) -> Result<Vec<OwnedFd>> {
    (0..count).map(|_| duplicate(file)).collect()
}

fn acquired(document: &Document) -> Option<&Site> {
    document.sites.iter().find(|site| site.acquired && site.live > 0)
}

/// Duplicates made, open, and told to point to a handle that has several: a compiler may make two calls of one in a loop.
fn sums(document: &Document) -> (u64, u64, u64) {
    let acquired = document.sites.iter().filter(|site| site.acquired);
    acquired.fold((0, 0, 0), |(made, live, repeated), site| {
        let of_site: u64 = site.repeats.iter().map(|repeat| repeat.descriptors).sum();
        // One that is alone at its site repeats nothing there.
        (made + site.allocated, live + site.live, repeated + of_site.max(site.live.min(1)))
    })
}

/// Whether a sample says what this process does: which handle it repeats, how often, and where.
fn explains(document: &Document) -> bool {
    let table = document.processes.iter().find(|table| table.pid == id());
    let repeats = |site: &Site| site.repeats.first().is_some_and(|repeat| repeat.descriptors > 1);
    table.is_some_and(|table| table.place.is_some()) && acquired(document).is_some_and(repeats)
}

/// The hooks are not attached before a table is seen to repeat a handle; then the line is found that does.
#[test]
fn a_table_that_repeats_a_handle_is_explained() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().join("repeated");
    let file = File::create(&path)?;
    let before = duplicates(&file, MANY)?;
    let tracer = Tracer::start(["-p", &id().to_string(), "--interval", "300ms"])?;
    let ended = AtomicBool::new(false);
    let (document, more) = thread::scope(|scope| -> Result<_> {
        // It goes on until somebody has seen it.
        let leak = scope.spawn(|| -> Result<Vec<OwnedFd>> {
            let mut more = Vec::new();
            while !ended.load(Ordering::Relaxed) && more.len() < MANY {
                more.push(duplicate(&file)?);
                thread::sleep(Duration::from_millis(50));
            }
            Ok(more)
        });
        let document = tracer.wait_for(TIMEOUT / 4, explains);
        ended.store(true, Ordering::Relaxed);
        let more = leak.join().map_err(|_| anyhow::anyhow!("the leak has panicked"))??;
        Ok((document?, more))
    })?;
    let table =
        document.processes.iter().find(|table| table.pid == id()).context("no word of this process")?;
    let first = table.repeats.first().context("no handle that is repeated")?;
    ensure!(first.descriptors >= MANY as u64 && first.name == path.to_string_lossy(), "{first:?}");
    ensure!(table.place.is_some(), "nobody repeats it: {table:?}");
    let site = acquired(&document).context("no site that duplicates")?;
    ensure!((site.origin.name(), site.descriptors) == ("dup", site.live), "{site:?}");
    ensure!(site.repeats[0].name == path.to_string_lossy() && site.live <= more.len() as u64, "{site:?}");
    say(&format!(
        "{} of {} descriptors, repeated by {:?}",
        first.descriptors, table.descriptors, table.place
    ));
    drop((before, more));
    let gone = |document: &Document| acquired(document).is_none() && document.processes.is_empty();
    let document = tracer.wait_for(TIMEOUT / 4, gone)?;
    ensure!(gone(&document), "they are closed: {:?} {:?}", document.processes, document.sites);
    Ok(())
}

/// What was recorded says the same later: duplicates are counted one by one, apart from all handles.
#[test]
fn a_trace_tells_duplicates_apart() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().join("recorded");
    let recorder = Recorder::start(&scratch.path().join("trace"), ["-p", &id().to_string()])?;
    let file = File::create(&path)?;
    let mut kept = duplicates(&file, 25)?;
    kept.truncate(10);
    let told = |document: &Document| sums(document) == (25, 10, 10);
    let seen = recorder.wait_for(TIMEOUT / 4, told)?;
    ensure!(told(&seen.document), "{:?}", seen.document.sites);
    let trace = recorder.file().to_owned();
    recorder.interrupt()?;
    let document = report(&trace)?.document;
    ensure!(told(&document), "{:?}", document.sites);
    let names = document.sites.iter().flat_map(|site| &site.repeats).map(|repeat| repeat.name.as_str());
    ensure!(names.into_iter().all(|name| name.ends_with("recorded")), "{:?}", document.sites);
    let handles: u64 = document.sites.iter().filter(|site| !site.acquired).map(|site| site.live).sum();
    ensure!(handles == document.handles.live, "{handles} at sites, {:?}", document.handles);
    drop(kept);
    Ok(())
}
