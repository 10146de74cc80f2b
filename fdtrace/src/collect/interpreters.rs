//! Interpreters are recognised in a thread of their own: the one that completes stacks may have much to read while a script
//! opens its first files.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use crate::{
    kernel::{self, Capabilities, Interpreters},
    stacks::{Modules, Readers, Recogniser},
};

/// Programs that may wait; of those that find no room, the first stacks are without calls of scripts.
const MAX_WAITING: usize = 1024;

/// The longest that anybody waits for the interpreters that run already: there may be thousands of processes.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread, until this is dropped.
pub(super) struct Recognition(SyncSender<(u32, PathBuf)>);

/// Ends when the interpreters that are installed are recognised.
pub(super) struct Installed(Receiver<()>);

impl Recognition {
    /// Returns when the interpreters that run already are recognised.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        interpreters: Interpreters,
        modules: Arc<Modules>,
        readers: &Readers,
        kept: Capabilities,
    ) -> kernel::Result<(Self, Installed)> {
        let (programs, waiting) = sync_channel::<(u32, PathBuf)>(MAX_WAITING);
        let (done, begun) = sync_channel(1);
        let mut recogniser = Recogniser::new(modules, readers, interpreters);
        std::thread::Builder::new()
            .name("fdtrace-scripts".to_owned())
            .spawn(move || {
                let _ = kept.keep_only();
                recogniser.note_running();
                let _ = done.send(());
                recogniser.note_installed();
                drop(done);
                for (pid, path) in waiting {
                    recogniser.note_program(pid, &path);
                }
            })
            .map_err(kernel::system("a thread cannot be started"))?;
        let _ = begun.recv_timeout(PATIENCE);
        Ok((Self(programs), Installed(begun)))
    }

    /// A process began to run a program.
    pub(super) fn note_program(&self, pid: u32, path: PathBuf) {
        // Where there is no room, it is recognised when its tables are read.
        let _ = self.0.try_send((pid, path));
    }
}

impl Installed {
    pub(super) fn wait(&self) {
        while self.0.recv().is_ok() {}
    }
}
