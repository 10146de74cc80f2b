//! A thread that may be lost: what others have written into files decides how long it takes, and how deep it gets.

use std::{
    sync::mpsc::{Receiver, Sender, channel, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{files::Files, guard};

/// So long is waited for an answer. A gigabyte of debug information that nobody has read yet is not read in a second.
const PATIENCE: Duration = Duration::from_secs(15);

/// So many threads may be lost; then nothing is named any more.
const MOST_LOST: usize = 4;

/// Inlined functions are read by recursion: far deeper than compilers inline, and no danger to memory.
const STACK: usize = 64 << 20;

type Task = Box<dyn FnOnce(&mut Files) + Send>;

/// The thread, and how many before it were lost.
#[derive(Default)]
pub(super) struct Worker {
    thread: Option<(Sender<Task>, JoinHandle<()>)>,
    lost: usize,
}

impl Worker {
    /// What a task answers; `None` where it does not.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        task: impl FnOnce(&mut Files) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask_within(PATIENCE, task)
    }

    pub(super) fn ask_within<T: Send + 'static>(
        &mut self,
        patience: Duration,
        task: impl FnOnce(&mut Files) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        let task: Task = Box::new(move |files| {
            // Nobody waits any more where it cannot be sent.
            let _ = reply.send(task(files));
        });
        self.tasks()?.send(task).ok()?;
        let answer = answer.recv_timeout(patience).ok();
        if answer.is_none() {
            // It keeps what it holds: it cannot be asked to stop.
            self.thread = None;
            self.lost += 1;
        }
        answer
    }

    fn tasks(&mut self) -> Option<&Sender<Task>> {
        if self.thread.is_none() && self.lost < MOST_LOST {
            let (sender, receiver) = channel();
            let thread = thread::Builder::new().name("symbols".to_owned()).stack_size(STACK);
            self.thread = Some((sender, thread.spawn(move || work(&receiver)).ok()?));
        }
        self.thread.as_ref().map(|(tasks, _)| tasks)
    }
}

/// The thread has answered all that it was asked, so it ends at once; and with it, what it has open is closed.
impl Drop for Worker {
    fn drop(&mut self) {
        if let Some((tasks, thread)) = self.thread.take() {
            drop(tasks);
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

fn work(tasks: &Receiver<Task>) {
    guard::expendable();
    let mut files = Files::default();
    while let Ok(task) = tasks.recv() {
        task(&mut files);
    }
}
