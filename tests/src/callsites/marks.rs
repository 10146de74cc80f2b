//! Marks in sources: `/* mark: NAME */` or `// mark: NAME` at the end of a line whose number matters.

use super::manifest::Place;
use anyhow::{Context as _, Result, ensure};
use std::{collections::BTreeMap, fs, path::Path};

const MARK: &str = "mark: ";

/// Adds the marks of a source to those of its program.
pub(super) fn collect(source: &Path, marks: &mut BTreeMap<String, Place>) -> Result<()> {
    let text = fs::read_to_string(source).with_context(|| source.display().to_string())?;
    let file = source.file_name().context("a source has a name")?.to_string_lossy();
    for (name, line) in find(&text) {
        let before = marks.insert(name.to_owned(), Place { file: file.clone().into_owned(), line });
        ensure!(before.is_none(), "{file}:{line}: there are two marks {name:?}");
    }
    Ok(())
}

fn find(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        let (_, mark) = line.split_once(MARK)?;
        Some((mark.trim_end_matches("*/").trim(), number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_at_the_end_of_its_line() {
        let text = "int f() {\n    return g(); /* mark: f */\n}\nh(); // mark: h\n";
        assert_eq!(find(text).collect::<Vec<_>>(), [("f", 2), ("h", 4)]);
    }
}
