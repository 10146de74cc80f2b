//! The kernel's own table of live handles, as user space reads it: the slots ([`slots`]) and a hash map behind them.

mod size;
mod slots;

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{Array, HashMap, IterableMap as _, MapData};
use fdtrace_common::{
    iterators::{Element, Span},
    wire::Entry,
};

use super::{bpf, iterators::records, tracer::Plain};

pub(super) use self::{size::Size, slots::Slots};

/// Bytes of kernel memory that the table takes for so many handles on this kernel.
#[must_use]
pub fn handle_table_bytes(max_handles: u32) -> u64 {
    Size::of(max_handles).bytes()
}

/// The table. Each that is made of it by cloning may be read in another thread.
#[derive(Clone)]
pub(super) struct HandleTable(Arc<Parts>);

struct Parts {
    /// `None` where BPF has no atomic exchanges: all handles are in the map.
    slots: Option<Slots>,
    /// Not 0 once a handle went into the map because its bucket was full.
    spilled: Array<MapData, u64>,
    map: HashMap<MapData, u64, Plain<Entry>>,
    program: Option<OwnedFd>,
    /// What the program writes: one reader at a time.
    span: Mutex<Array<MapData, Plain<Span>>>,
}

impl HandleTable {
    /// Of its maps, and of the iterator over the hash map where the kernel has one.
    pub(super) fn new(
        slots: Option<Slots>,
        spilled: Array<MapData, u64>,
        map: HashMap<MapData, u64, Plain<Entry>>,
        program: Option<OwnedFd>,
        span: Array<MapData, Plain<Span>>,
    ) -> Self {
        Self(Arc::new(Parts { slots, spilled, map, program, span: Mutex::new(span) }))
    }

    /// Calls `each` for the entries that are wanted. One that is there all the time comes once; those that come or go meanwhile may or
    /// may not be among them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub(super) fn each(&self, wanted: Span, mut each: impl FnMut(u64, Entry)) -> io::Result<()> {
        if let Some(slots) = &self.0.slots {
            slots.each(|handle, entry| {
                if wanted.has(&entry) {
                    each(handle, entry);
                }
            })?;
            if self.0.spilled.get(&0, 0).is_ok_and(|spilled| spilled == 0) {
                return Ok(());
            }
        }
        self.each_in_map(wanted, each)
    }

    fn each_in_map(&self, wanted: Span, mut each: impl FnMut(u64, Entry)) -> io::Result<()> {
        let Some(program) = &self.0.program else {
            return bpf::each_element(self.map(), |handle: u64, entry: Entry| {
                if wanted.has(&entry) {
                    each(handle, entry);
                }
            });
        };
        let mut span = self.0.span.lock().unwrap_or_else(PoisonError::into_inner);
        span.set(0, Plain(wanted), 0).map_err(io::Error::other)?;
        records(bpf::iterate(program.as_fd(), Some(self.map()))?, |element: &Element| {
            each(element.handle, element.entry);
        })
    }

    /// Takes the entry of a handle out, if it is still of that generation.
    pub(super) fn forget(&self, handle: u64, generation: u64) {
        let slots = self.0.slots.as_ref();
        // What cannot be taken out now is found the next time.
        let had_slot = slots.is_some_and(|slots| slots.forget(handle, generation).unwrap_or(true));
        if !had_slot && self.0.map.get(&handle, 0).is_ok_and(|entry| entry.0.generation == generation) {
            // Gone already is gone.
            let _ = bpf::remove(self.map(), handle);
        }
    }

    fn map(&self) -> BorrowedFd<'_> {
        self.0.map.map().fd().as_fd()
    }
}
