//! What a check found, one file per format.

mod advice;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod json;
mod junit;
mod nouns;
mod sarif;
mod scopes;
mod sentence;
mod text;

pub use junit::write as write_junit;
pub use sarif::write as write_sarif;
pub use text::write as write_text;
