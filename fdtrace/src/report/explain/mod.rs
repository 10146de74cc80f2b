//! What `explain` says: as a document for programs, as a screen for people.

pub mod alert;
mod alike;
mod causes;
pub mod growth;
pub mod handle;
mod hidden;
mod limits;
mod peers;
mod process_groups;
mod sentence;
mod sites;
#[cfg(test)]
mod tests;
mod text;
mod who;

pub use process_groups::write as write_process_groups;
pub use sites::write as write_sites;
pub use text::{Screen, write};
