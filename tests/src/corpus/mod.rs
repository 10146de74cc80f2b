//! Small programs of which everybody knows whether they leak, and the comparison of that with what `fdtrace check` says.
//!
//! The programs are in `tests/corpus`, the truth about them in `expected.toml` there. They are compiled by `cargo xtask programs`
//! or before the end-to-end tests, because a virtual machine has no compilers.

mod build;
mod evaluate;
mod run;
mod table;

pub use build::{Skipped, build};
pub use evaluate::{Report, Site, Traced, evaluate};
pub use fdtrace::model::check::{Class, Verdict};
pub use run::{Ended, Place, checked, plain, timed};
pub use table::{Language, Program, Run, programs};
