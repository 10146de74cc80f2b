//! Numbers and names as a person reads them.

/// Groups of three digits: `61,230`.
#[must_use]
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that is the least it can be, where something was lost: `>=61,230`.
#[must_use]
pub(crate) fn at_least(value: u64, lossy: bool) -> String {
    format!("{}{}", if lossy { ">=" } else { "" }, number(value))
}

/// A number of things: `1 site`, `1,200 sites`.
#[must_use]
pub(crate) fn counted(value: u64, thing: &str) -> String {
    format!("{} {thing}{}", number(value), if value == 1 { "" } else { "s" })
}

/// A number with its sign; an empty text for 0.
#[must_use]
pub(crate) fn change(value: i64) -> String {
    match value {
        0 => String::new(),
        value if value > 0 => format!("+{}", number(value.unsigned_abs())),
        value => format!("-{}", number(value.unsigned_abs())),
    }
}

/// A time span with one unit: `850ms`, `12s`, `5.2m`, `3.1h`, `2.5d`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn span(nanoseconds: u64) -> String {
    seconds(nanoseconds as f64 / 1e9)
}

/// The same from seconds.
#[must_use]
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0}ms", s * 1e3),
        s if s < 10.0 => format!("{s:.1}s"),
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 7200.0 => format!("{:.1}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.1}h", s / 3600.0),
        s => format!("{:.1}d", s / 86_400.0),
    }
}

/// A rate: `512/s`, `0.4/s`.
#[must_use]
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{per_second:.0}/s") } else { format!("{per_second:.1}/s") }
}

/// Bytes with one unit: `18 MB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e3 => format!("{bytes} B"),
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

/// A process by its name and number: `server (4711)`; by the number alone where nobody has learnt the name.
#[must_use]
pub(crate) fn process(comm: &str, pid: u32) -> String {
    if comm.is_empty() { format!("process {pid}") } else { format!("{} ({pid})", escape_control(comm)) }
}

/// The longest name inside a sentence, in characters.
const LONGEST: usize = 60;

/// A name of bounded length that steers nothing: of a path, the end tells most.
#[must_use]
pub(crate) fn short(name: &str) -> String {
    let name = escape_control(name);
    let length = name.chars().count();
    if length <= LONGEST {
        return name;
    }
    let end: String = name.chars().skip(length - LONGEST + 3).collect();
    format!("...{end}")
}

/// Names come from other processes: nothing in them may steer a terminal, hide, or end a line.
#[must_use]
pub(crate) fn escape_control(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut text, character| {
        if steers(character) {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
        text
    })
}

/// Characters that command a terminal, change the direction of writing, take no room, end a line in some places, or are
/// none: what XML cannot carry is among them.
pub(crate) const fn steers(character: char) -> bool {
    character as u32 & 0xfffe == 0xfffe
        || matches!(
            character,
            '\0'..='\u{1f}'
                | '\u{7f}'..='\u{9f}'
                | '\u{ad}' | '\u{34f}' | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fdd0}'..='\u{fdef}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(
            [0, 999, 1000, 61_230, 1_234_567].map(number),
            ["0", "999", "1,000", "61,230", "1,234,567"]
        );
        assert_eq!([1, 1200].map(|count| counted(count, "site")), ["1 site", "1,200 sites"]);
        assert_eq!([0, 5, -1200].map(change), ["", "+5", "-1,200"]);
        assert_eq!(bytes(18_400_000), "18 MB");
    }

    #[test]
    fn spans() {
        assert_eq!(span(850_000_000), "850ms");
        assert_eq!(
            [5.25, 12.0, 312.0, 11_160.0, 216_000.0].map(seconds),
            ["5.2s", "12s", "5.2m", "3.1h", "2.5d"]
        );
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(escape_control("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(escape_control("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(
            escape_control("a\u{2028}b\u{61c}\u{e0041}\u{feff}"),
            "a\\u{2028}b\\u{61c}\\u{e0041}\\u{feff}"
        );
        assert_eq!(
            escape_control("\u{fffe}\u{ffff}\u{10ffff}\u{9b}"),
            "\\u{fffe}\\u{ffff}\\u{10ffff}\\u{9b}"
        );
        for word in ["grüße", "обработчик", "日本語", "a\u{fffd}", "שלום"] {
            assert_eq!(escape_control(word), word);
        }
    }
}
