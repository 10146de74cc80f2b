//! The trace file: the event stream, kept.
//!
//! `docs/trace-format.md` describes the bytes. A [`Writer`] takes events and a sink and ends blocks so that all before is
//! whole whatever happens next; a [`Reader`] gives the events back, trusts no length and no number that it reads, and says
//! how the file [ended](End). Names of stacks are not kept: a [`crate::stream::Call`] that is read has other names in
//! it, the same ones for the same call. The addresses of a stack mean nothing once its process is gone, so
//! [`crate::stream::Event::Stack`] is not kept either; sites say what the addresses meant.

pub(crate) mod allowance;
mod block;
mod bytes;
mod decode;
mod encode;
mod facts;
mod format;
mod header;
mod reader;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

pub use allowance::Unjustified;
pub use bytes::Damage;
pub use format::VERSION;
pub use header::{Header, HookState};
pub use reader::{End, Error, Reader};
pub use writer::{Progress, Writer};
