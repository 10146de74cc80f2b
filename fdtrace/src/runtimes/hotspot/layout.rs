//! Where a build has what the kernel side reads, by its own tables. Where releases differ, one of several names is there.

use fdtrace_common::{
    hotspot::{ENTRY_WRAPPER, Hotspot, anchor, heap, interpreted},
    scripts::{ABSENT, kind},
};

use super::{FORMAT, structs::Structs};

/// From this release on, compressed numbers have no zeros in them.
const WITHOUT_ZEROS: u64 = 20;

/// Since methods have the flag that stack traces leave them out among what does not change, the tables do not have it: it comes so
/// many bits behind the one that there are default annotations (`constMethodFlags.hpp`).
const HIDDEN_BEHIND: u32 = 2;

/// What is 8 bytes long in frames, below their frame pointers.
const WORD: u64 = 8;

/// Names of what is 0 or has to be as in the kernel side's constants.
const FIXED: [(&str, u64); 9] = [
    ("VirtualSpace._low", heap::LOW as u64),
    ("VirtualSpace._high", heap::HIGH as u64),
    ("PcDesc._pc_offset", 0),
    ("PcDesc._scope_decode_offset", 4),
    ("PcDesc", 16),
    ("JavaFrameAnchor._last_Java_sp", anchor::STACK as u64),
    ("JavaFrameAnchor._last_Java_pc", anchor::INSTRUCTION as u64),
    ("JavaFrameAnchor._last_Java_fp", anchor::FRAME as u64),
    ("frame::interpreter_frame_sender_sp_offset", (interpreted::SENDER / WORD).wrapping_neg()),
];
const WRAPPER: (&str, u64) =
    ("frame::entry_frame_call_wrapper_offset", (ENTRY_WRAPPER / WORD).wrapping_neg());

/// The version.
const MAJOR: &str = "Abstract_VM_Version._vm_major_version";

/// Whether the kernel side needs it, or somebody wants to know it.
pub(super) fn is_wanted(name: &str) -> bool {
    const TYPES: [&str; 19] = [
        "Abstract_VM_Version",
        "CodeBlob",
        "CodeCache",
        "CodeHeap",
        "CompiledMethod",
        "ConstMethod",
        "ConstantPool",
        "GrowableArray<int>",
        "HeapBlock",
        "InstanceKlass",
        "JavaCallWrapper",
        "JavaFrameAnchor",
        "JavaThread",
        "Klass",
        "Method",
        "OSThread",
        "PcDesc",
        "Symbol",
        "Thread",
    ];
    let of_type = name.split_once('.').map_or(name, |(of_type, _)| of_type);
    TYPES.contains(&of_type)
        || matches!(of_type, "nmethod" | "StubRoutines" | "VirtualSpace")
        || name.starts_with("ConstMethodFlags::")
        || name.starts_with("ConstMethod::_has")
        || name == "Method::_hidden"
        || name.starts_with("frame::")
}

/// Where it is; `None` for builds that have things elsewhere.
pub(super) fn layout(structs: &Structs, major: u64) -> Option<Hotspot> {
    let has = |(name, value): &(&str, u64)| structs.get(name) == Some(*value);
    if !FIXED.iter().chain([&WRAPPER]).all(has) {
        return None;
    }
    let number = |name: &str| structs.get(name).and_then(|value| u32::try_from(value).ok());
    let any = |names: &[&str]| names.iter().find_map(|name| number(name));
    let immutable = number("nmethod._immutable_data");
    let mutable = number("CodeBlob._mutable_data");
    // 23 and 24 have one without the other.
    if immutable.is_some() != mutable.is_some() {
        return None;
    }
    let flag = |name: &str| {
        any(&[&format!("ConstMethodFlags::_misc_has_{name}"), &format!("ConstMethod::_has_{name}")])
    };
    let flags_of_method = number("Method::_hidden");
    let pointers = ["method_annotations", "parameter_annotations", "default_annotations", "type_annotations"];
    Some(Hotspot {
        code_delta: 0,
        heaps: structs.get("CodeCache._heaps")?,
        entry_return: structs.get("StubRoutines._call_stub_return_address")?,
        array_data: number("GrowableArray<int>._data")?,
        heap_memory: number("CodeHeap._memory")?,
        heap_map: number("CodeHeap._segmap")?,
        heap_shift: number("CodeHeap._log2_segment_size")?,
        block_header: number("HeapBlock")?,
        blob_name: number("CodeBlob._name")?,
        hidden_at: if flags_of_method.is_some() { number("Method._flags")? } else { ABSENT },
        frame_words: number("CodeBlob._frame_size")?,
        code: any(&["CodeBlob._code_offset", "CodeBlob._code_begin"])?,
        method: any(&["nmethod._method", "CompiledMethod._method"])?,
        scopes: any(&["nmethod._scopes_data_offset", "CompiledMethod._scopes_data_begin"])?,
        table: number("nmethod._scopes_pcs_offset")?,
        table_end: match immutable {
            Some(_) => number("nmethod._scopes_data_offset")?,
            None => number("nmethod._dependencies_offset")?,
        },
        metadata: match mutable {
            Some(_) => ABSENT,
            None => number("nmethod._metadata_offset")?,
        },
        immutable: immutable.unwrap_or(ABSENT),
        mutable: mutable.unwrap_or(ABSENT),
        relocation_bytes: match mutable {
            Some(_) => number("CodeBlob._relocation_size")?,
            None => ABSENT,
        },
        deoptimized: any(&[
            "nmethod._deopt_handler_entry_offset",
            "nmethod._deopt_handler_offset",
            "CompiledMethod._deopt_handler_begin",
        ])?,
        deoptimized_handle: any(&[
            "nmethod._deopt_mh_handler_offset",
            "CompiledMethod._deopt_mh_handler_begin",
        ])
        .unwrap_or(ABSENT),
        original: number("nmethod._orig_pc_offset")?,
        compilation: number("nmethod._compile_id")?,
        constant: number("Method._constMethod")?,
        constants: number("ConstMethod._constants")?,
        words: number("ConstMethod._constMethod_size")?,
        flags: any(&["ConstMethod._flags._flags", "ConstMethod._flags"])?,
        code_bytes: number("ConstMethod._code_size")?,
        name: number("ConstMethod._name_index")?,
        format: FORMAT + excluded(major),
        kind: kind::HOTSPOT,
        bytecode: number("ConstMethod")?,
        has_lines: flag("linenumber_table")?,
        has_pointers: pointers.into_iter().filter_map(flag).fold(0, |all, one| all | one),
        holder: number("ConstantPool._pool_holder")?,
        first_constant: number("ConstantPool")?,
        source: number("ConstantPool._source_file_name_index").unwrap_or(ABSENT),
        holder_source: any(&[
            "ConstantPool._source_file_name_index",
            "InstanceKlass._source_file_name_index",
        ])?,
        class_name: number("Klass._name")?,
        symbol_length: number("Symbol._length")?,
        symbol: number("Symbol._body")?,
        hidden: flags_of_method.or_else(|| flag("default_annotations").map(|flag| flag << HIDDEN_BEHIND))?,
        system_thread: any(&["JavaThread._osthread", "Thread._osthread"])?,
        pthread: number("OSThread._pthread_id")?,
        anchor: number("JavaThread._anchor")?,
        entry_anchor: number("JavaCallWrapper._anchor")?,
    })
}

fn excluded(major: u64) -> u32 {
    u32::from(major >= WITHOUT_ZEROS)
}

/// The address of its version's first number; the others are of the same kind.
pub(super) fn version(structs: &Structs) -> Option<[u64; 3]> {
    let of = |name: &str| structs.get(name);
    Some([
        of(MAJOR)?,
        of("Abstract_VM_Version._vm_minor_version")?,
        of("Abstract_VM_Version._vm_security_version")?,
    ])
}
