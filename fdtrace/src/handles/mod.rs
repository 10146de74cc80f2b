//! The fold: from events to live handles, and who made them.
//!
//! Plain data in, plain data out; it knows neither a kernel nor a clock, so it is the same for a live trace and for a
//! recorded one.

mod fold;
mod images;
mod table;

pub use fold::{Counts, Fold, Group, GroupId, Loss};
pub use images::{Image, ImageId};
pub use table::{Handle, Table};
