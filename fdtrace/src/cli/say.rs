//! Messages on standard error.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Writes a line. Whoever was to read it may be gone, or have no room left: that changes no status, and nothing else.
pub(super) fn line(words: fmt::Arguments<'_>) {
    drop(io::stderr().lock().write_all(format!("{words}\n").as_bytes()));
}

/// A line of fdtrace's own.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::say::line(format_args!("fdtrace: {}", format_args!($($words)*)))
    };
}

pub(super) use say;

/// Lines of fdtrace's own.
pub(super) fn say_all(sentences: &[String]) {
    for sentence in sentences {
        say!("{sentence}");
    }
}
