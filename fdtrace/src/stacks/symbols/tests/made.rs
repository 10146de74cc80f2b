//! Programs that are made for a test, where there is a compiler.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use object::{
    NativeEndian, Object as _, ObjectSection as _, ObjectSymbol as _, elf::FileHeader64, read::elf::ElfFile,
};

use super::{
    super::{FileId, Module, module::hexadecimal},
    reader,
};

/// A folder for one test, which goes with it.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("fdtrace-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path.canonicalize().expect("its path"))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// Compiles a program, if there is a compiler.
    pub(super) fn program(&self, name: &str, source: &str, options: &[&str]) -> Option<PathBuf> {
        let suffix = if source.starts_with(".text") { "s" } else { "c" };
        let source = self.write(&format!("{name}.{suffix}"), source);
        let path = self.0.join(name);
        run(Command::new("cc").args(options).arg("-o").args([&path, &source])).then_some(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether it could be run and succeeded.
pub(super) fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

/// A file as one that some process has mapped.
pub(super) fn module(path: &Path) -> Module {
    let file = fs::File::open(path).expect("the file");
    let metadata = file.metadata().expect("its metadata");
    let build_id = reader().identify(&file, false).and_then(|identity| identity.build_id);
    Module {
        path: path.into(),
        build_id: build_id.as_deref().map(hexadecimal).map(Into::into),
        file: Some(FileId { device: metadata.dev(), inode: metadata.ino() }),
        reach: None,
    }
}

/// Where a function begins in its file.
pub(super) fn offset(path: &Path, function: &str) -> u64 {
    let bytes = fs::read(path).expect("the file");
    let elf = ElfFile::<FileHeader64<NativeEndian>>::parse(bytes.as_slice()).expect("an ELF file");
    let symbol = elf.symbol_by_name(function).expect("the symbol");
    let section = elf.section_by_index(symbol.section_index().expect("a section")).expect("the section");
    symbol.address() - section.address() + section.file_range().expect("its range").0
}

/// Where a section begins in its file.
pub(super) fn section(path: &Path, name: &str) -> usize {
    let bytes = fs::read(path).expect("the file");
    let elf = ElfFile::<FileHeader64<NativeEndian>>::parse(bytes.as_slice()).expect("an ELF file");
    let section = elf.section_by_name(name).expect("the section");
    usize::try_from(section.file_range().expect("its range").0).expect("an offset")
}
