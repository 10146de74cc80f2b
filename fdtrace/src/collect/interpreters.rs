//! Interpreters that are started are recognised in a thread of their own: the one that completes stacks may have much to read
//! while a script opens its first files.

use std::{
    path::PathBuf,
    sync::mpsc::{SyncSender, sync_channel},
};

use crate::{
    kernel::{self, Capabilities, Interpreters},
    stacks::Recogniser,
};

/// Programs that may wait; of those that find no room, the first stacks are without calls of scripts.
const MAX_WAITING: usize = 1024;

/// The thread, until this is dropped.
pub(super) struct Recognition(SyncSender<(u32, PathBuf)>);

impl Recognition {
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        interpreters: Interpreters,
        mut recogniser: Recogniser,
        kept: Capabilities,
    ) -> kernel::Result<Self> {
        let (programs, waiting) = sync_channel::<(u32, PathBuf)>(MAX_WAITING);
        std::thread::Builder::new()
            .name("fdtrace-scripts".to_owned())
            .spawn(move || {
                let _ = kept.keep_only();
                for (pid, path) in waiting {
                    recogniser.note_program(pid, &path);
                    interpreters.learn(&recogniser.take());
                }
            })
            .map_err(kernel::system("a thread cannot be started"))?;
        Ok(Self(programs))
    }

    /// A process began to run a program.
    pub(super) fn note_program(&self, pid: u32, path: PathBuf) {
        // Where there is no room, it is recognised when its tables are read.
        let _ = self.0.try_send((pid, path));
    }
}
