//! The gate: did a command leak handles? From the event stream to findings; it knows no kernel.

mod findings;
mod names;
mod steering;

pub use findings::{
    Also, AlsoKind, Class, CommandRun, Ended, Finding, Findings, HeldAt, KeptBy, Steered, Suppressing,
    TopHolder, Verdict,
};
pub use steering::{Baseline, BaselineEntry, Steering, Suppression, Suppressions};
