//! Stacks that the kernel side could not follow to their end, since nobody had been there before.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, TrySendError, channel, sync_channel},
    },
};

use tokio::sync::oneshot;

use super::interpreters::Recognition;
use crate::{
    kernel::{self, Capabilities, Interpreters, RuleBook},
    stacks::{Completed, Completer, Modules, Readers, Recogniser, merge},
    stream::{CodeObject, Event, ScriptCalls, Stack, StackDump},
};

/// Dumps that may wait for the one who completes them; most have one or two kilobytes, none more than sixteen.
const MAX_WAITING: usize = 4096;

/// Stacks that may wait for their dumps, which come right behind them.
const MAX_BEGUN: usize = 64;

/// What the thread is given.
enum Work {
    /// A stack to be completed.
    Stack(Stack, StackDump, Option<ScriptCalls>),
    /// Processes began to run programs.
    Programs(Arc<[(u32, PathBuf)]>),
    /// A program will be run, which waits for its tables.
    Prepare(PathBuf, oneshot::Sender<()>),
}

/// Has stacks completed in a thread of its own, which may have to read files that are slow to read.
pub(super) struct PendingStacks {
    work: SyncSender<Work>,
    done: Receiver<Stack>,
    recognition: Recognition,
    /// Programs that were begun and that nobody was told of.
    programs: Vec<(u32, PathBuf)>,
    partial: HashMap<u64, Stack>,
    /// Calls of scripts, whose stacks come right behind them.
    calls: HashMap<u64, ScriptCalls>,
    modules: Arc<Modules>,
    /// How many are being completed.
    under_way: usize,
    /// Stacks that stay as they are.
    cut: Vec<Stack>,
    /// How many of those there were.
    pub(super) lost: u64,
}

impl PendingStacks {
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        rules: RuleBook,
        modules: Arc<Modules>,
        readers: &Readers,
        recogniser: Recogniser,
        kept: Capabilities,
    ) -> kernel::Result<Self> {
        let (work, waiting) = sync_channel(MAX_WAITING);
        let (finished, done) = channel();
        let completer = Completer::new(Arc::clone(&modules), readers);
        let recognition = Recognition::start(rules.interpreters(), recogniser, kept)?;
        std::thread::Builder::new()
            .name("fdtrace-unwind".to_owned())
            .spawn(move || {
                let _ = kept.keep_only();
                complete(&waiting, &finished, rules, completer);
            })
            .map_err(kernel::system("a thread cannot be started"))?;
        Ok(Self {
            work,
            done,
            recognition,
            programs: Vec::new(),
            partial: HashMap::new(),
            calls: HashMap::new(),
            modules,
            under_way: 0,
            cut: Vec::new(),
            lost: 0,
        })
    }

    /// The inner part of a stack.
    pub(super) fn begin(&mut self, stack: Stack) {
        if self.partial.len() >= MAX_BEGUN {
            // Their dumps found no room in the ring.
            let lost: Vec<Stack> = self.partial.drain().map(|(_, stack)| stack).collect();
            lost.into_iter().for_each(|stack| self.give_up(stack));
        }
        self.partial.insert(stack.hash, stack);
    }

    /// What is in a code object.
    pub(super) fn note_code(&self, code: CodeObject) {
        self.modules.scripts.note(code);
    }

    /// Calls of scripts, of a stack that comes.
    pub(super) fn note_calls(&mut self, calls: ScriptCalls) {
        if self.calls.len() >= MAX_BEGUN {
            // Their stacks found no room in the ring.
            self.calls.clear();
        }
        self.calls.insert(calls.hash, calls);
    }

    /// A stack with its calls among its native frames.
    pub(super) fn with_calls(&mut self, stack: Stack) -> Stack {
        let Some(calls) = self.calls.remove(&stack.hash) else { return stack };
        let loops = self.modules.scripts.loops(calls.module);
        Stack { frames: merge(&stack.frames, &calls.stacks, &calls, &loops), ..stack }
    }

    /// What is needed to complete it.
    pub(super) fn go_on(&mut self, dump: StackDump) {
        let Some(partial) = self.partial.remove(&dump.hash) else { return };
        // Where its files are has to be known first: its process may be gone.
        self.tell_of_programs();
        let calls = self.calls.remove(&dump.hash);
        match self.work.try_send(Work::Stack(partial, dump, calls)) {
            Ok(()) => self.under_way += 1,
            Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) => {
                if let Work::Stack(partial, ..) = work {
                    self.give_up(partial);
                }
            }
        }
    }

    /// A program was begun.
    pub(super) fn note_program(&mut self, event: &Event) {
        if let Event::Exec { tgid, path, .. } = event {
            self.programs.push((*tgid, PathBuf::from(OsStr::from_bytes(path))));
        }
    }

    /// Tells of the programs that were begun: of many at once, since whoever is told wakes up for it.
    pub(super) fn tell_of_programs(&mut self) {
        if !self.programs.is_empty() {
            let programs: Arc<[(u32, PathBuf)]> = std::mem::take(&mut self.programs).into();
            self.recognition.note_programs(Arc::clone(&programs));
            // Where there is no room, a program is found while its process is there, or not at all.
            let _ = self.work.try_send(Work::Programs(programs));
        }
    }

    /// Has the tables of a program read that will be run, and says when that is done.
    pub(super) fn prepare(&self, path: PathBuf, reply: oneshot::Sender<()>) {
        if let Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) =
            self.work.try_send(Work::Prepare(path, reply))
            && let Work::Prepare(_, reply) = work
        {
            // Its tables are read when they are needed.
            let _ = reply.send(());
        }
    }

    fn give_up(&mut self, stack: Stack) {
        self.lost += 1;
        self.cut.push(stack);
    }

    /// Stacks that are as complete as they will be.
    pub(super) fn take(&mut self) -> Vec<Event> {
        let mut stacks: Vec<Stack> = self.done.try_iter().collect();
        self.under_way -= stacks.len();
        stacks.append(&mut self.cut);
        stacks.into_iter().map(Event::Stack).collect()
    }

    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Nobody waits any longer for those that are under way.
    pub(super) const fn give_up_all(&mut self) {
        self.lost += self.under_way as u64;
    }
}

fn complete(
    waiting: &Receiver<Work>,
    finished: &Sender<Stack>,
    mut rules: RuleBook,
    mut completer: Completer,
) {
    let interpreters = rules.interpreters();
    while let Some(work) = next(waiting, &mut completer, &interpreters) {
        let (partial, dump, calls) = match work {
            Work::Stack(partial, dump, calls) => (partial, dump, calls),
            Work::Programs(programs) => {
                programs.iter().for_each(|(process, path)| completer.note_program(*process, path));
                continue;
            }
            Work::Prepare(path, reply) => {
                // Before it runs its program, a new process is a copy of this one, and its stacks come first.
                for path in [Path::new("/proc/self/exe"), &path] {
                    completer.prepare(path);
                }
                while completer.read_ahead() {}
                interpreters.learn(&completer.take_interpreters());
                // Whoever asked may have gone.
                let _ = reply.send(());
                continue;
            }
        };
        let Completed { stack, rules: learnt, code } = completer.complete(partial, &dump, calls.as_ref());
        interpreters.learn(&completer.take_interpreters());
        rules.learn(&learnt, &code);
        if finished.send(stack).is_err() {
            return;
        }
    }
}

/// What is to be done next; tables are read ahead while that is nothing.
fn next(waiting: &Receiver<Work>, completer: &mut Completer, interpreters: &Interpreters) -> Option<Work> {
    loop {
        match waiting.try_recv() {
            Ok(work) => return Some(work),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if completer.read_ahead() => {
                interpreters.learn(&completer.take_interpreters());
            }
            Err(TryRecvError::Empty) => return waiting.recv().ok(),
        }
    }
}
