//! The numbers that functions of the kernel have in its BTF, where aya can look them up.

use aya_obj::btf::{Btf, BtfType, Func, FuncLinkage};

use super::{KernelTypes, Kind};

/// Functions that programs are for, by their numbers.
pub(in crate::kernel) struct Functions(Vec<(u32, String)>);

impl Functions {
    /// Those of these names that the kernel has.
    pub(in crate::kernel) fn of(types: &KernelTypes, names: impl Iterator<Item = String>) -> Self {
        let numbered = names.filter_map(|name| Some((types.find(Kind::Function, &name)?.0, name)));
        let mut functions: Vec<(u32, String)> = numbered.collect();
        functions.sort();
        functions.dedup();
        Self(functions)
    }

    /// BTF with these functions at their places, and nothing at all others: aya needs no more of the kernel's types, which are more
    /// than a hundred thousand.
    pub(in crate::kernel) fn for_loader(&self) -> Btf {
        let mut btf = Btf::new();
        // The first type is there already.
        let mut next = 1;
        for (number, name) in &self.0 {
            while next < *number {
                next = btf.add_type(BtfType::Unknown) + 1;
            }
            let name = btf.add_string(name);
            next = btf.add_type(BtfType::Func(Func::new(name, 0, FuncLinkage::Global))) + 1;
        }
        btf
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::btf::BtfKind;

    use super::*;

    #[test]
    fn functions_have_the_numbers_that_the_kernel_has_for_them() {
        let types = KernelTypes::open().expect("the build machine's kernel has BTF");
        let names = ["vfs_open", "security_file_free", "no_such_function", "bpf_iter_task_file", "vfs_open"];
        let functions = Functions::of(&types, names.into_iter().map(str::to_owned));
        assert_eq!(functions.0.len(), 3, "{:?}", functions.0);
        let btf = functions.for_loader();
        for name in ["vfs_open", "security_file_free", "bpf_iter_task_file"] {
            assert_eq!(btf.id_by_type_name_kind(name, BtfKind::Func).ok(), types.function(name), "{name}");
        }
        assert!(btf.id_by_type_name_kind("no_such_function", BtfKind::Func).is_err());
    }
}
