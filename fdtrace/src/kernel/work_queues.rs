//! Probes in the processes' own code, at the two ends of a queue of work.

use std::{fs::File, os::fd::AsRawFd as _};

use aya::{
    Ebpf,
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeScope},
    },
};

use super::hooks;

/// Programs of the BPF object.
const BEGUN: &str = "work_begun";
const SUBMITTED: &str = "work_submitted";

/// Watches a queue in all processes that run this file: who submits a request, and who works on it; by offsets in the file.
/// What was attached stays when the rest cannot be. The error is a sentence's end.
pub(super) fn attach(ebpf: &mut Ebpf, file: &File, submit: u64, work: &[u64]) -> Result<(), String> {
    // Whoever works is known before anything is submitted.
    attach_at(ebpf, BEGUN, file, work)
        .and_then(|()| attach_at(ebpf, SUBMITTED, file, &[submit]))
        .map_err(|error| hooks::reason(&error))
}

/// Whether the kernel takes the programs; the error is a sentence's end.
pub(super) fn load_all(ebpf: &mut Ebpf) -> Result<(), String> {
    let load = |name| load(ebpf, name).map(drop).map_err(|error| hooks::reason(&error));
    [BEGUN, SUBMITTED].into_iter().try_for_each(load)
}

fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let program: &mut UProbe = program.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

fn attach_at(ebpf: &mut Ebpf, name: &str, file: &File, offsets: &[u64]) -> Result<(), ProgramError> {
    let program = load(ebpf, name)?;
    // The file that was looked at, whatever is at its path by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for offset in offsets {
        program.attach(UProbeAttachLocation::AbsoluteOffset(*offset), &path, UProbeScope::AllProcesses)?;
    }
    Ok(())
}
