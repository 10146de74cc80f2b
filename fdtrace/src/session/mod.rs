//! What the verbs do: start tracers, run commands under them, walk over holders, join the two. It prints nothing.

pub(crate) mod check;
pub(crate) mod command;
pub(crate) mod explain;
mod failure;
pub(crate) mod load_json;
pub(crate) mod pause;
pub(crate) mod privilege;
pub(crate) mod recording;
pub(crate) mod signals;
pub(crate) mod trace_join;
pub(crate) mod tracing;
pub(crate) mod user;

use std::{fs::File, io};

pub(crate) use failure::Failure;
use tokio::runtime::{Builder, Runtime};

/// Descriptors that a runtime needs, which panics without them.
const ROOM: usize = 16;

/// What waits for events, signals of children and moments, in this thread alone.
pub(crate) fn runtime() -> io::Result<Runtime> {
    let room: io::Result<Vec<File>> = (0..ROOM).map(|_| File::open("/dev/null")).collect();
    drop(room.map_err(|error| io::Error::other(format!("no room for {ROOM} more open files: {error}")))?);
    Builder::new_current_thread().enable_all().build()
}
