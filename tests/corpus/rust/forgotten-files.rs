//! Files that are forgotten so that a borrow may live for ever. "fixed": they are dropped.

use std::{env, fs::File, hint::black_box, mem};

#[inline(never)]
fn open_source() -> File {
    black_box(File::open("/dev/null").unwrap()) // LEAK
}

fn main() {
    let fixed = env::args().any(|word| word == "fixed");
    for _ in 0..30 {
        let file = open_source();
        if fixed { drop(file) } else { mem::forget(file) }
    }
    println!("30 sources");
}
