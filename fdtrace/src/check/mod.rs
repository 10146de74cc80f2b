//! The gate: did a command leak handles? From the event stream to findings; it knows no kernel.

mod assemble;
mod diagnostics;
mod evaluate;
mod interpreters;
mod places;
mod policy;
mod rule;
mod scopes;
mod teardown;
#[cfg(test)]
mod tests;
mod weaker;

pub use evaluate::Evaluator;
pub use policy::{Baseline, BaselineEntry, Policy, Suppression, Suppressions};
pub use rule::Rule;
pub use scopes::Scopes;
