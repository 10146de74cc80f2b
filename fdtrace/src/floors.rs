//! The rooms of this crate, and the one rule among them: a room uses those below it only.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// From the ground up. docs/internals.md says what each room is for, in the same order.
const FLOORS: [&str; 24] = [
    "text", "model", "files", "process", "runtimes", "kernel", "sandbox", "kinds", "stream", "stacks",
    "trace", "handles", "collect", "record", "holders", "enrich", "view", "replay", "check", "explain",
    "analysis", "report", "session", "cli",
];

/// What a room names of the crate, in `use` and elsewhere: `crate::a::b` and `crate::{a::b, c}`.
fn rooms_named_in(source: &str) -> Vec<&str> {
    source.match_indices("crate::").flat_map(|(at, start)| first_names(&source[at + start.len()..])).collect()
}

fn first_names(path: &str) -> Vec<&str> {
    let Some(list) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut expected) = (0, Vec::new(), true);
    for (at, character) in list.char_indices() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            letter if expected && depth == 0 && letter.is_ascii_lowercase() => {
                names.push(name(&list[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    names
}

fn name(path: &str) -> &str {
    let end = path.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &path[..end.unwrap_or(path.len())]
}

/// A source without its comments and without what only tests have.
fn code(text: &str) -> String {
    let mut inside_tests = false;
    let mut code = String::with_capacity(text.len());
    let mut marked = false;
    for line in text.lines() {
        inside_tests |= marked && line.starts_with("mod ") && line.ends_with('{');
        inside_tests |= marked && line.starts_with("pub(crate) mod ") && line.ends_with('{');
        marked = line == "#[cfg(test)]";
        if inside_tests {
            inside_tests = line != "}";
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

fn is_for_tests(path: &Path) -> bool {
    let names = ["tests", "tests.rs", "fixture.rs", "golden.rs", "fuzz.rs", "samples.rs", "floors.rs"];
    path.components().any(|part| names.iter().any(|name| part.as_os_str() == *name))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == room)
}

#[test]
fn no_room_uses_one_above_it() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files)?;
    let mut upward = Vec::new();
    for file in
        files.iter().filter_map(|file| file.strip_prefix(&root).ok()).filter(|file| !is_for_tests(file))
    {
        let Some(room) = file.iter().next().and_then(|room| room.to_str()).filter(|room| !room.contains('.'))
        else {
            continue;
        };
        let own = floor(room).unwrap_or_else(|| panic!("{room} is on no floor"));
        let text = fs::read_to_string(root.join(file))?;
        for named in rooms_named_in(&code(&text)) {
            if floor(named).is_some_and(|floor| floor > own) {
                upward.push(format!("{} uses {named}", file.display()));
            }
        }
    }
    assert_eq!(upward, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_page_has_the_same_floors() -> io::Result<()> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/internals.md"))?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: Vec<&str> = rows.filter(|room| floor(room).is_some()).collect();
    assert_eq!(listed, FLOORS);
    Ok(())
}

#[test]
fn names_are_found_wherever_they_stand() {
    let source = "use crate::{\n    a::{b, c},\n    d::E,\n};\nlet x = crate::f::g();";
    assert_eq!(rooms_named_in(source), ["a", "d", "f"]);
    assert_eq!(code("a\n#[cfg(test)]\nmod tests {\n    b\n}\n// c\nd"), "a\n#[cfg(test)]\nd\n");
}
