//! What is said of handles, as plain data: the documents that fdtrace writes and reads, and what they are made of. One
//! definition each, and nothing that decides.

pub mod check;
pub mod diff;
pub mod explain;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod golden;
pub mod groups;
mod holder;
mod kind;
mod origin;
mod process;
mod report;
mod runtime;
mod stack;
mod words;

pub use holder::Holder;
pub use kind::Kind;
pub use origin::Origin;
pub use process::Identity;
pub use report::{
    Counts, Descriptors, Document, Events, Example, ExistingBy, Fastest, FullTable, Handles, LIVE_SCHEMA,
    Lifetimes, Lost, MappedAt, MappingExample, Own, Process, REPORT_SCHEMA, Repeat, Site, Trace, Trend,
    most_repeated,
};
pub use runtime::Runtime;
pub use stack::{KernelFrame, UserFrame};
