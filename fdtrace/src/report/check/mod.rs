//! What a check found, one file per format.

mod advice;
#[cfg(test)]
pub(crate) mod fixture;
mod frames;
mod json;
mod junit;
mod nouns;
mod sarif;
mod scopes;
mod sentence;
mod text;

pub(in crate::report) use frames::place_of;
pub(crate) use frames::{place as place_of_frame, place_of_site};
pub use json::write as write_json;
pub use junit::write as write_junit;
pub use sarif::write as write_sarif;
pub use text::write as write_text;
