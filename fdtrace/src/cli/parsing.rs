//! The command line, and what is said of one that is wrong.

use std::ffi::OsString;

use clap::Parser as _;

use super::Arguments;
use crate::text::fmt::escape_control;

/// The arguments of this process. What is wrong with them is said here, and ends it.
///
/// An argument may come from somebody else, and the library quotes it as it is: so where there is something to say, it is
/// said of arguments that do nothing to a terminal.
pub(super) fn parse() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        let escape_control =
            std::env::args_os().map(|word| OsString::from(escape_control(&word.to_string_lossy())));
        match Arguments::try_parse_from(escape_control) {
            Err(said) => said.exit(),
            // It was the bytes themselves that were wrong, and these are not shown.
            Ok(_) => error.exit(),
        }
    })
}
