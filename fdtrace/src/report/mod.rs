//! Output: one document, one file per format. Nothing here reads a kernel or a clock.

mod by;
pub mod check;
mod columns;
mod diff;
mod document;
pub mod explain;
#[cfg(test)]
pub(crate) mod fixture;
mod flamegraph;
pub mod fmt;
mod folded;
mod frames;
mod json;
mod pprof;
pub(crate) mod rebuilt;
mod repeats;
mod shares;
mod stack;
mod terminal;
mod text;

pub use by::{By, Row, Table, table, write_json as write_table_json, write_text as write_table_text};
pub use columns::{COLUMNS, fit};
pub use diff::{
    Difference, Side, SiteDifference, diff, write_json as write_diff_json, write_text as write_diff_text,
};
pub use document::{
    Descriptors, Document, Events, Example, ExistingBy, Fastest, FullTable, Handles, KernelFrame, Lifetimes,
    Lost, MappedAt, MappingExample, Own, Process, Repeat, Site, Trace, UserFrame, Verdict, most_repeated,
};
pub use flamegraph::write as write_flamegraph;
pub use folded::{Weight, write as write_folded};
pub(crate) use frames::{place as place_of_frame, place_of_site};
pub use json::{pretty as write_pretty_json, write as write_json};
pub use pprof::write as write_pprof;
pub use rebuilt::name_id;
pub use stack::{place, short as short_stack};
pub use terminal::{Terminal, lines as escape_control_lines};
pub use text::{Style, write as write_text};
