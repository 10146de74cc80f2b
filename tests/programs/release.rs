//! A program in Rust, as `cargo build --release` makes it.

use std::{fs::File, hint::black_box, io::Read, io::Write, mem::forget};

trait Store {
    fn fetch(&self, path: &str) -> bool;
}

struct Disk;

impl Store for Disk {
    #[inline(never)]
    fn fetch(&self, path: &str) -> bool {
        black_box(open_all(path)) // mark: fetch
    }
}

#[inline(never)]
fn open_all<P: AsRef<std::path::Path>>(path: P) -> bool {
    let opened = open_one(path); // mark: all
    black_box(opened)
}

#[inline(always)]
fn open_one<P: AsRef<std::path::Path>>(path: P) -> bool {
    File::open(path).map(forget).is_ok() // mark: open
}

/// Waits for a line, or for the end of the input.
fn wait() {
    let mut byte = [0];
    while std::io::stdin().read(&mut byte).unwrap() == 1 && byte != *b"\n" {}
}

fn say(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn main() {
    let store: Box<dyn Store> = black_box(Box::new(Disk));
    say("ready\n");
    wait();
    for _ in 0..5 {
        assert!(store.fetch("/dev/null")); // mark: main
    }
    say("leaked\n");
    wait();
}
