//! The kernel's own table of live handles, as user space reads it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{Array, MapData};
use fdtrace_common::{
    iterators::{Element, Span},
    wire::Entry,
};

use super::{bpf, iterators::records, tracer::Plain};

/// The table. Each that is made of it by cloning may be read in another thread.
#[derive(Clone)]
pub(super) struct HandleTable(Arc<Parts>);

struct Parts {
    program: Option<OwnedFd>,
    handles: OwnedFd,
    /// What the program writes: one reader at a time.
    span: Mutex<Array<MapData, Plain<Span>>>,
}

impl HandleTable {
    /// The table, and the iterator over it where the kernel has one.
    pub(super) fn new(program: Option<OwnedFd>, handles: OwnedFd, span: Array<MapData, Plain<Span>>) -> Self {
        Self(Arc::new(Parts { program, handles, span: Mutex::new(span) }))
    }

    /// Calls `each` for the entries that are wanted. One that is there all the time comes once; those that come or go meanwhile may or
    /// may not be among them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub(super) fn each(&self, wanted: Span, mut each: impl FnMut(u64, Entry)) -> io::Result<()> {
        let Parts { program, handles, span } = &*self.0;
        let Some(program) = program else {
            return bpf::each_element(handles.as_fd(), |handle: u64, entry: Entry| {
                if wanted.has(&entry) {
                    each(handle, entry);
                }
            });
        };
        let mut span = span.lock().unwrap_or_else(PoisonError::into_inner);
        span.set(0, Plain(wanted), 0).map_err(io::Error::other)?;
        records(bpf::iterate(program.as_fd(), Some(handles.as_fd()))?, |element: &Element| {
            each(element.handle, element.entry);
        })
    }
}
