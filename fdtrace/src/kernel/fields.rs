//! Where this kernel has the fields of [`fdtrace_common::fields`].

use std::collections::BTreeMap;

use fdtrace_common::fields::{Fields, Place, Presence, Row, TABLE};

use super::{
    btf::{Field, KernelTypes},
    error::{Error, Result},
    hooks::Kernel,
    tracer::Plain,
};

// SAFETY: `Fields` is `repr(C)`, made of integers of one size, and so has no padding.
unsafe impl aya::Pod for Plain<Fields> {}

/// The fields, and a sentence for each that is not read although this kernel should have it.
pub(super) struct Found {
    pub(super) fields: Fields,
    pub(super) remarks: Vec<String>,
}

/// Looks the whole table up.
///
/// # Errors
/// Without a field that nothing works without.
pub(super) fn find(types: &mut KernelTypes) -> Result<Found> {
    let mut places = [Place::ABSENT; TABLE.len()];
    let mut remarks = Vec::new();
    for (row, place) in TABLE.iter().zip(&mut places) {
        match (lookup(types, row).and_then(|(path, field)| checked(row, path, field)), row.presence) {
            (Ok(found), _) => *place = found,
            (Err(error), Presence::Required) => return Err(error),
            // It says itself why.
            (Err(Error::MissingField(_)), Presence::From(..) | Presence::Until(..) | Presence::Config(_)) => {
            }
            (Err(error), _) => remarks.push(error.to_string()),
        }
    }
    Ok(Found { fields: Fields::new(places), remarks })
}

/// The first of a row's paths that this kernel has.
fn lookup(types: &mut KernelTypes, row: &Row) -> Result<(&'static str, Field)> {
    row.paths
        .iter()
        .find_map(|path| Some((*path, types.field(row.structure, path)?)))
        .ok_or_else(|| Error::MissingField(format!("{}.{}", row.structure, row.paths[0])))
}

/// A field of another size is not read: it would be cut, or have its neighbours in it.
fn checked(row: &Row, path: &str, field: Field) -> Result<Place> {
    if row.size.fits(field.bytes) {
        return Ok(Place(field.offset));
    }
    Err(Error::StrangeField {
        field: format!("{}.{path}", row.structure),
        bytes: field.bytes,
        size: row.size,
    })
}

/// What a wish of the user's cannot be met without.
///
/// # Errors
/// With the first that this kernel does not have.
pub(super) fn require(needed: &[(Place, &str)]) -> Result<()> {
    match needed.iter().find(|(place, _)| !place.exists()) {
        Some((_, field)) => Err(Error::MissingField((*field).to_owned())),
        None => Ok(()),
    }
}

impl Kernel {
    /// Where the fields of kernel structures lie that the programs read, by name; those that the kernel does not have are
    /// left out.
    pub fn offsets(&mut self) -> BTreeMap<String, u32> {
        let found = |row: &Row| {
            let (path, field) = lookup(&mut self.types, row).ok()?;
            Some((format!("{}.{path}", row.structure), field.offset))
        };
        TABLE.iter().filter_map(found).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_what_each_has() {
        let mut types = KernelTypes::open().expect("the build machine's kernel has BTF");
        let found = find(&mut types).expect("all that is required");
        assert_eq!(found.remarks, [""; 0]);
        assert!(found.fields.file.f_mode.exists() && found.fields.pt_regs.syscall.exists());
    }

    #[test]
    fn a_field_of_another_size_is_not_read() {
        let row = TABLE.iter().find(|row| row.paths == ["i_nlink"]).expect("a row");
        let read = |offset, bytes| checked(row, "i_nlink", Field { offset, bytes });
        assert_eq!(read(72, 4).ok(), Some(Place(72)));
        let refused = read(72, 8).expect_err("another size").to_string();
        assert!(refused.contains("inode.i_nlink of this kernel has 8 bytes"), "{refused}");
    }
}
