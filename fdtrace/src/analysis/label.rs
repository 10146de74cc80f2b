//! What new handles have in common, in words.

use std::collections::HashMap;

use crate::model::explain::{Files, growth::Sort};

/// What at least so many of ten new handles are is what they are mostly.
const MAX: i64 = 6;

/// What most of `change` new handles are: the closest description that holds for them.
pub(crate) fn mostly(before: &[Files], now: &[Files], change: i64) -> Option<Sort> {
    if change <= 0 {
        return None;
    }
    let levels = now.iter().chain(before).map(|files| labels(files).len()).max().unwrap_or(0);
    (0..levels).find_map(|level| {
        let mut sums: HashMap<String, i64> = HashMap::new();
        add(&mut sums, now, level, 1);
        add(&mut sums, before, level, -1);
        let most = sums.into_iter().max_by(|one, other| one.1.cmp(&other.1).then(other.0.cmp(&one.0)))?;
        (most.1 * 10 >= change * MAX).then_some(Sort { what: most.0, change: most.1 })
    })
}

fn add(sums: &mut HashMap<String, i64>, files: &[Files], level: usize, sign: i64) {
    for files in files {
        if let Some(label) = labels(files).into_iter().nth(level) {
            *sums.entry(label).or_default() += sign * files.count.cast_signed();
        }
    }
}

/// Descriptions of handles, the closest first.
fn labels(files: &Files) -> Vec<String> {
    match files.kind.as_str() {
        "socket" => socket(files),
        "fifo" if files.name.starts_with("pipe:[") => vec!["pipes".to_owned()],
        "regular" | "directory" => [Some(files.name.clone()), folder(files), Some(plural(&files.kind))]
            .into_iter()
            .flatten()
            .collect(),
        _ => vec![files.name.clone(), plural(&files.kind)],
    }
}

/// What handles may have in common that do not have one name, the closest first.
pub(crate) fn in_common(files: &Files) -> Vec<String> {
    match files.kind.as_str() {
        "socket" if files.state.is_some() => {
            let all = socket(files);
            all[..all.len() - 1].to_vec()
        }
        // Those without a name have their number.
        "socket" => {
            files.name.split_once(":[").map(|(sort, _)| format!("{sort} sockets")).into_iter().collect()
        }
        "regular" => ending(files).into_iter().chain(folder(files)).collect(),
        "directory" => folder(files).into_iter().collect(),
        "fifo" if files.name.starts_with("pipe:[") => vec!["pipes".to_owned()],
        _ => Vec::new(),
    }
}

fn folder(files: &Files) -> Option<String> {
    let folder = files.name.rsplit_once('/').map(|(folder, _)| folder).filter(|folder| !folder.is_empty());
    folder.map(|folder| format!("{} in {folder}", plural(&files.kind)))
}

/// What comes behind the last point, if that may be what the file is: `*.log files in FOLDER`.
fn ending(files: &Files) -> Option<String> {
    const LONGEST: usize = 5;
    let name = files.name.rsplit('/').next()?;
    let (stem, ending) = name.rsplit_once('.')?;
    let is_one =
        !stem.is_empty() && ending.len() <= LONGEST && ending.starts_with(|c: char| c.is_ascii_alphabetic());
    is_one.then(|| folder(files).map(|folder| format!("*.{ending} {folder}"))).flatten()
}

/// Every connection has a name of its own: what they share is the state and the other end.
fn socket(files: &Files) -> Vec<String> {
    let state = files.state.as_ref().map(|state| format!("sockets in {state}"));
    let end = files.name.rsplit_once(" to ").and_then(|(_, end)| end.split(' ').next());
    let first = match (&state, end) {
        (Some(state), Some(end)) => format!("{state} to {end}"),
        _ => files.name.clone(),
    };
    let here = files.name.split_once(" to ").and_then(|(here, _)| here.rsplit(' ').next());
    let here = state.as_ref().zip(here).map(|(state, here)| format!("{state} at {here}"));
    [Some(first), here, state, Some("sockets".to_owned())].into_iter().flatten().collect()
}

fn plural(kind: &str) -> String {
    match kind {
        "regular" => "files",
        "directory" => "directories",
        "char" => "character devices",
        "block" => "block devices",
        "fifo" => "pipes",
        "anon" => "anonymous inodes",
        "memfd" => "memfds",
        "shm" => "shared memory",
        "symlink" => "symbolic links",
        _ => "handles",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(kind: &str, name: &str, count: u64) -> Files {
        Files { kind: kind.to_owned(), name: name.to_owned(), count, ..Files::default() }
    }

    fn words(before: &[Files], now: &[Files], change: i64) -> Option<String> {
        mostly(before, now, change).map(|sort| sort.what)
    }

    #[test]
    fn the_closest_description_that_holds() {
        let before = [files("regular", "/var/log/a", 10)];
        let one_file = [files("regular", "/var/log/a", 100), files("anon", "[eventfd]", 3)];
        assert_eq!(words(&before, &one_file, 93).as_deref(), Some("/var/log/a"));
        let many: Vec<_> = (0..9).map(|number| files("regular", &format!("/tmp/{number}"), 1)).collect();
        assert_eq!(words(&[], &many, 9).as_deref(), Some("files in /tmp"));
        let folders: Vec<_> = (0..9).map(|number| files("regular", &format!("/{number}/x"), 1)).collect();
        assert_eq!(words(&[], &folders, 9).as_deref(), Some("files"));
        assert_eq!(words(&[], &[], 9), None, "not distinguished");
        assert_eq!(words(&one_file, &before, -93), None);
    }

    #[test]
    fn connections_by_state_and_other_end() {
        let socket = |number: u16, end: &str| Files {
            state: Some("CLOSE_WAIT".to_owned()),
            ..files("socket", &format!("tcp 10.0.0.1:{number} to {end} CLOSE_WAIT"), 1)
        };
        let same: Vec<_> = (1..9).map(|number| socket(number, "10.0.0.2:80")).collect();
        assert_eq!(words(&[], &same, 8).as_deref(), Some("sockets in CLOSE_WAIT to 10.0.0.2:80"));
        let others: Vec<_> = (1..9).map(|number| socket(1, &format!("10.0.0.{number}:80"))).collect();
        assert_eq!(words(&[], &others, 8).as_deref(), Some("sockets in CLOSE_WAIT at 10.0.0.1:1"));
        let all: Vec<_> = (1..9).map(|number| socket(number, &format!("10.0.0.{number}:80"))).collect();
        assert_eq!(words(&[], &all, 8).as_deref(), Some("sockets in CLOSE_WAIT"));
    }
}
