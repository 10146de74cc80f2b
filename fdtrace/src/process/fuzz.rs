//! What a fuzzer throws bytes at: each takes any bytes, ends, and does not fail.

use super::{cgroup, cgroup_path, executable, limits, maps, name, procfs::*};

/// Texts of a process that these bytes are, or that have them for its name.
///
/// # Panics
/// When a name moves a field.
pub fn texts(bytes: &[u8]) {
    let text = Text::from(bytes);
    let found = limits(&text).is_some_and(|(soft, hard)| soft > hard);
    let parts = executable(bytes).len() + maps::parse(bytes).len() + name(bytes).len() + cgroup(bytes).len();
    let rest = lines(bytes).filter_map(cgroup_path).count() + fields(bytes).filter_map(number::<u64>).count();
    std::hint::black_box((found, parts, rest, text.line("NStgid:"), text.shown(), hexadecimal(bytes)));
    let stat = Text::from(&[b"7 (", bytes, b") S 3 9\n"].concat()[..]);
    let fields: Vec<&[u8]> = stat.behind_the_name().into_iter().flatten().collect();
    assert_eq!(fields, [&b"S"[..], b"3", b"9"]);
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_bytes_are_a_text() {
        for length in 0..2000_usize {
            let byte = |at: usize| (at * length * 31 + at).to_le_bytes()[0];
            super::texts(&(0..length % 97).map(byte).collect::<Vec<u8>>());
        }
        super::texts(b") S 1 (\n");
    }
}
