//! The pages of reference are made from what they describe: the options from the command line, the JSON from the model.
//! `FDTRACE_WRITE_DOCS=1 cargo test -p fdtrace --test reference` writes them anew.
#![expect(clippy::disallowed_methods, reason = "a page of this tree is written")]

mod json;
mod options;

use std::{env, fs, path::Path};

/// Compares a page with what is in the tree, or writes it.
fn settle(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if env::var_os("FDTRACE_WRITE_DOCS").is_some() {
        fs::write(&path, page).expect("the page is written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differing = found.lines().zip(page.lines()).find(|(found, made)| found != made);
    assert!(found == page, "docs/{name} is not of this tree ({differing:?}): FDTRACE_WRITE_DOCS=1 writes it");
}

#[test]
fn options() {
    settle("options.md", &options::page());
}

#[test]
fn json() {
    settle("json.md", &json::page());
}
