//! The fold: from events to live handles, and who made them.
//!
//! Plain data in, plain data out; it knows neither a kernel nor a clock, so it is the same for a live trace and for a
//! recorded one.

mod checkpoint;
mod counts;
mod details;
mod fold;
mod fresh;
mod hasher;
mod images;
mod lifetimes;
mod sites;
mod snapshot;
mod stacks;
mod table;

pub use counts::Counts;
pub use details::{Detail, Details, Mapping};
pub use fold::{Fold, Group, GroupId, Loss};
pub use fresh::FreshGroup;
pub use images::{Image, ImageId};
pub use lifetimes::{Births, Deaths, SHORTEST_POWER, SLICES};
pub use sites::{SiteSums, Sites};
pub use snapshot::{GroupLives, GroupSnapshot, KIND_SLOTS, Lives, MappedBy, OldHandle, Repeated, Snapshot};
pub use table::{Handle, Table};
