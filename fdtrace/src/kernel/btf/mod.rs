//! Offsets and prototypes from the running kernel's BTF.

mod functions;
mod names;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    os::fd::FromRawFd as _,
    path::Path,
};

use btf_rs::{Backend, Btf, BtfType, FuncProto, Struct, Type};
use memmap2::{Mmap, MmapOptions};
use names::{Kind, Names};

use super::error::{Error, Result};
pub(super) use functions::Functions;

/// Where the kernel shows its own BTF.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's types.
pub(super) struct KernelTypes {
    btf: Btf,
    /// `None` where the layout is not known: then the library looks through all types for each name.
    names: Option<Names>,
    structs: HashMap<String, Struct>,
}

impl KernelTypes {
    /// Opens the kernel's BTF, mapped: reading all of it into structures would take a second on a slow machine, and 40 MB.
    pub(super) fn open() -> Result<Self> {
        let path = Path::new(VMLINUX);
        let bytes = Bytes::of(path).map_err(|source| Error::NoBtf { path: path.into(), source })?;
        let btf = Btf::from_file_with_backend(path, Backend::Mmap)
            .or_else(|_| from_copy(&bytes))
            .map_err(|error| Error::Btf(error.to_string()))?;
        Ok(Self::new(btf, Names::read(&bytes)))
    }

    fn new(btf: Btf, names: Option<Names>) -> Self {
        Self { btf, names, structs: HashMap::new() }
    }

    /// A field, such as `("file", "f_path.dentry")` or `("signal_struct", "rlim[7].rlim_cur")`, through anonymous members.
    pub(super) fn field(&mut self, structure: &str, path: &str) -> Option<Field> {
        let mut current = Type::Struct(self.structure(structure)?);
        let mut bits = 0;
        for part in path.split('.') {
            let (name, index) = indexed(part)?;
            let (offset, member) = self.member(&self.as_struct(current)?, name)?;
            bits += offset;
            current = member;
            if let Some(index) = index {
                let Type::Array(array) = self.stripped(current)? else { return None };
                current = self.btf.resolve_chained_type(&array).ok()?;
                bits += index * 8 * u32::try_from(self.size_of(&current)?).ok()?;
            }
        }
        // Nobody reads bit fields.
        Some(Field { offset: bits / 8, bytes: self.size_of(&current)? }).filter(|_| bits.is_multiple_of(8))
    }

    /// Its byte offset.
    pub(super) fn offset(&mut self, structure: &str, path: &str) -> Option<u32> {
        self.field(structure, path).map(|field| field.offset)
    }

    /// The size of a structure in bytes.
    pub(super) fn size(&mut self, structure: &str) -> Option<u64> {
        self.structure(structure).map(|found| found.size() as u64)
    }

    /// How many pointers lie between a field and what they point to at last.
    pub(super) fn pointer_depth(&mut self, structure: &str, field: &str) -> Option<u32> {
        let (_, mut current) = self.structure(structure).and_then(|found| self.member(&found, field))?;
        let mut depth = 0;
        while let Type::Ptr(pointer) = current {
            depth += 1;
            current = self.btf.resolve_chained_type(&pointer).ok()?;
        }
        Some(depth)
    }

    /// The number of a function's type.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.find(Kind::Function, name).map(|(id, _)| id)
    }

    /// The types of a tracepoint's arguments, as far as they matter: the name of the structure that a pointer points
    /// to, or an empty string. The `void *__data` in front is not among them.
    pub(super) fn tracepoint(&self, name: &str) -> Option<Vec<String>> {
        let Type::Typedef(typedef) = self.find(Kind::Typedef, &format!("btf_trace_{name}"))?.1 else {
            return None;
        };
        let prototype = self.prototype(&typedef)?;
        Some(prototype.parameters.iter().skip(1).map(|parameter| self.pointee(parameter)).collect())
    }

    /// The names of a function's arguments, in their order.
    pub(super) fn arguments(&self, function: &str) -> Option<Vec<String>> {
        let Type::Func(function) = self.find(Kind::Function, function)?.1 else { return None };
        let Type::FuncProto(prototype) = self.btf.resolve_chained_type(&function).ok()? else { return None };
        prototype.parameters.iter().map(|parameter| self.btf.resolve_name(parameter).ok()).collect()
    }

    /// The first type of this kind and name, and its number.
    fn find(&self, kind: Kind, name: &str) -> Option<(u32, Type)> {
        let candidates = match &self.names {
            Some(names) => names.find(kind, name).into_iter().collect(),
            None => self.btf.resolve_ids_by_name(name).ok()?,
        };
        candidates.into_iter().find_map(|id| {
            let found = self.btf.resolve_type_by_id(id).ok()?;
            self.is(&found, kind, name).then_some((id, found))
        })
    }

    fn is(&self, found: &Type, kind: Kind, name: &str) -> bool {
        let named = |found: &dyn BtfType| self.btf.resolve_name(found).is_ok_and(|found| found == name);
        match (kind, found) {
            (Kind::Structure, Type::Struct(found)) => named(found),
            (Kind::Typedef, Type::Typedef(found)) => named(found),
            (Kind::Function, Type::Func(found)) => named(found),
            _ => false,
        }
    }

    fn prototype(&self, typedef: &dyn BtfType) -> Option<FuncProto> {
        let Type::Ptr(pointer) = self.btf.resolve_chained_type(typedef).ok()? else { return None };
        match self.btf.resolve_chained_type(&pointer).ok()? {
            Type::FuncProto(prototype) => Some(prototype),
            _ => None,
        }
    }

    fn pointee(&self, parameter: &dyn BtfType) -> String {
        self.btf
            .chained_type_iter(parameter)
            .find_map(|step| match step {
                Type::Struct(found) => self.btf.resolve_name(&found).ok(),
                _ => None,
            })
            .unwrap_or_default()
    }

    fn structure(&mut self, name: &str) -> Option<Struct> {
        if let Some(known) = self.structs.get(name) {
            return Some(known.clone());
        }
        let Type::Struct(found) = self.find(Kind::Structure, name)?.1 else { return None };
        self.structs.insert(name.to_owned(), found.clone());
        Some(found)
    }

    /// Bit offset and type of a member, looked for in anonymous members as well.
    fn member(&self, structure: &Struct, name: &str) -> Option<(u32, Type)> {
        structure.members.iter().find_map(|member| {
            let member_name = self.btf.resolve_name(member).unwrap_or_default();
            if !member_name.is_empty() && member_name != name {
                return None;
            }
            let field = self.btf.resolve_chained_type(member).ok()?;
            if member_name == name {
                return Some((member.bit_offset(), field));
            }
            let (offset, found) = self.member(&self.as_struct(field)?, name)?;
            Some((member.bit_offset() + offset, found))
        })
    }

    fn as_struct(&self, field: Type) -> Option<Struct> {
        match self.stripped(field)? {
            Type::Struct(found) | Type::Union(found) => Some(found),
            _ => None,
        }
    }

    /// Strips qualifiers and typedefs.
    fn stripped(&self, mut field: Type) -> Option<Type> {
        while let Some(inner) = name_of_another(&field) {
            field = self.btf.resolve_chained_type(inner).ok()?;
        }
        Some(field)
    }

    fn size_of(&self, field: &Type) -> Option<usize> {
        Some(match self.stripped(field.clone())? {
            Type::Int(found) => found.size(),
            Type::Float(found) => found.size(),
            Type::Enum(found) => found.size(),
            Type::Enum64(found) => found.size(),
            Type::Struct(found) | Type::Union(found) => found.size(),
            Type::Ptr(_) => POINTER_BYTES,
            Type::Array(found) => found.len() * self.size_of(&self.btf.resolve_chained_type(&found).ok()?)?,
            _ => return None,
        })
    }
}

/// A field as BTF has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) offset: u32,
    pub(super) bytes: usize,
}

/// The kernels that can be traced have 64 bits.
const POINTER_BYTES: usize = 8;

/// What a type is but another name or a qualifier of.
fn name_of_another(field: &Type) -> Option<&dyn BtfType> {
    match field {
        Type::Typedef(named) => Some(named),
        Type::Const(inner) | Type::Volatile(inner) | Type::Restrict(inner) => Some(inner),
        Type::TypeTag(inner) => Some(inner),
        _ => None,
    }
}

/// `rlim[7]` is an element of an array.
fn indexed(part: &str) -> Option<(&str, Option<u32>)> {
    match part.split_once('[') {
        Some((name, index)) => Some((name, Some(index.strip_suffix(']')?.parse().ok()?))),
        None => Some((part, None)),
    }
}

/// The kernel's BTF, mapped where it lets us, else read.
enum Bytes {
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl Bytes {
    fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the kernel does not change its BTF while it runs.
        match unsafe { MmapOptions::new().map_copy_read_only(&file) } {
            Ok(map) => Ok(Self::Mapped(map)),
            Err(_) => std::fs::read(path).map(Self::Read),
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}

/// Kernels before 6.16 do not let their BTF be mapped, so a copy in memory is mapped in its stead.
fn from_copy(bytes: &[u8]) -> std::result::Result<Btf, Box<dyn std::error::Error>> {
    // SAFETY: a name that ends with a zero.
    let descriptor = unsafe { libc::memfd_create(c"btf".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let mut copy = unsafe { File::from_raw_fd(descriptor) };
    copy.write_all(bytes)?;
    // The mapping keeps the memory when the descriptor is closed.
    Ok(Btf::from_file_with_backend(format!("/proc/self/fd/{descriptor}"), Backend::Mmap)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_kernel() {
        let mut types = KernelTypes::open().expect("the build machine's kernel has BTF");
        assert!(types.offset("file", "f_mode").is_some());
        assert!(types.offset("file", "f_path.dentry").is_some());
        let named = types.offset("sock", "__sk_common.skc_family");
        assert_eq!(named, Some(16), "skc_family follows two pairs of addresses and ports on every kernel");
        assert_eq!(types.offset("file", "no_such_field"), None);
        assert_eq!(types.field("file", "f_mode").map(|field| field.bytes), Some(4));
        assert_eq!(types.field("inode", "i_mode").map(|field| field.bytes), Some(2));
        assert_eq!(types.field("task_struct", "comm").map(|field| field.bytes), Some(16));
        let limits = types.offset("signal_struct", "rlim").expect("a field of every kernel");
        let limit = Field { offset: limits + 7 * 16 + 8, bytes: 8 };
        assert_eq!(types.field("signal_struct", "rlim[7].rlim_max"), Some(limit));
        assert_eq!(types.field("signal_struct", "rlim[x]"), None);
        assert_eq!(types.field("file", "f_mode[0]"), None, "no array");
        let exec = types.tracepoint("sched_process_exec").expect("a tracepoint of every kernel");
        assert_eq!(exec, ["task_struct", "", "linux_binprm"]);
        assert_eq!(types.arguments("security_file_free"), Some(vec!["file".to_owned()]));
        assert_eq!(types.arguments("no_such_function"), None);
    }

    #[test]
    fn a_copy_without_its_names_says_the_same() {
        let btf = from_copy(&std::fs::read(VMLINUX).expect("BTF")).expect("a copy in memory");
        let mut types = KernelTypes::new(btf, None);
        assert_eq!(types.offset("sock", "__sk_common.skc_family"), Some(16));
    }
}
