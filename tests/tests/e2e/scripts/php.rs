//! The same of PHP.

use super::traceback::compare;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{say, turn};
use std::{collections::BTreeSet, env, path::PathBuf};

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.php");

/// PHP as distributions install it; says so where there is none.
fn phps() -> BTreeSet<PathBuf> {
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let names =
        || (70..=85).map(|number| format!("php{}.{}", number / 10, number % 10)).chain(["php".to_owned()]);
    let all = folders.iter().flat_map(|folder| names().map(move |name| folder.join(name)));
    let found: BTreeSet<PathBuf> = all.filter_map(|path| path.canonicalize().ok()).collect();
    if found.is_empty() {
        say("no PHP here");
    }
    found
}

#[test]
fn stacks_of_php_are_its_own() -> Result<()> {
    let _turn = turn();
    for php in phps() {
        let (right, all) = compare(&php, "cases.php", CASES).with_context(|| php.display().to_string())?;
        say(&format!("{}: {right} of {all} stacks as the script has them", php.display()));
        ensure!(all >= 50, "{} stopped early", php.display());
    }
    Ok(())
}
