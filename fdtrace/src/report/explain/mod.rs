//! What `explain` says: as a document for programs, as a screen for people.

pub mod document;
mod hidden;
mod sentence;
mod text;

pub use document::Document;
pub use text::write;
