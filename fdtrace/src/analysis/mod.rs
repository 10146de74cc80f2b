//! What compares documents with each other, and groups what is in one.

mod diff;
mod groups;
mod growth;
mod label;
mod shares;

pub(crate) use diff::diff;
pub(crate) use groups::table;
pub(crate) use growth::compare;
pub(crate) use label::in_common;
pub(crate) use shares::{Share, allocated, shares};
