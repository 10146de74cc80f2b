//! One check: a command that runs under a tracer, or processes that are watched, and what is found of them.

mod archive;
pub(crate) mod join;
pub(crate) mod scopes;
mod until;

use std::{
    cell::Cell,
    ffi::OsString,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    process::Child,
    time::{Instant, sleep, sleep_until},
};

use self::{scopes::Announced, until::holds};
use super::{
    Failure,
    command::{self, Passed, Scope},
    recording::News,
    signals::Signals,
    tracing::{Attached, Tracing, ticker},
    user::Credentials,
};
use crate::{
    check::{Evaluator, Policy, Rule},
    collect::{Sink, Written},
    handles::{Fold, Snapshot},
    kernel::Settings,
    model::check::{CommandRun, Ended, Findings},
    record::{Limits, Recording},
    stream::Event,
    view::{Selection, View},
};

/// How often a history is written down, and what is new described.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether what the command left behind has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// What the command left behind may take this long even when somebody wants the check to end.
const HURRIED_TIMEOUT: Duration = Duration::from_millis(500);
/// A service that does not end when it is told to is killed after this time.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// What is to be checked, and how.
pub(crate) struct Check<'a> {
    /// The command to run; empty to watch processes that run already.
    pub(crate) command: &'a [OsString],
    /// How long those are watched.
    pub(crate) duration: Duration,
    /// A shell command that succeeds when a service has done what it was started for.
    pub(crate) until: Option<&'a str>,
    /// The signal that ends a service.
    pub(crate) signal: i32,
    /// Where the trace is kept.
    pub(crate) keep_trace: Option<&'a Path>,
    pub(crate) settings: Settings,
    /// The most calls that a site may keep.
    pub(crate) max_per_site: Option<u64>,
    /// How long what the command left behind may take.
    pub(crate) settle: Duration,
    /// How long sockets may be in CLOSE_WAIT.
    pub(crate) close_wait: Duration,
    pub(crate) policy: &'a Policy,
    pub(crate) passed: Passed,
    pub(crate) signals: Signals,
    pub(crate) news: News<'a>,
    /// Where to say what whoever waits should know at once.
    pub(crate) note: &'a dyn Fn(&str),
}

/// What came of a check.
pub(crate) struct Checked {
    pub(crate) findings: Findings,
    /// It was ended as it was to be ended: its status says nothing.
    pub(crate) as_told: bool,
}

/// The status that `env` has for a command that cannot be started, and why it cannot.
pub(crate) type NotStarted = (u8, String);

/// How the part that was watched came out.
struct Watched {
    ended: Ended,
    /// It is a service that ended by the signal that it was to end by.
    as_told: bool,
    /// What was found when it was told to.
    early: Option<Findings>,
    duration: Duration,
}

impl Check<'_> {
    /// Runs it; the inner error is a command that could not be started.
    pub(crate) async fn run(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<Result<Checked, NotStarted>, Failure> {
        let settings = &self.settings;
        let mut attached = Attached::attach(settings)?;
        attached.remarks().iter().for_each(|remark| (self.note)(remark));
        let evaluator = Arc::<Mutex<Evaluator>>::default();
        let trace = self.create_trace(&mut attached)?;
        let start_ns = attached.session.start_ns;
        let selection = Selection { closed_too: true, ..Selection::default() };
        let mut view = View::new(attached.session.clone(), selection);
        let sink = Watching { evaluator: Arc::clone(&evaluator), trace };
        let mut tables = attached.tables(settings)?;
        let mut tracing = attached.begin(Some(Box::new(sink)), true)?;
        let found = |view: &View, snapshot: &Snapshot| self.find(view, snapshot, &lock(&evaluator), start_ns);
        let mut announced = Announced::nobody();
        let watching = self.watch(&mut tracing, &mut view, &evaluator, credentials, &found, &mut announced);
        let watched = match watching.await? {
            Ok(watched) => watched,
            Err(reason) => return Ok(Err(reason)),
        };
        let snapshot = self.finish(&mut tracing, &mut view, &evaluator).await?;
        let mut findings = found(&view, &snapshot);
        findings.scopes = announced.found(&lock(&evaluator), start_ns);
        // Of a command that has ended nobody has a table any more.
        if self.command.is_empty() {
            let mut document = view.document("fdtrace.check/1", &snapshot);
            document.add_tables(tables.sample()?.full);
            findings.tables = document.processes;
        }
        drop(tracing);
        (findings.command.ended, findings.command.duration_ns) =
            (watched.ended, nanoseconds(watched.duration));
        if let Some(early) = watched.early {
            findings.evaluate_early(early);
        }
        self.policy.apply(&mut findings);
        Ok(Ok(Checked { findings, as_told: watched.as_told }))
    }

    const fn is_service(&self) -> bool {
        self.command.is_empty() || self.until.is_some()
    }

    fn create_trace(&self, attached: &mut Attached) -> Result<Option<Recording>, Failure> {
        let Some(path) = self.keep_trace else { return Ok(None) };
        let header = attached.header(&self.settings, &self.argv());
        let created = Recording::create(path, true, header, Limits::default());
        created.map(Some).map_err(|error| Failure::cannot_write(path, &error))
    }

    fn argv(&self) -> Vec<String> {
        self.command.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// Runs the command, or watches what runs; the inner error is a command that could not be started.
    async fn watch(
        &self,
        tracing: &mut Tracing,
        view: &mut View,
        evaluator: &Mutex<Evaluator>,
        credentials: Option<Credentials>,
        found: Found<'_>,
        announced: &mut Announced,
    ) -> Result<Result<Watched, NotStarted>, Failure> {
        if let Some(program) = command::file_of(self.command) {
            tracing.collector().prepare(program).await?;
        }
        let begun = Instant::now();
        if self.command.is_empty() {
            tracing.keep_only_what_is_needed()?;
            let end = begun + self.duration;
            self.signals.watch();
            watch_until(tracing, view, &self.signals, end).await?;
            self.signals.finish();
            let duration = begun.elapsed();
            return Ok(Ok(Watched { ended: Ended::Running, as_told: true, early: None, duration }));
        }
        let until = self.until;
        // A service ends when the check says so, and a check that is killed cannot say it any more.
        let last = until.and_then(|_| Signal::try_from(self.signal).ok());
        let start = || self.start(credentials, last, announced);
        let mut child = match self.signals.start(until.is_some(), start)? {
            Ok(child) => child,
            Err(reason) => return Ok(Err(reason)),
        };
        tracing.keep_only_what_is_needed()?;
        // What else fdtrace starts is not the command's.
        tracing.collector().unfollow(std::process::id()).await?;
        let service = until.map(|_| Service { found, evaluator, early: None });
        let (ended, as_told, early) =
            self.run_to_its_end(tracing, view, &mut child, service, (evaluator, announced)).await?;
        announced.close();
        self.signals.finish();
        let duration = begun.elapsed();
        self.settle(tracing, evaluator, child.id()).await?;
        Ok(Ok(Watched { ended, as_told, early, duration }))
    }

    /// Starts the command, which may announce scopes. From here to its end no signal ends fdtrace, so that their socket is
    /// removed.
    fn start(
        &self,
        credentials: Option<Credentials>,
        last: Option<Signal>,
        announced: &mut Announced,
    ) -> Result<Child, (u8, String)> {
        let user = credentials.as_ref().map(Credentials::ids);
        let (listening, error) = Announced::listen(user);
        *announced = listening;
        if let Some(error) = error {
            (self.note)(&format!("note: no scopes can be announced: {error}"));
        }
        let path = announced.path();
        let scope = path.as_deref().map_or(Scope::None, Scope::As);
        command::start(self.command, self.passed, credentials, last, scope)
    }

    /// Waits for what the command has left behind, for a while.
    async fn settle(
        &self,
        tracing: &Tracing,
        evaluator: &Mutex<Evaluator>,
        child: Option<u32>,
    ) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            tracing.collector().settle().await?;
            command::reap(&[child.unwrap_or(0)]);
            let haste = if self.signals.is_hurried() { HURRIED_TIMEOUT } else { Duration::MAX };
            let patience = self.settle.min(haste);
            if lock(evaluator).running().next().is_none() || begun.elapsed() >= patience {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// The last sample; names and holders of what is alive.
    async fn finish(
        &self,
        tracing: &mut Tracing,
        view: &mut View,
        evaluator: &Mutex<Evaluator>,
    ) -> Result<Snapshot, Failure> {
        tracing.collector().conclude().await?;
        let sample = tracing.sample(view).await?;
        if lock(evaluator).running().next().is_some() {
            tracing.name_live().await?;
            note_peers(tracing, evaluator)?;
        }
        // What was reported last is heard when this is answered.
        let written = tracing.collector().finish().await?;
        self.tell(&written, "the verdict does not need it");
        tracing.take_remarks().iter().for_each(|remark| (self.note)(remark));
        Ok(sample.snapshot)
    }

    /// What has been found by now; how the command ended is not known yet.
    fn find(&self, view: &View, snapshot: &Snapshot, evaluator: &Evaluator, start_ns: u64) -> Findings {
        let document = view.document("fdtrace.check/1", snapshot);
        let rule = Rule {
            max_per_site: self.max_per_site,
            growth: &|site, image| view.growth_of(site, image),
            close_wait_ms: u32::try_from(self.close_wait.as_millis()).unwrap_or(u32::MAX),
            services: self.is_service(),
            holds_code: &archive::holds_code,
        };
        let command = CommandRun { argv: self.argv(), ended: Ended::Running, duration_ns: 0 };
        Findings::of(evaluator, &rule, command, &document, snapshot, start_ns)
    }

    fn tell(&self, written: &Written, rest: &str) {
        if let Some(sentence) = self.news.of_written(written, rest) {
            (self.note)(&sentence);
        }
    }

    /// Runs the command to its end: how it ended, whether that was by the signal that it was to end by, and what a service
    /// had before.
    async fn run_to_its_end(
        &self,
        tracing: &mut Tracing,
        view: &mut View,
        child: &mut Child,
        mut service: Option<Service<'_>>,
        (evaluator, announced): (&Mutex<Evaluator>, &mut Announced),
    ) -> Result<(Ended, bool, Option<Findings>), Failure> {
        let signal = self.signal;
        let pid = child.id().unwrap_or(0);
        let mut samples = ticker(SAMPLE_INTERVAL);
        let shell = Cell::new(0);
        let mut condition = std::pin::pin!(holds(self.until, self.passed, &shell));
        let mut reported = false;
        let mut kill_at = None;
        loop {
            tokio::select! {
                biased;
                ended = child.wait() => {
                    let ended = command::ended(ended?);
                    let early = service.and_then(|service| service.early);
                    return Ok((ended, reported && ended == Ended::Signal(signal), early));
                }
                () = self.signals.stopped() => {
                    if let Some(service) = &mut service {
                        service.evaluator(tracing, view).await?;
                    }
                    self.signals.pass_on();
                }
                () = &mut condition, if !reported => {
                    reported = true;
                    if let Some(service) = &mut service {
                        service.evaluator(tracing, view).await?;
                    }
                    self.signals.send(signal);
                    kill_at = Some(Instant::now() + KILL_TIMEOUT);
                }
                () = at(kill_at) => {
                    kill_at = None;
                    self.signals.send(libc::SIGKILL);
                }
                _ = samples.tick() => {
                    command::reap(&[pid, shell.get()]);
                    // A service that was told to end gives back what it has.
                    if !reported {
                        tracing.sample(view).await?;
                        tracing.name_files()?;
                    }
                    let written = tracing.collector().flush().await?;
                    self.tell(&written, "the check goes on");
                }
                () = tracing.news() => {
                    command::reap(&[pid, shell.get()]);
                    tracing.enrich().await?;
                }
                // Last, for one who asks without end.
                request = announced.next() => {
                    announced.answer(request, tracing, evaluator, self.policy).await?;
                }
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is found at a sample, by whoever knows the rule.
type Found<'a> = &'a dyn Fn(&View, &Snapshot) -> Findings;

/// A command that is to be ended.
struct Service<'a> {
    found: Found<'a>,
    evaluator: &'a Mutex<Evaluator>,
    /// What it had when it was told to end.
    early: Option<Findings>,
}

impl Service<'_> {
    /// Before it is told to end, once: what it closes then is no merit.
    async fn evaluator(&mut self, tracing: &mut Tracing, view: &mut View) -> io::Result<()> {
        if self.early.is_some() {
            return Ok(());
        }
        tracing.collector().settle().await?;
        let sample = tracing.sample(view).await?;
        tracing.name_live().await?;
        // What was reported last is heard when this is answered.
        tracing.collector().flush().await?;
        note_peers(tracing, self.evaluator)?;
        self.early = Some((self.found)(view, &sample.snapshot));
        Ok(())
    }
}

/// Accepted sockets that are asked for their peers.
const MAX_ACCEPTED: usize = 1 << 14;

/// Which of the sockets that were accepted have a peer still.
fn note_peers(tracing: &mut Tracing, evaluator: &Mutex<Evaluator>) -> io::Result<()> {
    let accepted = lock(evaluator).accepted(MAX_ACCEPTED);
    if !accepted.is_empty() {
        let connected = tracing.connected(&accepted)?;
        lock(evaluator).connected(&connected);
    }
    Ok(())
}

/// Watches what runs, until a moment or a signal.
async fn watch_until(
    tracing: &mut Tracing,
    view: &mut View,
    signals: &Signals,
    end: Instant,
) -> Result<(), Failure> {
    let mut samples = ticker(SAMPLE_INTERVAL);
    loop {
        tokio::select! {
            () = sleep_until(end) => return Ok(()),
            () = signals.stopped() => return Ok(()),
            _ = samples.tick() => drop(tracing.sample(view).await?),
            () = tracing.news() => tracing.enrich().await?,
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Where the stream goes: to the evaluator, and into a trace file if there is one.
struct Watching {
    evaluator: Arc<Mutex<Evaluator>>,
    trace: Option<Recording>,
}

/// A evaluator that panicked is one that nobody asks again.
pub(crate) fn lock(evaluator: &Mutex<Evaluator>) -> MutexGuard<'_, Evaluator> {
    evaluator.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for Watching {
    fn write(&mut self, events: &[Event], fold: &Fold) {
        let mut evaluator = lock(&self.evaluator);
        events.iter().for_each(|event| evaluator.apply(event));
        drop(evaluator);
        if let Some(trace) = &mut self.trace {
            trace.write(events, fold);
        }
    }

    fn flush(&mut self) -> Written {
        self.trace.as_mut().map_or_else(Written::default, Sink::flush)
    }

    fn finish(&mut self) -> Written {
        self.trace.as_mut().map_or_else(Written::default, Sink::finish)
    }
}
