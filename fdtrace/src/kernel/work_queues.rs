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

/// Watches a queue in all processes that run this file: who submits a request, and who works on it; by offsets in the file.
/// What was attached stays when the rest cannot be. The error is a sentence's end.
pub(super) fn attach(ebpf: &mut Ebpf, file: &File, submit: u64, work: &[u64]) -> Result<(), String> {
    // Whoever works is known before anything is submitted.
    attach_at(ebpf, "work_begun", file, work)
        .and_then(|()| attach_at(ebpf, "work_submitted", file, &[submit]))
        .map_err(|error| hooks::reason(&error))
}

fn attach_at(ebpf: &mut Ebpf, name: &str, file: &File, offsets: &[u64]) -> Result<(), ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let program: &mut UProbe = program.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    // The file that was looked at, whatever is at its path by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for offset in offsets {
        program.attach(UProbeAttachLocation::AbsoluteOffset(*offset), &path, UProbeScope::AllProcesses)?;
    }
    Ok(())
}
