//! Why a handle is alive: as a document for programs, as a text for people.

mod document;
mod text;

pub use document::{Asked, Document, HandleLine};
pub use text::write;
