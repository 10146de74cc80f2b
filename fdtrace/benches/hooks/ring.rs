//! What comes through the ring, and what is answered to it.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use fdtrace::{
    kernel::RuleBook,
    stacks::{Completer, Modules, Readers},
    stream::{Event, Record, Side, Stack, StackDump, decode},
};
use fdtrace_common::wire::Tag;

/// What has come through.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) bytes: usize,
    /// Of them, the records of handles: what comes and goes, and not from where.
    pub(crate) handle_bytes: usize,
    pub(crate) windows: u32,
}

/// A chain of the load.
#[derive(Clone, Copy, Default)]
pub(crate) struct Depth {
    pub(crate) frames: usize,
    pub(crate) complete: bool,
}

/// Windows that may wait for the one who completes them, as in the collector.
const MAX_WAITING: usize = 1024;

/// Takes what comes, and has stacks completed as the collector has: by a thread, so that the ring is emptied
/// meanwhile.
pub(crate) struct Reader {
    work: SyncSender<(Stack, StackDump)>,
    begun: HashMap<u64, Stack>,
    /// The process whose chains are looked at.
    load: u32,
    start: Instant,
    pub(crate) traffic: Traffic,
    /// The user's half of the last chain of the load that the kernel side has followed by itself.
    pub(crate) depth: Depth,
    /// When the last window came, since the start.
    pub(crate) last_window: Duration,
    /// Chains that too many others waited before.
    pub(crate) given_up: u64,
}

fn complete(waiting: &Receiver<(Stack, StackDump)>, mut completer: Completer, mut rules: RuleBook) {
    for (begun, window) in waiting {
        let completed = completer.complete(begun, &window, None);
        rules.learn(&completed.rules, &completed.code);
    }
}

impl Reader {
    pub(crate) fn start(rules: RuleBook, load: u32, readers: &Readers) -> Self {
        let (work, waiting) = sync_channel(MAX_WAITING);
        let completer = Completer::new(Modules::default().into(), readers);
        thread::spawn(move || complete(&waiting, completer, rules));
        Self {
            work,
            begun: HashMap::new(),
            load,
            start: Instant::now(),
            traffic: Traffic::default(),
            depth: Depth::default(),
            last_window: Duration::ZERO,
            given_up: 0,
        }
    }

    pub(crate) fn take(&mut self, record: &[u8]) {
        self.traffic.bytes += record.len();
        let is = |tag: Tag| record.first() == Some(&(tag as u8));
        if is(Tag::Alloc) || is(Tag::Release) {
            self.traffic.handle_bytes += record.len();
        } else if is(Tag::Stack) || is(Tag::StackDump) {
            // Bytes that are no record are a defect of the programs, which the tests find.
            decode(record).into_iter().for_each(|record| self.follow(record));
        }
    }

    fn follow(&mut self, record: Record) {
        match record {
            Record::Event(Event::Stack(stack)) | Record::NativeStack(stack) => self.meet(&stack),
            Record::Event(_) | Record::What(_) | Record::ScriptCalls(_) | Record::CodeObject(_) => {}
            Record::PartialStack(stack) => drop(self.begun.insert(stack.hash, stack)),
            Record::StackDump(window) => self.go_on(window),
        }
    }

    fn meet(&mut self, stack: &Stack) {
        if stack.tgid == self.load && stack.side != Side::Kernel {
            let frames = stack.frames.len() / stack.side.words();
            self.depth = Depth { frames, complete: stack.complete };
        }
    }

    fn go_on(&mut self, window: StackDump) {
        self.traffic.windows += 1;
        self.last_window = self.start.elapsed();
        let Some(begun) = self.begun.remove(&window.hash) else { return };
        self.given_up += u64::from(self.work.try_send((begun, window)).is_err());
    }
}

impl Traffic {
    /// What has come since it was as `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            handle_bytes: self.handle_bytes - before.handle_bytes,
            windows: self.windows - before.windows,
        }
    }

    /// All but the records of handles.
    pub(crate) const fn chain_bytes(self) -> usize {
        self.bytes - self.handle_bytes
    }
}
