//! The live view: snapshots in, documents out.

mod assemble;
mod growth;
mod names;
mod own;
mod sites;

pub use assemble::{Session, View};
pub use sites::Selection;
