//! Interpreters that are started are recognised in a thread of their own: the one that completes stacks may have much to read
//! while a script opens its first files.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use crate::{
    kernel::{self, Capabilities, Interpreters},
    stacks::Recogniser,
};

/// Batches of programs that may wait; of those that find no room, the first stacks are without calls of scripts.
const MAX_WAITING: usize = 1024;

/// How long there is nothing to do before it is looked whether memory can be given up.
const PAUSE: Duration = Duration::from_secs(10);

/// The thread, until this is dropped.
pub(super) struct Recognition(SyncSender<Arc<[(u32, PathBuf)]>>);

fn note(recogniser: &mut Recogniser, programs: &[(u32, PathBuf)], interpreters: &Interpreters) {
    for (pid, path) in programs {
        recogniser.note_program(*pid, path);
        interpreters.learn(&recogniser.take());
    }
}

impl Recognition {
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        interpreters: Interpreters,
        mut recogniser: Recogniser,
        kept: Capabilities,
    ) -> kernel::Result<Self> {
        let (programs, waiting) = sync_channel::<Arc<[(u32, PathBuf)]>>(MAX_WAITING);
        std::thread::Builder::new()
            .name("fdtrace-scripts".to_owned())
            .spawn(move || {
                let _ = kept.keep_only();
                loop {
                    match waiting.recv_timeout(PAUSE) {
                        Ok(programs) => note(&mut recogniser, &programs, &interpreters),
                        Err(RecvTimeoutError::Timeout) => recogniser.rest(),
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            })
            .map_err(kernel::system("a thread cannot be started"))?;
        Ok(Self(programs))
    }

    /// Processes began to run programs.
    pub(super) fn note_programs(&self, programs: Arc<[(u32, PathBuf)]>) {
        // Where there is no room, one is recognised when its tables are read.
        let _ = self.0.try_send(programs);
    }
}
