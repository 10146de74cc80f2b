//! Code with several names.

use super::{
    made::{Folder, module, offset, run},
    names,
};

const SOURCE: &str = "__attribute__((noinline)) static int __libc_fetch(int a) { return a * 3; }\n\
                      int __fetch(int a) __attribute__((weak, alias(\"__libc_fetch\")));\n\
                      int fetch64(int a) __attribute__((weak, alias(\"__libc_fetch\")));\n\
                      int _fetch(int a) __attribute__((alias(\"__libc_fetch\")));\n\
                      int main(int count, char **words) { (void)words; return __libc_fetch(count); }\n";

/// A library without its static table, and the same with its debug file at hand, must not have different sites.
#[test]
fn the_name_that_programs_call_whatever_tables_are_left() {
    let folder = Folder::new("aliases");
    let Some(program) = folder.program("program", SOURCE, &["-g", "-O1", "-rdynamic"]) else { return };
    let place = offset(&program, "__libc_fetch");
    let named = || names().frames(&module(&program), place)[0].symbol.clone();
    assert_eq!(named().as_deref(), Some("fetch64"));
    assert!(run(std::process::Command::new("strip").arg(&program)));
    assert_eq!(named().as_deref(), Some("fetch64"));
}
