//! Parts of the library that are timed on their own, without a kernel: `cargo bench --bench library`, or by name
//! `cargo xtask bench fold`. What traces is in the bench `hooks`.
#![expect(clippy::disallowed_methods, reason = "a bench makes the files that it reads")]

mod chance;
mod fold;
mod memory;
mod notes;
mod symbols;
mod trace;

fn main() {
    divan::main();
    notes::print();
}
