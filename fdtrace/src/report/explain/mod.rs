//! What `explain` says: as a document for programs, as a screen for people.

pub mod alert;
mod alike;
mod causes;
pub mod document;
pub mod growth;
pub mod handle;
mod hidden;
mod limits;
mod parties;
mod peers;
mod sentence;
mod sites;
#[cfg(test)]
mod tests;
mod text;
mod who;

pub use document::Document;
pub use limits::LimitLine;
pub use parties::write as write_parties;
pub use sites::write as write_sites;
pub use text::{Screen, write};
