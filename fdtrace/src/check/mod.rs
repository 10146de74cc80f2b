//! The gate: did a command leak handles? From the event stream to findings; it knows no kernel.

mod findings;

pub use findings::{
    Also, AlsoKind, Class, CommandRun, Ended, Finding, Findings, HeldAt, KeptBy, TopHolder, Verdict,
};
