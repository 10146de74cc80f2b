//! The gate: did a command leak handles? From the event stream to findings; it knows no kernel.

mod assemble;
mod diagnostics;
mod evaluate;
mod findings;
pub mod interpreters;
mod names;
mod places;
mod policy;
mod rule;
mod scopes;
mod teardown;
#[cfg(test)]
mod tests;
mod weaker;

pub use evaluate::Evaluator;
pub use findings::{
    AppliedPolicy, Class, CommandRun, Diagnostic, DiagnosticKind, Ended, Finding, Findings, KeptBy,
    Suppressing, TopHolder, Verdict,
};
pub use policy::{Baseline, BaselineEntry, Policy, Suppression, Suppressions};
pub use rule::Rule;
pub use scopes::{KeptInScope, ScopeFound, ScopeVerdict, Scopes, Word};
