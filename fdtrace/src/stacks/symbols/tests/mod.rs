mod aliases;
mod broken;
mod debug_files;
mod made;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    files::{Files, MAX_FILES},
    module::hexadecimal,
    *,
};

fn readers() -> Readers {
    Readers::of_test()
}

fn reader() -> Reader {
    readers().reader()
}

fn names() -> CodeNames {
    CodeNames::new(&readers())
}

#[inline(always)]
fn inner(value: u64) -> u64 {
    std::hint::black_box(value) + 1
}

#[inline(never)]
fn outer(value: u64) -> u64 {
    inner(value)
}

/// The line of `/proc/self/maps` that has an address, and its fields.
fn mapping(address: u64) -> (Range<u64>, u64, PathBuf) {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let range = hex(start)..hex(end);
        let offset = hex(fields.nth(1)?);
        Some((range, offset, PathBuf::from(fields.nth(2)?)))
    };
    maps.lines().filter_map(line).find(|(range, ..)| range.contains(&address)).expect("a mapping")
}

/// Where a function of this test is.
fn place(address: u64) -> (Module, u64) {
    let (range, offset, path) = mapping(address);
    let in_file = address - range.start + offset;
    let file = fs::File::open(&path).expect("this test");
    let identity = reader().identify(&file, false).expect("an ELF file");
    let module = Module {
        path: path.into(),
        build_id: Some(hexadecimal(&identity.build_id.expect("a build-id")).into()),
        file: None,
        reach: Some(Reach { pid: std::process::id(), range }),
    };
    (module, in_file)
}

fn outer_place() -> (Module, u64) {
    place(outer as fn(u64) -> u64 as usize as u64)
}

/// Following the links of mappings is for the privileged.
fn may_follow(module: &Module) -> bool {
    module.reach.as_ref().is_some_and(|reach| fs::File::open(reach.map_file()).is_ok())
}

/// All frames of the function, whose first bytes may be its own.
fn walk(names: &mut CodeNames, module: &Module, start: u64) -> Vec<Frames> {
    names.frames_of_all(module, &(start..start + 48).collect::<Vec<_>>())
}

#[test]
fn inlined_functions_are_frames_with_lines() {
    assert_eq!(outer(1), 2);
    let (module, start) = outer_place();
    let all = walk(&mut names(), &module, start);
    let frames = all.iter().find(|frames| frames.len() > 1).expect("an inlined function");
    let [.., inlined, itself] = &frames[..] else { panic!("{frames:?}") };
    assert!(inlined.inlined && !itself.inlined, "{frames:?}");
    // Debug information of lines alone has no paths of modules.
    for (frame, name) in [(inlined, "inner"), (itself, "outer")] {
        assert!(frame.symbol.as_deref().is_some_and(|symbol| symbol.ends_with(name)), "{frame:?}");
        assert!(
            frame.file.as_deref().is_some_and(|file| file.ends_with("symbols/tests/mod.rs")),
            "{frame:?}"
        );
        assert!(frame.line.is_some() && frame.build_id.is_some(), "{frame:?}");
        assert_eq!(frame.module.as_deref(), module.path.to_str());
    }
    assert_ne!(inlined.line, itself.line);
}

#[test]
fn what_is_at_the_path_is_not_what_is_mapped() {
    let (module, start) = outer_place();
    let other = Module { build_id: Some("00".into()), ..module };
    let frames = names().frames(&other, start);
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].symbol.as_deref(), frames[0].offset), (None, start));
    assert_eq!(frames[0].build_id.as_deref(), Some("00"));
}

#[test]
fn the_mapping_leads_to_the_file_whatever_its_path_is() {
    let (module, start) = outer_place();
    let elsewhere = Module { path: Path::new("/nowhere/at all").into(), ..module.clone() };
    assert_eq!(names().frames(&elsewhere, start)[0].symbol.is_some(), may_follow(&module));
    let gone = Module { reach: None, ..elsewhere };
    assert!(names().frames(&gone, start)[0].symbol.is_none());
    let by_path = Module { reach: None, ..module };
    assert!(names().frames(&by_path, start)[0].symbol.is_some());
}

#[test]
fn without_a_build_id_the_inode_decides() {
    use std::os::unix::fs::MetadataExt as _;
    let (module, start) = outer_place();
    let metadata = fs::metadata(&module.path).expect("the test itself");
    let id = FileId { device: metadata.dev(), inode: metadata.ino() };
    let known = |file| {
        let module = Module { build_id: None, reach: None, file, ..module.clone() };
        names().frames(&module, start)[0].symbol.is_some()
    };
    assert!(known(Some(id)));
    assert!(!known(Some(FileId { inode: id.inode + 1, ..id })));
    assert!(!known(None), "a path alone proves nothing");
}

#[test]
fn the_vdso_and_nothing() {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let vdso = maps.lines().find(|line| line.ends_with("[vdso]")).expect("a vDSO");
    let start = u64::from_str_radix(vdso.split_once('-').expect("a range").0, 16).expect("an address");
    let inside: Vec<u64> = (start..start + 0x2000).step_by(16).collect();
    let frames = names().without_file(std::process::id(), &inside);
    let named = frames.iter().find(|frame| frame.symbol.is_some()).expect("a function of the vDSO");
    assert_eq!(named.module.as_deref(), Some("[vdso]"));
    let nothing = names().without_file(std::process::id(), &[8]);
    assert_eq!((nothing[0].symbol.as_deref(), nothing[0].offset), (None, 8));
}

#[test]
fn few_files_stay_open() {
    let (module, start) = outer_place();
    if !may_follow(&module) {
        return;
    }
    let (mut files, mut reader) = (Files::default(), reader());
    for number in 0..MAX_FILES + 3 {
        let path = PathBuf::from(format!("/another/{number}"));
        let module = Module { path: path.into(), build_id: None, file: None, reach: module.reach.clone() };
        let file = files.get(&module, &mut reader).expect("it is mapped");
        let names = reader.names(&file.files(), &[start], true).expect("they can be read");
        assert!(!names[0].is_empty());
    }
    assert_eq!(files.len(), MAX_FILES);
}
