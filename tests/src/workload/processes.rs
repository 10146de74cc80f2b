//! Steps whose handles are held by other processes, or by threads apart.

use super::{
    NotPossible,
    children::{Running, replace},
    io_uring::{self, MAX_RINGS, register_ring},
    ledger::{By, Entry, Holder, Kind, Ledger, Origin},
    place::Place,
    shm::Segment,
    steps::{attach, leave_open, open, open_file, program_references},
    threads::{Main, in_thread},
};
use anyhow::{Result, bail};
use rustix::{
    fd::{AsFd as _, AsRawFd},
    fs::OFlags,
    io::{self, Errno},
    thread::{UnshareFlags, unshare_unsafe},
};

/// How many children share the descriptors of their parent.
const SHARERS: u64 = 3;

/// One segment, attached `count` times by this process and as often by another.
pub(super) fn shm_both(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let segment = Segment::new()?;
    let child = Running::fork(ledger, &[], || (0..count).try_for_each(|_| segment.attach_for_good()))?;
    let entry = Entry::new(Origin::ShmAttach, Kind::Shm, count, By::ShmAttach).of(&child);
    ledger.hold(Holder::Running(child), entry);
    attach(segment, count, 2 * count, ledger)
}

/// Files that this process and its children have open by the same handles.
pub(super) fn shared_children(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let files = (0..count).map(|_| open_file(place)).collect::<Result<Vec<_>>>()?;
    let numbers: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let children =
        (0..SHARERS).map(|_| Running::fork(ledger, &numbers, || Ok(()))).collect::<Result<Vec<_>>>()?;
    let entry = Entry::new(Origin::Open, Kind::Regular, count, By::Descriptor).shared_with(&children);
    ledger.hold(Holder::Shared(children, files), entry);
    Ok(())
}

/// In a child: opens files for as long as the process lives.
fn open_for_good(place: &Place, count: u64) -> io::Result<()> {
    if (0..count).all(|_| leave_open(place, OFlags::CLOEXEC)) { Ok(()) } else { Err(Errno::MFILE) }
}

/// Files that a process has open whose main thread has exited.
pub(super) fn main_exited(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    in_child(ledger, count, || in_thread(Main::Exits, &|| open_for_good(place, count)))
}

/// Files that one thread of a process has open and the others have not.
pub(super) fn private_tables(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    let body = || {
        // SAFETY: the child has no descriptors that could become somebody else's.
        unsafe { unshare_unsafe(UnshareFlags::FILES) }?;
        open_for_good(place, count)
    };
    in_child(ledger, count, || in_thread(Main::Waits, &body))
}

/// Files that a child opens for itself.
fn in_child(ledger: &mut Ledger, count: u64, body: impl Fn() -> io::Result<()>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let child = Running::fork(ledger, &[], body)?;
    let entry = Entry::new(Origin::Open, Kind::Regular, count, By::Descriptor).of(&child);
    ledger.hold(Holder::Running(child), entry);
    Ok(())
}

/// A program that runs with files which this process has opened, because nobody closed them on exec.
pub(super) fn inherited(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let files = (0..count).map(|_| open(&place.file, OFlags::RDONLY)).collect::<Result<Vec<_>>>()?;
    let numbers: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let child = Running::fork(ledger, &numbers, || replace(&place.program))?;
    let program = Entry::new(Origin::Exec, Kind::Regular, 1, By::Mapping).of(&child);
    let entry = Entry::new(Origin::Open, Kind::Regular, count, By::Descriptor);
    let entry = entry.shared_with(std::slice::from_ref(&child));
    ledger.hold(Holder::Shared(vec![child], files), entry);
    ledger.hold(Holder::Another, program.referred_to(program_references(1)));
    Ok(())
}

/// Programs that have unmapped their own file: nothing holds it but that it is what they run.
pub(super) fn executables(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(NotPossible("the program is written for another architecture".to_owned()));
    }
    (0..count).try_for_each(|_| {
        let process = Running::start(&place.unmapped_program, ledger)?;
        let entry = Entry::new(Origin::Exec, Kind::Regular, 1, By::Executable).of(&process);
        ledger.hold(Holder::Running(process), entry);
        Ok(())
    })
}

/// Rings without a descriptor: the thread that made them has registered and closed them.
pub(super) fn io_uring_rings(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    let mut left = count;
    while left > 0 {
        let batch = left.min(MAX_RINGS);
        let child =
            Running::fork(ledger, &[], || (0..batch).try_for_each(|_| ring_for_good())).map_err(refused)?;
        let entry = Entry::new(Origin::AnonInode, Kind::Anon, batch, By::IoUring).of(&child);
        ledger.hold(Holder::Running(child), entry);
        left -= batch;
    }
    Ok(())
}

fn ring_for_good() -> io::Result<()> {
    let ring = io_uring::ring()?;
    register_ring(ring.as_fd())
}

fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<std::io::Error>() {
        Ok(error) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            io_uring::unless_refused("io_uring without descriptors", errno)
        }
        Err(error) => error,
    }
}
