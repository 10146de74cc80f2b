//! `explain --handle`: why one handle is alive.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::mpsc,
    time::{Duration, SystemTime},
};

use super::{Failure, ProcLinks, Question, Trace, out_of_sight, refuse};
use crate::{
    collect::monotonic_ns,
    explain::{self, Kept, Wanted, document::Asked},
    holders::{self, HolderSnapshot},
    model::explain::handle::{Document, HandleLine},
    process::{around, waits},
};

/// The most handles of one name that are looked at: each program that runs has one of the C library.
const MAX: usize = 1000;

/// Answers for the handle, or the handles, of this name.
pub(crate) fn handles_called(word: &str, question: &Question<'_>) -> Result<Document, Failure> {
    let wanted = absolute(Wanted::parse(word));
    if let Wanted::Descriptor { pid, .. } = &wanted {
        super::wanted(*pid)?;
    }
    let snapshot = holders::take(question.timeout)?;
    let moment = monotonic_ns();
    let mut places = explain::wanted(&snapshot, &wanted, &mut ProcLinks);
    if let (Wanted::Path(path), true) = (&wanted, places.is_empty()) {
        places = by_inode(&snapshot, path, question.timeout);
    }
    let trace = question.trace.map(|path| Trace::read(path, moment)).transpose()?;
    let left_out = places.len().saturating_sub(MAX) as u64;
    places.truncate(MAX);
    let asked = Asked {
        what: word.to_owned(),
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        kernel: around::kernel_release(),
    };
    let kept = of_others(&snapshot, &places);
    if kept.is_empty() {
        refuse(Some(nothing(&snapshot, &wanted, word)))?;
    }
    let mut document = Document::new(asked, lines(&snapshot, &kept), snapshot.partial.clone());
    document.left_out = left_out;
    if let Some(trace) = trace {
        let places: Vec<u32> = kept.iter().map(|kept| kept.place).collect();
        trace.tell_handles(&snapshot, &places, &mut document);
    }
    Ok(document)
}

/// A path as the links of `/proc` have it.
fn absolute(wanted: Wanted) -> Wanted {
    match wanted {
        Wanted::Path(path) if !path.starts_with(['/', '@']) => {
            let whole = std::path::absolute(&path).map_or(path, |whole| whole.to_string_lossy().into_owned());
            Wanted::Path(whole)
        }
        other => other,
    }
}

/// Another path of the same file: by a link, or of another mount. The file system may be hung, so nobody waits for it
/// longer than for the walk.
fn by_inode(snapshot: &HolderSnapshot, path: &str, deadline: Duration) -> Vec<u32> {
    let (sender, receiver) = mpsc::channel();
    let path = PathBuf::from(path);
    std::thread::spawn(move || {
        // Whoever does not wait any more does not want to know.
        let _ = sender.send(std::fs::metadata(path));
    });
    let Ok(Ok(found)) = receiver.recv_timeout(deadline) else { return Vec::new() };
    let device = std::os::unix::fs::MetadataExt::dev(&found);
    let dev = libc::major(device) << 20 | libc::minor(device);
    explain::of_file(snapshot, dev, std::os::unix::fs::MetadataExt::ino(&found))
}

/// Why there is no such handle.
fn nothing(snapshot: &HolderSnapshot, wanted: &Wanted, word: &str) -> String {
    let sentence = match wanted {
        Wanted::Address(_) => format!("there is no handle at {word}"),
        Wanted::Inode(ino) => format!("there is no handle of an inode {ino}"),
        Wanted::Path(path) => format!("nothing has {path} open or mapped"),
        Wanted::Descriptor { pid, fd } => match out_of_sight(snapshot, *pid) {
            Some(reason) => reason,
            None => format!("process {pid} has no descriptor {fd}"),
        },
    };
    match snapshot.partial.first() {
        Some(reason) => format!("{sentence}, as far as was looked: {reason}"),
        None => sentence,
    }
}

/// What keeps them alive, without those that only this sample has: its programs and libraries are gone with it.
fn of_others(snapshot: &HolderSnapshot, places: &[u32]) -> Vec<Kept> {
    let own = std::process::id();
    let children = snapshot.tasks.iter().filter(|task| task.parent == own).map(|task| task.tgid);
    let own: HashSet<u32> = children.chain([own]).collect();
    let mut kept = explain::kept(snapshot, places, &mut ProcLinks);
    kept.retain(|kept| {
        let mut holders = kept.references.iter().flat_map(|found| &found.processes).peekable();
        holders.peek().is_none() || holders.any(|process| !own.contains(&process.pid))
    });
    kept
}

fn lines(snapshot: &HolderSnapshot, kept: &[Kept]) -> Vec<HandleLine> {
    let address = |kept: &Kept| snapshot.handles[kept.place as usize].address;
    let addresses: Vec<u64> = kept.iter().map(address).filter(|address| *address != 0).collect();
    // Read after the walk, whose iterators hold what they show.
    let counts: HashMap<u64, u64> = holders::references(&addresses).unwrap_or_default().into_iter().collect();
    let mut known: HashMap<u32, Vec<waits::Thread>> = HashMap::new();
    let mut threads = |pid: u32| known.entry(pid).or_insert_with(|| waits::threads(pid)).clone();
    let line = |kept: &Kept| {
        let handle = &snapshot.handles[kept.place as usize];
        HandleLine::new(kept, handle, counts.get(&handle.address).copied(), &mut threads)
    };
    kept.iter().map(line).collect()
}
