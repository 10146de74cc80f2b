//! Output: one document, one file per format. Nothing here reads a kernel or a clock.

mod document;
mod json;
mod text;
pub mod words;

pub use document::{
    Descriptors, Document, Events, Example, Fastest, Handles, KernelFrame, Lost, Own, Process, Site, Trace,
    UserFrame, Verdict,
};
pub use json::write as write_json;
pub use text::{Style, write as write_text};
