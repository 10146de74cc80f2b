//! What others can ask of the collector.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use tokio::sync::{Notify, oneshot};

use super::{
    waker::{Ringer, waker},
    worker::{Setup, Worker},
};
use crate::{
    handles::{Fold, FreshGroup, Snapshot},
    kernel::ProgramCost,
    stream::{Event, Fact},
};

/// Where the stream goes besides the fold: a trace file.
pub trait Sink: Send {
    /// Takes events, in the order of the stream. The fold is what all events before them amount to, for a sink that has
    /// to begin a new file.
    fn write(&mut self, events: &[Event], fold: &Fold);

    /// Makes all that was taken readable, and says how far the file is.
    fn flush(&mut self) -> Written;

    /// The stream has ended as it should.
    fn finish(&mut self) -> Written;
}

/// How far a sink is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes in the file.
    pub bytes: u64,
    /// The file has reached the size that it may have.
    pub full: bool,
    /// Why it could not be written further: a full disk.
    pub failure: Option<String>,
}

/// What a sample gives.
#[derive(Clone, Debug)]
pub struct Sample {
    /// All that is known.
    pub snapshot: Snapshot,
    /// What the programs have cost.
    pub costs: Vec<ProgramCost>,
}

pub(super) enum Request {
    /// The age from which handles count as aged, in ns.
    Sample(u64, oneshot::Sender<Sample>),
    Sweep,
    CatchUp(oneshot::Sender<()>),
    Settle(oneshot::Sender<()>),
    Conclude(oneshot::Sender<()>),
    Prepare(PathBuf, oneshot::Sender<()>),
    WatchQueues(oneshot::Sender<()>),
    Fresh(oneshot::Sender<Vec<FreshGroup>>),
    Oldest(usize, oneshot::Sender<Vec<(u64, u64)>>),
    Tell(Vec<Fact>),
    Flush(oneshot::Sender<Written>),
    Finish(oneshot::Sender<Written>),
    Unfollow(u32, oneshot::Sender<()>),
    WatchDescriptors(oneshot::Sender<bool>),
    TimePrograms(bool),
    Stop,
}

/// A running collector.
pub struct Collector {
    requests: Sender<Request>,
    ringer: Ringer,
    /// Told when there are groups that are new.
    news: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started, or the programs' maps cannot be shared.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let (ringer, waker) = waker()?;
        let news = Arc::<Notify>::default();
        let worker = Worker::new(setup, waker, Arc::clone(&news)).map_err(io::Error::other)?;
        let thread =
            std::thread::Builder::new().name("fdtrace-drain".to_owned()).spawn(move || worker.run(&inbox))?;
        Ok(Self { requests, ringer, news, thread: Some(thread) })
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> io::Result<T> {
        let gone = || io::Error::other("the collector's thread has ended; this is a defect of fdtrace");
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| gone())?;
        self.ringer.ring();
        answer.await.map_err(|_| gone())
    }

    /// All that is known now. Handles of at least `min_age_ns` are counted apart.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn sample(&self, min_age_ns: u64) -> io::Result<Sample> {
        self.ask(|reply| Request::Sample(min_age_ns, reply)).await
    }

    /// In the min-age filter: takes in what has become old enough by now.
    pub fn sweep(&self) {
        let _ = self.requests.send(Request::Sweep);
    }

    /// Reads what is needed to follow the stacks of a program, which is about to be run.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn prepare(&self, program: PathBuf) -> io::Result<()> {
        self.ask(|reply| Request::Prepare(program, reply)).await?;
        // Its first requests are followed too.
        self.ask(Request::WatchQueues).await
    }

    /// Takes in all that has happened before this is asked: when it is answered, it has gone into the stream.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn catch_up(&self) -> io::Result<()> {
        self.ask(Request::CatchUp).await
    }

    /// Waits for stacks that are being completed, for a while.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn settle(&self) -> io::Result<()> {
        self.ask(Request::Settle).await
    }

    /// Waits for what the last sample has to know: stacks that are being completed, and whether releases that the
    /// kernel skipped have left handles that are gone. Where nothing was skipped, nobody waits for that.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn conclude(&self) -> io::Result<()> {
        self.ask(Request::Conclude).await
    }

    /// Waits until there are groups that are new, or some whose stacks may have come through by now.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Groups that are new since the last time that this was asked.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn fresh(&self) -> io::Result<Vec<FreshGroup>> {
        self.ask(Request::Fresh).await
    }

    /// The oldest live handles, at most so many, by address and generation.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn oldest(&self, most: usize) -> io::Result<Vec<(u64, u64)>> {
        self.ask(|reply| Request::Oldest(most, reply)).await
    }

    /// Tells what was found out; it becomes part of the stream.
    pub fn tell(&self, facts: Vec<Fact>) {
        if !facts.is_empty() {
            // A collector that is gone needs to know nothing.
            let _ = self.requests.send(Request::Tell(facts));
        }
    }

    /// Makes the trace file readable up to now, and says how far it is.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn flush(&self) -> io::Result<Written> {
        self.ask(Request::Flush).await
    }

    /// Ends the trace file.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn finish(&self) -> io::Result<Written> {
        self.ask(Request::Finish).await
    }

    /// Stops following what a process starts from now on; what it has started is followed still.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn unfollow(&self, pid: u32) -> io::Result<()> {
        self.ask(|reply| Request::Unfollow(pid, reply)).await
    }

    /// Watches from now on who installs descriptors for handles that were there before; says whether that can be seen.
    ///
    /// # Errors
    /// When the collector is gone.
    pub async fn watch_descriptors(&self) -> io::Result<bool> {
        self.ask(Request::WatchDescriptors).await
    }

    /// Turns the timing of BPF programs on or off.
    pub fn time_programs(&self, on: bool) {
        let _ = self.requests.send(Request::TimePrograms(on));
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Stop);
        self.ringer.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}
