//! The same of PHP.

use super::{
    interpreters::{Interpreter, numbered, phps},
    traceback::compare,
};
use anyhow::Result;
use fdtrace_tests::harness::turn;

const CASES: &str = include_str!("../../../../fdtrace/src/stacks/scripts/cases.php");

#[test]
fn stacks_of_php_are_its_own() -> Result<()> {
    let _turn = turn();
    // Debian's 7 has in other packages what the script needs.
    for php in Interpreter::all(phps(), numbered("php", 8, 0..=5)) {
        compare("PHP", &php, "cases.php", CASES, 50)?;
    }
    Ok(())
}
