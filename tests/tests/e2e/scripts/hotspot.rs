//! The same of Java.

use super::{
    hostile::{checked, lost_stacks},
    hunt::{Hunted, hunt},
    interpreters::{Interpreter, java_names, javas},
    traceback::{Subject, compare_run},
};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Scratch, say, turn};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/Cases.java");
/// The oldest that is read.
const RELEASE: &str = "11";

/// How it runs code, and by which options.
type Way = (&'static str, &'static [&'static str]);

/// How it makes code.
const WAYS: [Way; 5] = [
    ("as it likes", &[]),
    ("interpreted", &["-Xint"]),
    ("C1", &["-XX:TieredStopAtLevel=1"]),
    ("interpreted, C2", &["-XX:-TieredCompilation"]),
    ("compiled before it runs", &["-Xcomp"]),
];
/// What moves its objects, and how it points to them.
const MEMORY: [Way; 6] = [
    ("Serial collector", &["-XX:+UseSerialGC"]),
    ("Parallel collector", &["-XX:+UseParallelGC"]),
    ("Z collector", &["-XX:+UnlockExperimentalVMOptions", "-XX:+UseZGC"]),
    ("no compressed pointers", &["-XX:-UseCompressedOops"]),
    ("no class data sharing", &["-Xshare:off"]),
    ("frame pointers", &["-XX:+PreserveFramePointer"]),
];

/// Compiles a class into a folder; `None` where nobody can.
fn compile(folder: &Path, class: &str, source: &str) -> Result<Option<()>> {
    let mut compilers = javas().into_iter().map(|java| java.with_file_name("javac"));
    let Some(compiler) = compilers.rfind(|path| path.is_file()) else {
        say("no compiler of Java here");
        return Ok(None);
    };
    let path = folder.join(format!("{class}.java"));
    fs::write(&path, source)?;
    let mut command = Command::new(&compiler);
    command.args(["--release", RELEASE, "-Xlint:none", "-d"]).arg(folder).arg(path);
    let done = command.output().with_context(|| compiler.display().to_string())?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(Some(()))
}

/// Compares all stacks of the cases.
fn compare(java: &Interpreter, (code, options): Way) -> Result<()> {
    let scratch = Scratch::new()?;
    if compile(scratch.path(), "Cases", CASES)?.is_none() {
        return Ok(());
    }
    let run = java.run_with(&scratch, |folder| {
        let options = options.iter().map(OsString::from);
        let class = ["-cp".into(), folder.into(), "Cases".into(), folder.join("files").into()];
        options.chain(class).collect()
    })?;
    compare_run(&Subject { runtime: "HotSpot", program: java, code }, &scratch, &run, "Cases.", 48)
}

#[test]
fn stacks_of_java_are_its_own() -> Result<()> {
    let _turn = turn();
    for java in Interpreter::all(javas(), java_names()) {
        for way in WAYS {
            compare(&java, way)?;
        }
    }
    Ok(())
}

#[test]
fn stacks_of_java_are_its_own_whatever_moves_its_objects() -> Result<()> {
    let _turn = turn();
    for java in Interpreter::all(javas(), std::iter::empty()) {
        for way in MEMORY {
            compare(&java, way)?;
        }
    }
    Ok(())
}

/// A line that opens files while it is compiled, and again, and keeps one in a thousand of them.
const LOOP: &str = r#"
import java.io.FileInputStream;

public class Loop {
    static final Object[] kept = new Object[20];

    static FileInputStream open(String name) throws Exception {
        return new FileInputStream(name);
    }

    public static void main(String[] arguments) throws Exception {
        for (int round = 0; round < 20_000; round++) {
            FileInputStream file = open("/etc/passwd");
            if (round % 1000 == 999) {
                kept[round / 1000] = file;
            } else {
                file.close();
            }
        }
        Runtime.getRuntime().halt(0);
    }
}
"#;
/// Where, counted by hand.
const OPENS: u32 = 8;

#[test]
fn a_line_of_java_is_one_site_while_it_is_compiled() -> Result<()> {
    let _turn = turn();
    for java in javas() {
        let scratch = Scratch::new()?;
        if compile(scratch.path(), "Loop", LOOP)?.is_none() {
            return Ok(());
        }
        let mut run = Command::new(&java);
        run.arg("-cp").arg(scratch.path()).arg("Loop");
        let (_, document) = checked(&scratch, &run)?;
        let is_it = |site: &&serde_json::Value| {
            let frames = site["user_stack"].as_array();
            frames.into_iter().flatten().any(|frame| frame["symbol"] == "Loop.open" && frame["line"] == OPENS)
        };
        let sites: Vec<_> = document["sites"].as_array().into_iter().flatten().filter(is_it).collect();
        let counts: Vec<_> =
            sites.iter().map(|site| (site["allocated"].as_u64(), site["leaked"].as_u64())).collect();
        let lost = lost_stacks(&document);
        // What comes too fast for its tables to be read has no stack: it may be one of those that are kept, too.
        let is_it = |count: u64, all: u64| count <= all && count + lost >= all;
        let is_one = matches!(counts[..], [(Some(opened), Some(leaked))] if is_it(opened, 20_000) && is_it(leaked, 20));
        ensure!(is_one, "{}: {counts:?}, {lost} lost", java.display());
    }
    Ok(())
}

/// A service that keeps a file in one of its requests, and closes it in all others.
const SERVICE: Hunted = Hunted {
    file: "Main.java",
    source: r#"
import java.io.*;
import java.util.*;

public class Main {
    static final List<Object> kept = new ArrayList<>();

    static void loadConfig(String name) throws IOException {
        FileInputStream file = new FileInputStream(name);
        if (name.endsWith("hosts")) {
            kept.add(file);
        } else {
            file.close();
        }
    }

    public static void main(String[] arguments) throws IOException {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            for (int request = 0; request < Integer.parseInt(line); request++) {
                loadConfig("/etc/passwd");
                loadConfig("/etc/hosts");
            }
            System.out.println("done");
        }
        Runtime.getRuntime().halt(0);
    }
}
"#,
    function: "Main.loadConfig",
    line: 9,
    of_runtime: "JavaCalls::call_helper",
};

/// Those that run a source file at once.
fn kits() -> BTreeSet<PathBuf> {
    javas().into_iter().filter(|java| java.with_file_name("javac").is_file()).collect()
}

#[test]
fn a_leak_in_java_is_found() -> Result<()> {
    let _turn = turn();
    kits().iter().try_for_each(|java| hunt(java, &SERVICE))
}
