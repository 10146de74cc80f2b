//! A command that joins the check which runs already: a process of its own for each test, and one check around them all.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{super::command::SCOPE, scopes::MAX_NAME};

/// The answer takes no longer, or nobody listens.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a check runs already.
pub(crate) fn is_joined() -> bool {
    env::var_os(SCOPE).is_some()
}

/// Announces this process as a scope; what only lists its tests is none.
pub(crate) fn announce(argv: &[OsString]) -> Result<(), String> {
    let Some(name) = name(argv) else { return Ok(()) };
    send(&name).map_err(|error| format!("{name} is no scope of the check around it: {error}"))
}

fn send(name: &str) -> io::Result<()> {
    let stream = UnixStream::connect(env::var_os(SCOPE).unwrap_or_default())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    (&stream).write_all(format!("process {name}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    if answer.starts_with("{\"ok\":true") {
        Ok(())
    } else {
        Err(io::Error::other(answer.trim_end().to_owned()))
    }
}

/// What the arguments call it; none for a program that only lists its tests. Rust's test programs get the test's name
/// after `--exact`, by cargo-nextest.
fn name(argv: &[OsString]) -> Option<String> {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    if words.iter().any(|word| word == "--list") {
        return None;
    }
    let test = words.iter().position(|word| word == "--exact").and_then(|index| words.get(index + 1));
    let name = match test {
        Some(test) => format!("{} {test}", program(argv.first()?)),
        None => words.join(" "),
    };
    let mut name = name.replace('\n', "\\n").replace('\r', "\\r");
    name.truncate(name.floor_char_boundary(MAX_NAME));
    Some(name)
}

/// The file, without what Cargo puts behind its name.
fn program(path: &OsStr) -> String {
    let file = Path::new(path).file_name().unwrap_or(path).to_string_lossy().into_owned();
    match file.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_the_test() {
        let name = |line: &str| name(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let of_rust = name("/p/target/debug/deps/sample-e6daf73c296d6df0 --exact tests::leaking --nocapture");
        assert_eq!(of_rust.as_deref(), Some("sample tests::leaking"));
        assert_eq!(name("/build/tidy --fast x").as_deref(), Some("/build/tidy --fast x"));
        assert_eq!(name("/p/sample-e6daf73c296d6df0 --list --format terse"), None);
        assert_eq!(name("a\nb").as_deref(), Some("a\\nb"));
        assert_eq!(name(&"ä".repeat(5000)).map(|name| name.len() <= MAX_NAME), Some(true));
    }
}
