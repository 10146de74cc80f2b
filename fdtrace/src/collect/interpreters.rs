//! Interpreters are recognised in a thread of their own: the one that completes stacks may have much to read while a script
//! opens its first files.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use crate::{
    kernel::{self, Capabilities, Interpreters},
    stacks::{Modules, Readers, Recogniser},
};

/// Programs that may wait; of those that find no room, the first stacks are without calls of scripts.
const MAX_WAITING: usize = 1024;

/// The thread, until this is dropped.
pub(super) struct Recognition {
    programs: SyncSender<(u32, PathBuf)>,
    /// Ends when those that run already are recognised.
    pub(super) began: Option<Receiver<()>>,
}

impl Recognition {
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        interpreters: Interpreters,
        modules: Arc<Modules>,
        readers: &Readers,
        kept: Capabilities,
    ) -> kernel::Result<Self> {
        let (programs, waiting) = sync_channel::<(u32, PathBuf)>(MAX_WAITING);
        let (beginning, began) = sync_channel::<()>(0);
        let mut recogniser = Recogniser::new(modules, readers, interpreters);
        std::thread::Builder::new()
            .name("fdtrace-scripts".to_owned())
            .spawn(move || {
                let _ = kept.keep_only();
                recogniser.note_running();
                recogniser.note_installed();
                drop(beginning);
                for (pid, path) in waiting {
                    recogniser.note_program(pid, &path);
                }
            })
            .map_err(kernel::system("a thread cannot be started"))?;
        Ok(Self { programs, began: Some(began) })
    }

    /// A process began to run a program.
    pub(super) fn note_program(&self, pid: u32, path: PathBuf) {
        // Where there is no room, it is recognised when its tables are read.
        let _ = self.programs.try_send((pid, path));
    }
}
