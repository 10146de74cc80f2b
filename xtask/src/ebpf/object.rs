//! What is kept of the linked object.

use anyhow::Result;
use object::{
    build::elf::{Builder, Section, SectionData},
    elf::SHT_STRTAB,
};

/// Removes the DWARF sections and their relocations.
///
/// The kernel and aya read BTF only. DWARF is nine tenths of the linked object, and it names Cargo's hashes, so that
/// the committed bytes would change with the version of Cargo.
pub(super) fn without_dwarf(linked: &[u8]) -> Result<Vec<u8>> {
    let mut object = Builder::read(linked)?;
    for section in &mut object.sections {
        section.delete = is_dwarf(section);
    }
    separate_section_names(&mut object);
    object.delete_orphans();
    let mut bytes = Vec::new();
    object.write(&mut bytes)?;
    Ok(bytes)
}

fn is_dwarf(section: &Section<'_>) -> bool {
    let name = section.name.to_string();
    name.starts_with(".debug_") || name.starts_with(".rel.debug_")
}

/// LLVM keeps the names of sections and of symbols in one table, and `object` writes two.
fn separate_section_names(object: &mut Builder<'_>) {
    for section in &mut object.sections {
        if matches!(section.data, SectionData::SectionString) && section.name.as_slice() == b".strtab" {
            section.data = SectionData::String;
        }
    }
    let names = object.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
}
