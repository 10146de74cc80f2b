//! Values on the command line: durations, sizes, words from a table.

use std::time::Duration;

use crate::{
    explain::SocketState,
    kernel::Backend,
    model::{Holder, Kind, Origin, check::DiagnosticKind},
    report::explain::alert::Alert,
};

/// `500ms`, `10s`, `5m`
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 500ms, 10s or 5m"))
}

/// The same, but not 0.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("an interval of 0 never passes".to_owned()),
        some => Ok(some),
    }
}

/// A process's number. Whoever types a name learns which option takes names.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            Err("it is not the number of a process".to_owned())
        }
        _ => Err(format!(
            "a process has a number here; --comm {text} takes its name, `pgrep -x {text}` prints its number"
        )),
    }
}

/// `4K`, `8M`, and a power of two of at least a page, as the kernel wants ring buffers.
pub(super) fn ring_size(text: &str) -> Result<u32, String> {
    match u32::try_from(bytes(text)?) {
        Ok(bytes) if bytes >= 4096 && bytes.is_power_of_two() && bytes <= 1 << 30 => Ok(bytes),
        _ => Err("the ring's size is a power of two from 4K to 1G".to_owned()),
    }
}

/// `64K`, `10M`, `2G`; a trace file has its header, its end and something in between.
pub(super) fn file_size(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        size if size >= 64 << 10 => Ok(size),
        _ => Err("a trace file needs 64K or more".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; write it as 4K or 8M"))
}

/// A backend's name; `auto` is none.
pub(super) fn backend(text: &str) -> Result<Option<Backend>, String> {
    if text == "auto" {
        return Ok(None);
    }
    Backend::ALL
        .into_iter()
        .find(|backend| backend.name() == text)
        .map(Some)
        .ok_or_else(|| "backends are auto, kprobe, fentry and tracepoint".to_owned())
}

/// A kind's name.
pub(super) fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text).ok_or_else(|| one_of("kinds", Kind::ALL.map(Kind::name)))
}

/// A word of `--fail-on`.
pub(super) fn diagnostic_kind(text: &str) -> Result<DiagnosticKind, String> {
    DiagnosticKind::from_name(text)
        .ok_or_else(|| one_of("words of --fail-on", DiagnosticKind::ALL.map(DiagnosticKind::name)))
}

/// A holder's name.
pub(super) fn holder(text: &str) -> Result<Holder, String> {
    Holder::from_name(text).ok_or_else(|| one_of("holders", Holder::ALL.map(Holder::name)))
}

/// The state of a socket.
pub(super) fn socket_state(text: &str) -> Result<SocketState, String> {
    SocketState::from_name(text)
        .ok_or_else(|| "states are those of ss: established, close_wait, listen, fin_wait2, ...".to_owned())
}

/// An origin's name.
pub(super) fn origin(text: &str) -> Result<Origin, String> {
    Origin::from_name(text).ok_or_else(|| one_of("origins", Origin::ALL.map(Origin::name)))
}

/// `80%`, `10m`
pub(super) fn alert(text: &str) -> Result<Alert, String> {
    let Some(percent) = text.strip_suffix('%') else {
        return interval(text).map(Alert::Within);
    };
    match percent.parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Alert::Percent(percent)),
        _ => Err("a share of a limit is more than 0% and at most 100%".to_owned()),
    }
}

fn one_of<const N: usize>(what: &str, names: [&str; N]) -> String {
    format!("{what} are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(ring_size("4K"), Ok(4096));
        assert_eq!(ring_size("8M"), Ok(8 << 20));
        assert!(ring_size("5000").is_err() && ring_size("2K").is_err() && ring_size("4G").is_err());
        assert!(ring_size("x").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("5").is_err());
        assert!(interval("0s").is_err());
    }

    #[test]
    fn a_name_is_no_number_and_says_what_takes_one() {
        assert_eq!(pid("4711"), Ok(4711));
        assert!(pid("nginx").is_err_and(|sentence| sentence.contains("--comm nginx")));
        assert!(["0", "-1", "4294967296", "1x"].iter().all(|text| pid(text).is_err()));
    }

    #[test]
    fn unknown_words_name_the_known_ones() {
        assert!(kind("file").is_err_and(|sentence| sentence.contains("regular")));
        assert!(origin("x").is_err_and(|sentence| sentence.contains("shm_attach")));
        assert!(backend("x").is_err_and(|sentence| sentence.contains("tracepoint")));
        assert_eq!(backend("auto"), Ok(None));
    }

    #[test]
    fn shares_and_times() {
        assert_eq!(alert("80%"), Ok(Alert::Percent(80.0)));
        assert_eq!(alert("10m"), Ok(Alert::Within(Duration::from_secs(600))));
        for wrong in ["0%", "101%", "NaN%", "%", "0s", "80", "x"] {
            assert!(alert(wrong).is_err(), "{wrong}");
        }
    }
}
