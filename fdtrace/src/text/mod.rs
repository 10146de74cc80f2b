//! Texts for people: numbers and names as they are read, escaped and fitted for a terminal. It knows nothing of handles.

mod columns;
pub(crate) mod fmt;
mod paths;
mod terminal;

pub(crate) use columns::{COLUMNS, fit, squeezed};
pub(crate) use paths::{percent_decoded, scheme, tidy_path};
pub(crate) use terminal::{Terminal, lines as escape_control_lines};
