//! Iterators: they run when user space reads them, not when handles come and go.

pub(crate) mod describe;
mod descriptors;
mod existing;
mod phantoms;
mod survivors;
