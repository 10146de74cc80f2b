//! The files that the workload opens.

use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::CString,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Bytes of the file that is mapped: one page on every architecture that this runs on.
pub(super) const FILE_LEN: usize = 4096;

/// File system type of overlayfs.
const OVERLAYFS: i64 = 0x794c_7630;

/// Paths for the steps, as the kernel wants them: nothing is allocated while a step runs.
#[derive(Debug)]
pub struct Place {
    files: Vec<PathBuf>,
    pub(super) directory: CString,
    pub(super) file: CString,
    pub(super) missing: CString,
    /// Stops itself.
    pub(super) program: CString,
    /// The same, after it has unmapped its own file.
    pub(super) unmapped_program: CString,
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
        let file = directory.join("file");
        fs::write(&file, [0; FILE_LEN]).context("cannot write the file to open")?;
        let program = write_program(&directory.join("program"), &stop()?)?;
        let unmapped_program = write_program(&directory.join("unmapped"), &unmap_and_stop()?)?;
        Ok(Self {
            file: c_path(&file)?,
            missing: c_path(&directory.join("missing"))?,
            program: c_path(&program)?,
            unmapped_program: c_path(&unmapped_program)?,
            directory: c_path(&directory)?,
            files: vec![file, program, unmapped_program],
        })
    }

    /// A name that nothing has.
    pub(super) fn new_name(&self) -> Result<CString> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(CString::new(format!("{}/new-{number}", self.directory.to_string_lossy()))?)
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

fn write_program(path: &Path, code: &[u8]) -> Result<PathBuf> {
    fs::write(path, elf(code)?).context("cannot write a program to execute")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(path.to_owned())
}

/// Where a program is in memory, and how much of it is from its file.
const BASE: u32 = 0x40_0000;
const PAGE: u32 = 4096;
/// Bytes before the code.
const HEADERS: u32 = 64 + 56;

/// A static program: the dynamic linker and a C library would open files of their own. Behind the page that is mapped from
/// its file is one more, empty.
fn elf(code: &[u8]) -> Result<Vec<u8>> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        other => anyhow::bail!("no program to execute for {other}"),
    };
    let (base, headers) = (u64::from(BASE), u64::from(HEADERS));
    let length = headers + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, machine, 1, 0].map(u16::to_le_bytes).concat()); // an executable; version 1 as two halves
    elf.extend([base + headers, 64, 0].map(u64::to_le_bytes).concat()); // entry, program headers, no sections
    elf.extend([0, 0, 64, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat()); // flags, sizes and counts of headers
    elf.extend([1, 7].map(u32::to_le_bytes).concat()); // one segment to load, to read, to write and to execute
    // Offset, addresses, sizes in the file and in memory, alignment.
    elf.extend([0, base, base, length, u64::from(2 * PAGE), 0x1_0000].map(u64::to_le_bytes).concat());
    elf.extend(code);
    Ok(elf)
}

/// The instructions of `kill(getpid(), SIGSTOP); exit(0)`.
fn stop() -> Result<Vec<u8>> {
    match std::env::consts::ARCH {
        "x86_64" => Ok([
            &[0xb8, 39, 0, 0, 0, 0x0f, 0x05][..],         // mov $39, %eax; syscall
            &[0x89, 0xc7, 0xbe, 19, 0, 0, 0],             // mov %eax, %edi; mov $19, %esi
            &[0xb8, 62, 0, 0, 0, 0x0f, 0x05],             // mov $62, %eax; syscall
            &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05], // mov $60, %eax; xor %edi, %edi; syscall
        ]
        .concat()),
        "aarch64" => {
            let immediate = |register: u32, value: u32| 0xd280_0000 | value << 5 | register; // movz
            let call = 0xd400_0001; // svc #0
            let kill = [immediate(8, 172), call, immediate(1, 19), immediate(8, 129), call];
            let exit = [immediate(8, 93), immediate(0, 0), call];
            Ok([&kill[..], &exit].concat().into_iter().flat_map(u32::to_le_bytes).collect())
        }
        other => anyhow::bail!("no program to execute for {other}"),
    }
}

/// The instructions of a program that goes on in its empty page, without the one from its file. Written down for one
/// architecture; on others it stops in its place.
fn unmap_and_stop() -> Result<Vec<u8>> {
    let stop = stop()?;
    if std::env::consts::ARCH != "x86_64" {
        return Ok(stop);
    }
    let [base, page, copy] = [BASE, PAGE, BASE + PAGE].map(u32::to_le_bytes);
    let unmap = [
        &[0xb8, 11, 0, 0, 0, 0xbf][..], // mov $11, %eax; mov $base, %edi
        &base,
        &[0xbe], // mov $page, %esi
        &page,
        &[0x0f, 0x05], // syscall
    ]
    .concat();
    let length = u32::try_from(unmap.len() + stop.len())?.to_le_bytes();
    let from = (BASE + HEADERS + JUMP_LENGTH).to_le_bytes();
    let jump = [
        &[0xbe][..], // mov $from, %esi
        &from,
        &[0xbf], // mov $copy, %edi
        &copy,
        &[0xb9], // mov $length, %ecx
        &length,
        &[0xf3, 0xa4, 0xb8], // rep movsb; mov $copy, %eax
        &copy,
        &[0xff, 0xe0], // jmp *%rax
    ]
    .concat();
    ensure!(jump.len() == JUMP_LENGTH as usize, "the jump has {} bytes", jump.len());
    Ok([jump, unmap, stop].concat())
}

/// Bytes of the instructions that copy the rest and go there.
const JUMP_LENGTH: u32 = 3 * 5 + 2 + 5 + 2;
