//! Files that an io_uring holds.

use super::NotPossible;
use anyhow::Result;
use rustix::{
    fd::{AsRawFd, BorrowedFd, OwnedFd},
    io::{self, Errno},
    io_uring::{
        IoringRegisterOp, io_uring_params, io_uring_ptr, io_uring_register, io_uring_rsrc_update,
        io_uring_setup,
    },
};

/// The most rings that a thread can register (`IO_RINGFD_REG_MAX`).
pub(super) const MAX_RINGS: u64 = 16;

/// The error, or that it is the kernel's way to say that it will not.
pub(super) fn unless_refused(what: &str, error: Errno) -> anyhow::Error {
    match error {
        Errno::PERM | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP => {
            NotPossible(format!("{what}: {error}")).into()
        }
        other => anyhow::Error::new(other).context(what.to_owned()),
    }
}

/// A ring of two entries; makes one system call.
pub(super) fn ring() -> io::Result<OwnedFd> {
    let mut parameters = io_uring_params::default();
    // SAFETY: no flag that takes addresses is set, so the kernel reads and writes `parameters` and nothing else.
    unsafe { io_uring_setup(2, &mut parameters) }
}

/// The same, or that the kernel will not.
pub(crate) fn made() -> Result<OwnedFd> {
    ring().map_err(|error| unless_refused("io_uring", error))
}

/// Makes the ring hold files, which may be closed afterwards.
pub(crate) fn register_files(ring: &OwnedFd, files: &[OwnedFd]) -> Result<()> {
    let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let count = u32::try_from(numbers.len())?;
    // SAFETY: this operation reads `count` numbers of descriptors, which is what `numbers` has.
    let registered =
        unsafe { io_uring_register(ring, IoringRegisterOp::RegisterFiles, numbers.as_ptr().cast(), count) };
    registered.map(drop).map_err(Into::into)
}

/// Takes all files back from the ring; of one that has none, nothing.
pub(crate) fn unregister_files(ring: &OwnedFd) {
    // SAFETY: this operation takes nothing but the ring.
    let _ = unsafe { io_uring_register(ring, IoringRegisterOp::UnregisterFiles, std::ptr::null(), 0) };
}

/// Makes the calling thread hold a ring, which may be closed afterwards; makes one system call.
pub(super) fn register_ring(ring: BorrowedFd<'_>) -> io::Result<()> {
    let number = usize::try_from(ring.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let mut update = io_uring_rsrc_update::default();
    // Wherever there is room.
    update.offset = u32::MAX;
    // A number, where other operations have an address.
    update.data = io_uring_ptr::new(std::ptr::without_provenance_mut(number));
    // SAFETY: this operation reads and writes one such structure.
    let registered =
        unsafe { io_uring_register(ring, IoringRegisterOp::RegisterRingFds, (&raw const update).cast(), 1) };
    match registered {
        Ok(1) => Ok(()),
        Ok(_) => Err(Errno::INVAL),
        Err(error) => Err(error),
    }
}
