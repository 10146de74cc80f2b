//! Output: one document, one file per format. Nothing here reads a kernel or a clock.

mod by;
pub mod check;
mod diff;
pub mod explain;
mod flamegraph;
mod folded;
mod json;
mod pprof;
mod repeats;
mod stack;
mod text;

pub use by::write_text as write_table_text;
pub use diff::write_text as write_diff_text;
pub use flamegraph::write as write_flamegraph;
pub use folded::{Weight, write as write_folded};
pub use json::{pretty as write_pretty_json, write as write_json};
pub use pprof::write as write_pprof;
pub use text::{Style, write as write_text};
