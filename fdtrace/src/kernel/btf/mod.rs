//! Offsets and prototypes from the running kernel's BTF.

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

    /// Byte offset of a field, such as `("file", "f_path.dentry")`, through anonymous members.
    pub(super) fn offset(&mut self, structure: &str, path: &str) -> Option<u32> {
        let mut current = self.structure(structure)?;
        let mut bits = 0;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let (offset, field) = self.member(&current, name)?;
            bits += offset;
            if names.peek().is_some() {
                current = self.as_struct(field)?;
            }
        }
        Some(bits / 8)
    }

    /// The offset, or the sentence that it is missing.
    pub(super) fn require(&mut self, structure: &str, path: &str) -> Result<u32> {
        self.offset(structure, path).ok_or_else(|| Error::MissingField(format!("{structure}.{path}")))
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
        for member in &structure.members {
            let field = self.btf.resolve_chained_type(member).ok()?;
            let member_name = self.btf.resolve_name(member).unwrap_or_default();
            if member_name == name {
                return Some((member.bit_offset(), field));
            }
            if member_name.is_empty()
                && let Some(inner) = self.as_struct(field)
                && let Some((offset, found)) = self.member(&inner, name)
            {
                return Some((member.bit_offset() + offset, found));
            }
        }
        None
    }

    /// Strips qualifiers and typedefs.
    fn as_struct(&self, mut field: Type) -> Option<Struct> {
        loop {
            field = match field {
                Type::Struct(found) | Type::Union(found) => return Some(found),
                Type::Typedef(named) => self.btf.resolve_chained_type(&named).ok()?,
                Type::Const(inner) | Type::Volatile(inner) => self.btf.resolve_chained_type(&inner).ok()?,
                _ => return None,
            };
        }
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

/// The same BTF for aya, which needs its own reading of it to name attach targets.
pub(super) fn for_loader() -> Result<aya::Btf> {
    aya::Btf::from_sys_fs()
        .map_err(|error| Error::NoBtf { path: VMLINUX.into(), source: io::Error::other(error.to_string()) })
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
