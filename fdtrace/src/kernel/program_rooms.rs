//! Who uses whom among the rooms of the BPF side: a circle would be two rooms that are one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// A room by its path in the crate, and those that it names in its `use` lines.
type Rooms = BTreeMap<String, BTreeSet<String>>;

/// Reads the modules of a crate.
fn read(root: &Path, prefix: &str, rooms: &mut Rooms) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let module = format!("{prefix}::{name}");
        match path.is_dir() {
            // A crate of its own.
            true if path.join("main.rs").exists() => {}
            true => read(&path, &module, rooms)?,
            false => {
                let module = if name == "mod" || name == "main" { prefix } else { &module };
                rooms.insert(module.to_owned(), uses(&fs::read_to_string(&path)?, module));
            }
        }
    }
    Ok(())
}

/// Every path of the `use` lines, from the crate's root.
fn uses(source: &str, module: &str) -> BTreeSet<String> {
    let above = module.rsplit_once("::").map_or(module, |(above, _)| above);
    let lines =
        source.split(';').filter_map(|item| Some(item.rsplit_once("use ")?.1.replace([' ', '\n'], "")));
    let paths = lines.flat_map(|line| expanded(&line));
    paths
        .map(|path| match path.strip_prefix("super") {
            Some(rest) => format!("{above}{rest}"),
            None => path,
        })
        .filter(|path| path.starts_with("crate"))
        .collect()
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expanded(path: &str) -> Vec<String> {
    let Some((front, list)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (mut depth, mut names) = (0, vec![String::new()]);
    for letter in list.strip_suffix('}').unwrap_or(list).chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match names.last_mut() {
            Some(name) if letter != ',' || depth > 0 => name.push(letter),
            _ => names.push(String::new()),
        }
    }
    names
        .iter()
        .filter(|name| !name.is_empty())
        .flat_map(|name| expanded(&format!("{front}{name}")))
        .collect()
}

/// The rooms on the way from `room` back to itself, if there is one.
fn circle(rooms: &Rooms, room: &str, way: &mut Vec<String>) -> bool {
    if way.first().is_some_and(|first| first == room) {
        return true;
    }
    if way.iter().any(|passed| passed == room) {
        return false;
    }
    way.push(room.to_owned());
    let found =
        rooms[room].iter().any(|path| room_of(rooms, path).is_some_and(|next| circle(rooms, next, way)));
    if !found {
        way.pop();
    }
    found
}

/// The room that has what a path names.
fn room_of<'rooms>(rooms: &'rooms Rooms, path: &str) -> Option<&'rooms str> {
    let mut path = path;
    loop {
        if let Some((room, _)) = rooms.get_key_value(path) {
            return Some(room);
        }
        path = path.rsplit_once("::")?.0;
    }
}

#[test]
fn no_room_of_the_programs_leads_back_to_itself() -> io::Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fdtrace-ebpf/src");
    let mut rooms = Rooms::new();
    read(&source, "crate", &mut rooms)?;
    assert!(rooms.len() > 30, "{rooms:?}");
    for room in rooms.keys() {
        let mut way = Vec::new();
        assert!(!circle(&rooms, room, &mut way), "{}", way.join(" -> "));
    }
    Ok(())
}

#[test]
fn paths_are_expanded() {
    assert_eq!(
        uses("use aya::x;\n\nuse super::{a, b::{c, d}};\nuse crate::{\n    e,\n    f::g,\n};", "crate::m::n"),
        ["crate::e", "crate::f::g", "crate::m::a", "crate::m::b::c", "crate::m::b::d"]
            .map(String::from)
            .into()
    );
}
