//! Iterators: they run when user space reads them, not when handles come and go.

mod descriptors;
mod elements;
mod existing;
mod tables;
