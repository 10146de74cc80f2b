//! The files that the workload opens.

use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::CString,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Bytes of the file that is mapped: one page on every architecture that this runs on.
pub(super) const FILE_LEN: usize = 4096;

/// File system type of overlayfs.
const OVERLAYFS: i64 = 0x794c_7630;

/// Paths for the steps, as the kernel wants them: nothing is allocated while a step runs.
#[derive(Debug)]
pub struct Place {
    files: [PathBuf; 2],
    pub(super) directory: CString,
    pub(super) file: CString,
    pub(super) missing: CString,
    pub(super) program: CString,
}

impl Place {
    /// Makes the files in a directory that exists.
    ///
    /// # Errors
    /// When they cannot be made, or when opening one would make more handles than one.
    pub fn new(directory: &Path) -> Result<Self> {
        // A symbolic link on the way can make the kernel walk the path twice, with a handle for each.
        let directory = directory.canonicalize().with_context(|| directory.display().to_string())?;
        let kind = rustix::fs::statfs(&directory).context("statfs")?.f_type;
        ensure!(kind != OVERLAYFS, "{}: overlayfs makes two handles for each open", directory.display());
        let files = [directory.join("file"), directory.join("program")];
        fs::write(&files[0], [0; FILE_LEN]).context("cannot write the file to open")?;
        fs::write(&files[1], program()?).context("cannot write the program to execute")?;
        fs::set_permissions(&files[1], fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            file: c_path(&files[0])?,
            missing: c_path(&directory.join("missing"))?,
            program: c_path(&files[1])?,
            directory: c_path(&directory)?,
            files,
        })
    }

    /// Removes the files without opening anything.
    pub fn remove(&self) {
        for file in &self.files {
            if let Err(error) = fs::remove_file(file) {
                eprintln!("workload: {}: {error}", file.display());
            }
        }
    }
}

fn c_path(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// A static program that stops itself and, when continued, exits: the dynamic linker and a C library would open files of
/// their own.
fn program() -> Result<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let (machine, code) = instructions()?;
    let length = HEADERS + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, machine, 1, 0].map(u16::to_le_bytes).concat()); // an executable; version 1 as two halves
    elf.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat()); // entry, program headers, no sections
    elf.extend([0, 0, 64, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat()); // flags, sizes and counts of headers
    elf.extend([1, 5].map(u32::to_le_bytes).concat()); // one segment to load, to read and to execute
    elf.extend([0, BASE, BASE, length, length, 0x1_0000].map(u64::to_le_bytes).concat()); // offset to alignment
    elf.extend(code);
    Ok(elf)
}

/// ELF machine number, and the instructions of `kill(getpid(), SIGSTOP); exit(0)`.
fn instructions() -> Result<(u16, Vec<u8>)> {
    match std::env::consts::ARCH {
        "x86_64" => Ok((
            62,
            [
                &[0xb8, 39, 0, 0, 0, 0x0f, 0x05][..],         // mov $39, %eax; syscall
                &[0x89, 0xc7, 0xbe, 19, 0, 0, 0],             // mov %eax, %edi; mov $19, %esi
                &[0xb8, 62, 0, 0, 0, 0x0f, 0x05],             // mov $62, %eax; syscall
                &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05], // mov $60, %eax; xor %edi, %edi; syscall
            ]
            .concat(),
        )),
        "aarch64" => {
            let immediate = |register: u32, value: u32| 0xd280_0000 | value << 5 | register; // movz
            let call = 0xd400_0001; // svc #0
            let kill = [immediate(8, 172), call, immediate(1, 19), immediate(8, 129), call];
            let exit = [immediate(8, 93), immediate(0, 0), call];
            Ok((183, [&kill[..], &exit].concat().into_iter().flat_map(u32::to_le_bytes).collect()))
        }
        other => anyhow::bail!("no program to execute for {other}"),
    }
}
