//! Files that lie, change or end, and threads that do not come back.

use std::{env, fs, os::unix::fs::FileExt as _, path::Path, process::Command};

use super::{
    super::Module,
    made::{Folder, module, offset, run, section},
    names, outer_place,
};

fn function(path: &Path, offset: u64) -> Option<String> {
    names().frames(&module(path), offset)[0].symbol.clone()
}

#[test]
fn a_program_is_truncated_in_use() {
    let folder = Folder::new("truncated");
    let path = folder.0.join("program");
    fs::copy(env::current_exe().expect("this test"), &path).expect("a copy");
    let (_, start) = outer_place();
    let module = module(&path);
    let mut names = names();
    assert!(names.frames(&module, start)[0].symbol.is_some());
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(4096)).expect("shorter");
    // None of them is remembered.
    let other: Vec<u64> = (0..2000).map(|step| start + 1 + step * 16).collect();
    for frames in names.frames_of_all(&module, &other) {
        assert_eq!((frames.len(), frames[0].symbol.as_deref()), (1, None));
    }
}

#[test]
fn symbols_without_a_size() {
    let folder = Folder::new("sizeless");
    let source = ".text\n.globl main\n.type main, @function\nmain: ret\n.size main, . - main\n.globl bare\n\
                  .type bare, @function\nbare: .skip 9000, 0x90\nret\n.section .text.other, \"ax\"\n.skip 64, 0x90\n";
    let Some(path) = folder.program("program", source, &["-nostartfiles", "-Wl,-e,main"]) else { return };
    let bare = offset(&path, "bare");
    assert_eq!(function(&path, bare + 100).as_deref(), Some("bare"));
    assert_eq!(function(&path, bare + 5000), None);
}

#[test]
fn a_section_that_lies_about_its_size() {
    let folder = Folder::new("packed");
    let source = "int main(void) { return 0; }\n";
    for format in ["zlib", "zstd"] {
        let Some(path) = folder.program(format, source, &["-g", &format!("-gz={format}")]) else { continue };
        let main = offset(&path, "main");
        let line = |path| names().frames(&module(path), main)[0].line;
        assert_eq!(line(&path), Some(1), "{format}");
        let file = fs::File::options().write(true).open(&path).expect("the program");
        // The size is behind two numbers of four bytes.
        let size = section(&path, ".debug_info") as u64 + 8;
        for wrong in [u64::MAX, 1 << 40, 1 << 20, 1] {
            file.write_all_at(&wrong.to_ne_bytes(), size).expect("written");
            assert_eq!(line(&path), None, "{format} {wrong}");
            assert_eq!(function(&path, main).as_deref(), Some("main"), "{format} {wrong}");
        }
    }
}

#[test]
fn a_file_without_a_build_id_is_written_anew() {
    let folder = Folder::new("anew");
    let build = |name: &str| {
        let source = format!("int {name}(void) {{ return 1; }}\nint main(void) {{ return {name}(); }}\n");
        folder.program(name, &source, &["-Wl,--build-id=none"])
    };
    let (Some(first), Some(other)) = (build("first"), build("other")) else { return };
    let start = offset(&first, "first");
    assert_eq!(start, offset(&other, "other"));
    let module = module(&first);
    let mut names = names();
    assert_eq!(names.frames(&module, start)[0].symbol.as_deref(), Some("first"));
    let bytes = fs::read(&other).expect("the other one");
    let file = fs::File::options().write(true).open(&first).expect("the same inode");
    file.write_all_at(&bytes, 0).and_then(|()| file.set_len(bytes.len() as u64)).expect("written");
    assert_eq!(names.frames(&module, start)[0].symbol.as_deref(), Some("other"));
}

#[test]
fn a_perf_map_is_of_its_process() {
    let Ok(mut child) = Command::new("sleep").arg("60").spawn() else { return };
    let pid = child.id();
    let path = format!("/tmp/perf-{pid}.map");
    let named = || names().without_file(pid, &[0x1005])[0].symbol.clone();
    fs::write(&path, "1000 10 made\n").expect("a perf map");
    assert_eq!(named().as_deref(), Some("made"));
    // To give a file away is for the privileged.
    if run(Command::new("chown").args(["12345", &path])) {
        assert_eq!(named(), None);
    }
    let folder = Folder::new("perf");
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink(folder.write("map", "1000 10 made\n"), &path).expect("a link");
    assert_eq!(named(), None);
    fs::remove_file(&path).expect("removed");
    child.kill().and_then(|()| child.wait()).expect("it ends");
}

/// What is next of a sequence that is the same each time.
fn next(random: &mut u64) -> usize {
    *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    usize::try_from(*random >> 33).expect("31 bits")
}

/// A few bytes changed, and now and then the end cut off.
fn mutated(mut bytes: Vec<u8>, random: &mut u64) -> Vec<u8> {
    for _ in 0..=next(random) % 8 {
        let place = next(random) % bytes.len();
        bytes[place] = [0, 1, 0x7f, 0x80, 0xff, next(random).to_le_bytes()[0]][next(random) % 6];
    }
    if next(random).is_multiple_of(8) {
        bytes.truncate(next(random) % bytes.len());
    }
    bytes
}

#[test]
fn whatever_the_bytes_are() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds/symbols");
    let seeds =
        ["dwarf4", "dwarf5", "linked", "packed"].map(|name| fs::read(seeds.join(name)).expect("a seed"));
    let folder = Folder::new("mutated");
    let path = folder.0.join("program");
    // Where the code of the seeds is, and around it.
    let offsets: Vec<u64> = (0x100..0x140).step_by(3).chain([0, 0x600, u64::MAX]).collect();
    let (mut names, mut random, mut named) = (names(), 7, 0);
    for number in 0..2000 {
        // Another inode each time.
        let _ = fs::remove_file(&path);
        fs::write(&path, mutated(seeds[number % 4].clone(), &mut random)).expect("written");
        let module = Module { build_id: None, ..module(&path) };
        let frames = names.frames_of_all(&module, &offsets);
        assert!(frames.len() == offsets.len() && frames.iter().all(|frames| !frames.is_empty()));
        named += usize::from(frames.iter().any(|frames| frames[0].symbol.is_some()));
    }
    assert!(names.poor.len() < 100, "{} were too much", names.poor.len());
    assert!(named > 1000, "{named} had names nevertheless");
}

#[test]
fn a_function_whose_name_is_no_text_keeps_its_frame() {
    let folder = Folder::new("unreadable");
    const SOURCE: &str = ".text\n.globl main\n.type main, @function\nmain: call kXXp\nret\n.size main, .-main\n\
        .type kXXp, @function\nkXXp: nop\nnop\nret\n.size kXXp, .-kXXp\n";
    let Some(path) = folder.program("program", SOURCE, &["-g0"]) else { return };
    let place = offset(&path, "kXXp");
    let mut bytes = fs::read(&path).expect("the file");
    let name = bytes.windows(5).position(|part| part == b"kXXp\0").expect("its name");
    bytes[name + 1..name + 3].copy_from_slice(b"\xff\xfe");
    fs::write(&path, bytes).expect("another name");
    assert_eq!(function(&path, place).as_deref(), Some("k\u{fffd}\u{fffd}p"));
    assert_eq!(function(&path, offset(&path, "main")).as_deref(), Some("main"));
}
