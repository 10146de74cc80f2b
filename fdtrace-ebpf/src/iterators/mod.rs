//! Iterators: they run when user space reads them, not when handles come and go.

mod acquired;
pub(crate) mod describe;
mod descriptors;
mod existing;
mod phantoms;
mod sweep;
