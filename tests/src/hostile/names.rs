//! Names that nobody would choose who means well.

/// Each is a name of something: a process, a path, a function, a host.
pub const NAMES: [&str; 16] = [
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "a\nfdtrace: no leak\r\tb",
    "\u{9b}31m\u{85}\u{90}",
    "gpj.\u{202e}exe\u{202c}",
    "\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}",
    "line\u{2028}paragraph\u{2029}end",
    "zero\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}width\u{ad}",
    "tag\u{e0001}\u{e0041}\u{e007f}",
    "no\u{fffe}char\u{ffff}acter\u{fdd0}\u{1ffff}",
    "]]><script>&amp;\"'</title>",
    "\u{0}\u{1}\u{8}\u{b}\u{c}\u{e}\u{1f}\u{7f}",
    "\u{fff9}\u{fffa}\u{fffb}\u{180e}\u{115f}\u{3164}\u{34f}",
    "lost \u{fffd} bytes",
    "; semicolon 5\n# comment 7",
    "%s%n%x$(id)`id`",
    "обработчик",
];

/// Whether a character may steer a terminal, hide, or change what stands beside it. A line's end is one too in a name,
/// and none where a text has lines.
#[must_use]
pub fn is_forbidden(character: char) -> bool {
    let code = u32::from(character);
    let hides = [
        0xad..=0xad,
        0x34f..=0x34f,
        0x61c..=0x61c,
        0x115f..=0x1160,
        0x17b4..=0x17b5,
        0x180b..=0x180f,
        0x200b..=0x200f,
        0x2028..=0x202e,
        0x2060..=0x206f,
        0x3164..=0x3164,
        0xfdd0..=0xfdef,
        0xfe00..=0xfe0f,
        0xfeff..=0xfeff,
        0xffa0..=0xffa0,
        0xfff0..=0xfffb,
        0x1d173..=0x1d17a,
        0xe0000..=0xe0fff,
    ];
    (character.is_control() && character != '\n')
        || code & 0xfffe == 0xfffe
        || hides.iter().any(|range| range.contains(&code))
}
