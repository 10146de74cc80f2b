//! Debug information in files of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    super::{Module, debug_file::find_below, module::hexadecimal},
    made::{Folder, module, offset, run},
    names, reader,
};

const SOURCE: &str = "static inline __attribute__((always_inline)) int inner(int a) { __asm__ volatile(\"nop; nop; nop\"); return a * 3; }\n\
                      __attribute__((noinline)) static int outer(int a) { return inner(a) + 1; }\n\
                      int main(int count, char **words) { (void)words; return outer(count); }\n";

/// A program without debug information, the file that has it, and where a function is.
struct Split {
    program: PathBuf,
    debug: PathBuf,
    outer: u64,
}

fn split(folder: &Folder, options: &[&str], name: &str) -> Option<Split> {
    let program = folder.program("program", SOURCE, &[&["-g", "-O1"], options].concat())?;
    let outer = offset(&program, "outer");
    let debug = folder.0.join(name);
    let keep = Command::new("objcopy").arg("--only-keep-debug").args([&program, &debug]).status();
    keep.ok().filter(std::process::ExitStatus::success)?;
    assert!(run(Command::new("objcopy").arg("--strip-all").arg(&program)));
    let mut link = Command::new("objcopy");
    assert!(run(link.current_dir(&folder.0).arg(format!("--add-gnu-debuglink={name}")).arg(&program)));
    Some(Split { program, debug, outer })
}

fn functions(module: &Module, offset: u64) -> Vec<String> {
    let frames = names().frames(module, offset);
    frames.iter().filter_map(|frame| frame.symbol.clone()).collect()
}

#[test]
fn beside_the_program() {
    let folder = Folder::new("beside");
    let Some(split) = split(&folder, &[], "program.debug") else { return };
    let module = module(&split.program);
    let frames = names().frames_of_all(&module, &(split.outer..split.outer + 12).collect::<Vec<_>>());
    let [inlined, itself] =
        frames.iter().find(|frames| frames.len() == 2).map(|found| &found[..]).expect("inlined")
    else {
        panic!("{frames:?}")
    };
    assert_eq!((inlined.symbol.as_deref(), inlined.inlined), (Some("inner"), true));
    assert_eq!((itself.symbol.as_deref(), itself.line), (Some("outer"), Some(2)));
    fs::create_dir(folder.0.join(".debug")).expect("a folder");
    fs::rename(&split.debug, folder.0.join(".debug/program.debug")).expect("moved");
    assert!(functions(&module, split.outer).contains(&"outer".to_owned()));
    fs::remove_dir_all(folder.0.join(".debug")).expect("removed");
    assert!(functions(&module, split.outer).is_empty());
}

#[test]
fn without_a_build_id_the_checksum_decides() {
    let folder = Folder::new("checksum");
    let Some(split) = split(&folder, &["-Wl,--build-id=none"], "program.debug") else { return };
    let module = module(&split.program);
    assert_eq!(module.build_id, None);
    assert!(functions(&module, split.outer).contains(&"outer".to_owned()));
    let mut bytes = fs::read(&split.debug).expect("the debug file");
    bytes.push(0);
    fs::write(&split.debug, bytes).expect("changed");
    assert!(functions(&module, split.outer).is_empty());
}

#[test]
fn by_build_id_below_a_root() {
    let folder = Folder::new("root");
    let Some(split) = split(&folder, &["-Wl,--build-id=sha1"], "elsewhere.debug") else { return };
    let file = File::open(&split.program).expect("the program");
    let mut reader = reader();
    let identity = reader.identify(&file, false).expect("an ELF file");
    let build_id = hexadecimal(identity.build_id.as_deref().expect("a build-id"));
    let place = folder.0.join(format!("root/usr/lib/debug/.build-id/{}", &build_id[..2]));
    fs::create_dir_all(&place).expect("a folder");
    fs::rename(&split.debug, place.join(format!("{}.debug", &build_id[2..]))).expect("moved");
    let roots = [folder.0.join("nothing"), folder.0.join("root")];
    let module = module(&split.program);
    assert!(find_below(&roots, &module, &identity, &mut reader).is_some());
    assert!(find_below(&roots[..1], &module, &identity, &mut reader).is_none());
    let mut other = identity;
    other.build_id = Some(vec![7; 20]);
    assert!(find_below(&roots, &module, &other, &mut reader).is_none());
}

#[test]
fn nothing_but_a_regular_file_is_opened() {
    let folder = Folder::new("fifo");
    let Some(split) = split(&folder, &[], "program.debug") else { return };
    fs::remove_file(&split.debug).expect("removed");
    assert!(run(Command::new("mkfifo").arg(&split.debug)));
    assert!(functions(&module(&split.program), split.outer).is_empty());
}

#[test]
fn a_link_leads_to_no_other_folder() {
    let folder = Folder::new("link");
    let Some(split) = split(&folder, &[], "program.debug") else { return };
    let file = File::open(&split.program).expect("the program");
    let mut reader = reader();
    let mut identity = reader.identify(&file, false).expect("an ELF file");
    let sum = identity.debug_link.clone().expect("a link").1;
    let below = Module { path: folder.0.join("below/program").into(), ..module(&split.program) };
    for name in ["../program.debug", "..", ".", "", "/program.debug"] {
        identity.debug_link = Some((name.into(), sum));
        let found = find_below(&[Path::new("/").to_owned()], &below, &identity, &mut reader);
        assert!(found.is_none(), "{name}");
    }
}
