//! What is shown of a stream: the live handles by call site, and how they grow. It knows no kernel.

mod assemble;
mod growth;
mod images;
mod lifetimes;
mod loaded;
mod sites;
mod tables;

pub use assemble::{Session, View, bare_site, seconds_left};
pub use sites::{Selection, id_of as site_id};
