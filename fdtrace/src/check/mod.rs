//! The gate: did a command leak handles? From the event stream to findings; it knows no kernel.

mod also;
mod assemble;
mod findings;
pub mod interpreters;
mod judge;
mod names;
mod places;
mod rule;
mod scopes;
mod steering;
mod teardown;
#[cfg(test)]
mod tests;
mod weaker;

pub use findings::{
    Also, AlsoKind, Class, CommandRun, Ended, Finding, Findings, KeptBy, Steered, Suppressing, TopHolder,
    Verdict,
};
pub use judge::Judge;
pub use rule::Rule;
pub use scopes::{KeptInScope, ScopeFound, ScopeVerdict, Scopes, Word};
pub use steering::{Baseline, BaselineEntry, Steering, Suppression, Suppressions};
