//! What nobody in sight holds, and what the machine has that may hold it.

use super::scenarios::sentence;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    harness::{BlockedReads, Scratch, explain, explain_text, possible, turn, with_own_mounts},
    workload::NotPossible,
};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    pipe::pipe,
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::id,
    thread,
};

/// How many handles are held so, on the whole machine.
fn held(document: &fdtrace_tests::harness::Explanation, holder: &str) -> u64 {
    document.handles.by_holder.get(holder).copied().unwrap_or_default()
}

/// A read in progress keeps a socket whose descriptor is closed; its other end leads to it.
#[test]
fn sockets_that_only_their_peers_lead_to() -> Result<()> {
    const SOCKETS: usize = 400;
    let _turn = turn();
    let before = explain([])?;
    let _blocked = BlockedReads::of_sockets(SOCKETS)?;
    let after = explain([])?;
    let new = held(&after, "unknown").saturating_sub(held(&before, "unknown"));
    ensure!(new >= SOCKETS as u64 * 9 / 10, "{new} of {SOCKETS} were found");
    let text = explain_text([])?;
    let last = sentence(&text);
    for word in ["only the other end is in sight", &format!("({})", id())] {
        ensure!(last.contains(word), "{word:?} is not said: {last}\n\n{text}");
    }
    Ok(())
}

/// A namespace with segments that nobody but a descriptor keeps.
fn namespace_with_segments(count: usize) -> Result<File> {
    let make = || {
        // SAFETY: no table of descriptors is unshared, which is what could make a descriptor somebody else's.
        unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }
            .map_err(|error| NotPossible(format!("namespaces: {error}")))?;
        for _ in 0..count {
            // SAFETY: takes numbers, and makes a segment that goes with its namespace.
            let segment = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) };
            ensure!(segment >= 0, "shmget: {}", io::Error::last_os_error());
        }
        Ok(File::open("/proc/thread-self/ns/ipc")?)
    };
    thread::scope(|scope| scope.spawn(make).join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
}

#[test]
fn segments_of_a_namespace_that_a_descriptor_keeps() -> Result<()> {
    const SEGMENTS: usize = 1100;
    let _turn = turn();
    let before = explain([])?;
    let Some(_namespace) = possible("namespaces", namespace_with_segments(SEGMENTS))? else { return Ok(()) };
    let after = explain([])?;
    ensure!(after.segments.len() == before.segments.len() + SEGMENTS, "{} segments", after.segments.len());
    let process = after.process(id()).context("not there")?;
    let own = process.by_holder.get("shm_segment").copied();
    ensure!(own == Some(SEGMENTS as u64), "{:?}", process.by_holder);
    let text = explain_text([])?;
    let last = sentence(&text);
    for word in ["SysV segments", &format!("({})", id())] {
        ensure!(last.contains(word), "{word:?} is not said: {last}\n\n{text}");
    }
    Ok(())
}

/// The number that a system call gives, as a descriptor.
fn descriptor(call: &str, number: libc::c_long) -> Result<OwnedFd> {
    let error = io::Error::last_os_error();
    match i32::try_from(number) {
        // SAFETY: the kernel has just made it, and nothing else knows it.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS | Errno::NOENT | Errno::NOSYS) => {
                Err(NotPossible(format!("{call}: {error}")).into())
            }
            _ => Err(error).context(call.to_owned()),
        },
    }
}

/// Bytes of `union bpf_attr` that are more than any kernel of this kind reads; the rest is zero.
const ATTRIBUTES: usize = 128;

fn bpf(command: libc::c_long, bytes: &[u8]) -> libc::c_long {
    let mut attributes = [0u64; ATTRIBUTES / 8];
    for (word, part) in attributes.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    // SAFETY: one array with as many bytes as are reported.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), 72) }
}

/// A clock of the first processor, which nobody reads.
fn perf_event() -> Result<OwnedFd> {
    const SOFTWARE: u32 = 1;
    const LENGTH: u32 = 112;
    let mut attributes = [0u32; LENGTH as usize / 4];
    attributes[..2].copy_from_slice(&[SOFTWARE, LENGTH]);
    // SAFETY: one array with as many bytes as it says itself.
    let number = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, 0) };
    descriptor("perf_event_open", number)
}

/// A BPF array that keeps events whose descriptors are closed.
fn array_of_events(count: u32) -> Result<OwnedFd> {
    const MAP_CREATE: libc::c_long = 0;
    const MAP_UPDATE: libc::c_long = 2;
    const PERF_EVENT_ARRAY: u32 = 4;
    let map =
        descriptor("bpf", bpf(MAP_CREATE, &[PERF_EVENT_ARRAY, 4, 4, count].map(u32::to_le_bytes).concat()))?;
    for index in 0..count {
        let event = perf_event()?;
        let number = event.as_raw_fd();
        let map = [map.as_raw_fd().cast_unsigned(), 0].map(u32::to_le_bytes).concat();
        let pointers = [(&raw const index).expose_provenance(), (&raw const number).expose_provenance()];
        let bytes = [map, pointers.map(usize::to_le_bytes).concat()].concat();
        ensure!(bpf(MAP_UPDATE, &bytes) == 0, "bpf: {}", io::Error::last_os_error());
    }
    Ok(map)
}

#[test]
fn perf_events_that_a_bpf_array_keeps() -> Result<()> {
    const EVENTS: u32 = 150;
    let _turn = turn();
    let Some(_array) = possible("perf events", array_of_events(EVENTS))? else { return Ok(()) };
    let document = explain([])?;
    let process = document.process(id()).context("not there")?;
    let own = process.by_holder.get("bpf").copied();
    ensure!(own == Some(EVENTS.into()), "{:?}", process.by_holder);
    Ok(())
}

/// Mounts of autofs whose pipes nobody has any more.
fn autofs_mounts(scratch: &Scratch, count: usize) -> Result<()> {
    for number in 0..count {
        let path = scratch.path().join(number.to_string());
        fs::create_dir(&path)?;
        let (_reader, writer) = pipe()?;
        let options = format!("fd={},minproto=5,maxproto=5,direct", writer.as_raw_fd());
        match mount("autofs", &path, "autofs", MountFlags::empty(), CString::new(options)?.as_c_str()) {
            Ok(()) => {}
            Err(Errno::NODEV) => return Err(NotPossible("there is no autofs".to_owned()).into()),
            Err(error) => return Err(error).context("autofs"),
        }
    }
    Ok(())
}

#[test]
fn autofs_mounts_are_counted() -> Result<()> {
    const MOUNTS: usize = 120;
    let _turn = turn();
    let scratch = Scratch::new()?;
    let look = || {
        autofs_mounts(&scratch, MOUNTS)?;
        let reasons = explain([])?.residual.reasons.clone();
        let expected = format!("{MOUNTS} autofs mounts, each of which keeps a pipe");
        ensure!(reasons.contains(&expected), "{reasons:?}");
        Ok(())
    };
    possible("autofs", with_own_mounts(look)).map(drop)
}
