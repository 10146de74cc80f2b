//! The same of Ruby.

use super::traceback::compare;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{say, turn};
use std::{collections::BTreeSet, env, path::PathBuf};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.rb");

/// Ruby as distributions install it; says so where there is none.
pub(super) fn rubies() -> BTreeSet<PathBuf> {
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let names =
        || (26..=34).map(|number| format!("ruby{}.{}", number / 10, number % 10)).chain(["ruby".to_owned()]);
    let all = folders.iter().flat_map(|folder| names().map(move |name| folder.join(name)));
    let found: BTreeSet<PathBuf> = all.filter_map(|path| path.canonicalize().ok()).collect();
    if found.is_empty() {
        say("no Ruby here");
    }
    found
}

#[test]
fn stacks_of_ruby_are_its_own() -> Result<()> {
    let _turn = turn();
    for ruby in rubies() {
        let (right, all) = compare(&ruby, "cases.rb", CASES).with_context(|| ruby.display().to_string())?;
        say(&format!("{}: {right} of {all} stacks as the script has them", ruby.display()));
        ensure!(all >= 90, "{} stopped early", ruby.display());
    }
    Ok(())
}
