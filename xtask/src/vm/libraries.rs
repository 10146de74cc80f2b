//! What a program that is not static needs beside itself.

use anyhow::{Context as _, Result};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The interpreter and the libraries of a program, by the paths under which it looks for them. Those of its own folder are
/// left out: they go where it goes. A static program needs none, and neither does data.
pub(super) fn of(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = Command::new("ldd");
    let output = ldd.arg(program).stdin(Stdio::null()).output().context("cannot run ldd")?;
    let folder = program.parent().context("a program is in a folder")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(paths(&text).filter(|path| !path.starts_with(folder)).map(Path::to_owned).collect())
}

/// Of `name => path (address)` and `path (address)` the paths; the kernel's own library has none.
fn paths(text: &str) -> impl Iterator<Item = &Path> {
    text.lines().filter_map(path).map(Path::new).filter(|path| path.is_absolute())
}

fn path(line: &str) -> Option<&str> {
    let (library, _address) = line.trim().rsplit_once(" (")?;
    Some(library.rsplit_once(" => ").map_or(library, |(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ldd_are_understood() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = [Path::new("/lib/x/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")];
        assert_eq!(paths(text).collect::<Vec<_>>(), expected);
        assert_eq!(paths("\tnot a dynamic executable\n").count(), 0);
    }
}
