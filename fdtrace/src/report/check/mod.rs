//! What a check found, one file per format.

mod advice;
#[cfg(test)]
pub(crate) mod fixture;
mod json;
mod junit;
mod nouns;
mod sarif;
mod scopes;
mod sentence;
mod text;

use super::frames;

pub use json::write as write_json;
pub use junit::write as write_junit;
pub use sarif::write as write_sarif;
pub use text::write as write_text;
