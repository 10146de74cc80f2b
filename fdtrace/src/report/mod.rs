//! Output: one document, one file per format. Nothing here reads a kernel or a clock.

mod chain;
mod diff;
mod document;
#[cfg(test)]
mod fixture;
mod json;
mod text;
pub mod words;

pub use chain::place;
pub use diff::{
    Difference, Side, SiteDifference, diff, write_json as write_diff_json, write_text as write_diff_text,
};
pub use document::{
    Descriptors, Document, Events, Example, ExistingBy, Fastest, Handles, KernelFrame, Lost, MappedAt, MappingExample,
    Own, Process, Site, Trace, UserFrame, Verdict,
};
pub use json::write as write_json;
pub use text::{Style, write as write_text};
