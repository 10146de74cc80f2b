//! One check, from attaching to the exit status.

use std::{
    cell::Cell,
    io,
    path::PathBuf,
    process::{ExitCode, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    super::{
        Failure, fail,
        options::Watch,
        tracing::{Attached, Tracing, WITNESS, ticker},
    },
    Arguments, command,
    command::Passed,
    project::Project,
    signals::{self, Signals},
    steering::Settled,
    user::Credentials,
};
use crate::{
    check::{CommandRun, Ended, Findings, Judge, Rule, Verdict},
    collect::{Sink, Written},
    handles::{Fold, Snapshot},
    kernel::{Acquisitions, Filters, Settings},
    process,
    record::{Limits, Recording},
    report,
    stream::Event,
    view::{Selection, View},
};

/// How often a history is written down, and what is new described.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether what the command left behind has ended.
const SETTLING: Duration = Duration::from_millis(10);
/// Between two tries of `--until`.
const RETRY: Duration = Duration::from_millis(200);
/// A service that does not end when it is told to is killed after this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// What this kernel's table of handles was too small for, or too much was lost.
const INCONCLUSIVE: u8 = 24;

pub(super) fn check(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let passed = Passed::read()?;
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let project = Project::find(&folder)?;
    let settled = arguments.steering.settle(project.as_ref())?;
    let credentials = arguments.user.as_deref().map(Credentials::find).transpose()?;
    arguments.reports.prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Check { arguments, settled, passed }.run(credentials))
}

struct Check<'a> {
    arguments: &'a Arguments,
    settled: Settled,
    passed: Passed,
}

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
    async fn run(&self, credentials: Option<Credentials>) -> Result<ExitCode, Failure> {
        let settings = self.settings()?;
        let mut attached = Attached::attach(&settings)?;
        let mut signals = Signals::take()?;
        let judge = Arc::<Mutex<Judge>>::default();
        let trace = self.create_trace(&mut attached, &settings)?;
        let start_ns = attached.session.start_ns;
        let selection = Selection { closed_too: true, ..Selection::default() };
        let mut view = View::new(attached.session.clone(), selection);
        let sink = Watching { judge: Arc::clone(&judge), trace };
        let mut tables = attached.tables(&settings)?;
        let mut tracing = attached.begin(Some(Box::new(sink)), true)?;
        let found = |view: &View, snapshot: &Snapshot| self.find(view, snapshot, &lock(&judge), start_ns);
        let watched = self.watch(&mut tracing, &mut view, &mut signals, &judge, credentials, &found).await?;
        let watched = match watched {
            Ok(watched) => watched,
            Err((status, sentence)) => return Ok(fail(&sentence, status)),
        };
        let snapshot = self.finish(&mut tracing, &mut view, &judge).await?;
        let mut findings = found(&view, &snapshot);
        // Of a command that has ended nobody has a table any more.
        if self.arguments.command.is_empty() {
            let mut document = view.document("fdtrace.check/1", &snapshot);
            document.add_tables(tables.look()?.full);
            findings.tables = document.processes;
        }
        drop(tracing);
        (findings.command.ended, findings.command.duration_ns) =
            (watched.ended, nanoseconds(watched.duration));
        if let Some(early) = watched.early {
            (findings.sites, findings.judged_early) = (early.sites, true);
        }
        self.settled.steering.apply(&mut findings);
        self.say(&findings, watched.as_told)
    }

    fn settings(&self) -> Result<Settings, Failure> {
        // The command is our child: whoever follows us follows it from its first moment, and we trace nothing of ours.
        let pids = match self.arguments.pids.as_slice() {
            [] => vec![std::process::id()],
            pids => match pids.iter().find(|pid| !process::exists(**pid)) {
                Some(gone) => return Err(Failure::Usage(format!("there is no process {gone}"))),
                None => process::with_descendants(pids),
            },
        };
        let filters = Filters { pids, follow: true, ..Filters::default() };
        self.arguments.trace.settings(
            filters,
            Watch {
                mappings: true,
                leaving: true,
                descriptors: Acquisitions::Watched,
                min_age: Duration::ZERO,
            },
        )
    }

    fn create_trace(
        &self,
        attached: &mut Attached,
        settings: &Settings,
    ) -> Result<Option<Recording>, Failure> {
        let Some(path) = &self.arguments.keep_trace else { return Ok(None) };
        let header = attached.header(settings, &self.argv());
        let created = Recording::create(path, true, header, Limits::default());
        created.map(Some).map_err(|error| Failure::cannot_write(path, &error))
    }

    fn argv(&self) -> Vec<String> {
        self.arguments.command.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// Runs the command, or watches what runs; the inner error is a command that could not be started.
    async fn watch(
        &self,
        tracing: &mut Tracing,
        view: &mut View,
        signals: &mut Signals,
        judge: &Mutex<Judge>,
        credentials: Option<Credentials>,
        found: Found<'_>,
    ) -> Result<Result<Watched, (u8, String)>, Failure> {
        if let Some(program) = command::file_of(&self.arguments.command) {
            tracing.collector().prepare(program).await?;
        }
        let begun = Instant::now();
        if self.arguments.command.is_empty() {
            tracing.keep_only_what_is_needed()?;
            let end = begun + self.arguments.duration.unwrap_or_default();
            watch_until(tracing, view, signals, end).await?;
            let duration = begun.elapsed();
            return Ok(Ok(Watched { ended: Ended::Running, as_told: true, early: None, duration }));
        }
        let mut child = match command::start(&self.arguments.command, self.passed, credentials) {
            Ok(child) => child,
            Err(reason) => return Ok(Err(reason)),
        };
        tracing.keep_only_what_is_needed()?;
        // What else fdtrace starts is not the command's.
        tracing.collector().unfollow(std::process::id()).await?;
        let until = self.arguments.until.as_deref();
        let service = until.map(|until| Service { until, found, early: None });
        let (ended, as_told, early) =
            run(tracing, view, signals, &mut child, service, self.arguments.signal).await?;
        let duration = begun.elapsed();
        self.settle(tracing, judge, child.id()).await?;
        Ok(Ok(Watched { ended, as_told, early, duration }))
    }

    /// Waits for what the command has left behind, for a while.
    async fn settle(&self, tracing: &Tracing, judge: &Mutex<Judge>, child: Option<u32>) -> io::Result<()> {
        let deadline = Instant::now() + self.settled.settle;
        loop {
            tracing.collector().settle().await?;
            command::reap(&[child.unwrap_or(0)]);
            if lock(judge).running().next().is_none() || Instant::now() >= deadline {
                return Ok(());
            }
            sleep(SETTLING).await;
        }
    }

    /// The last look; names and holders of what is alive.
    async fn finish(
        &self,
        tracing: &mut Tracing,
        view: &mut View,
        judge: &Mutex<Judge>,
    ) -> Result<Snapshot, Failure> {
        tracing.collector().conclude().await?;
        let look = tracing.look(view).await?;
        if lock(judge).running().next().is_some() {
            tracing.name_survivors().await?;
        }
        // What was told last is heard when this is answered.
        tracing.collector().flush().await?;
        tracing.collector().finish().await?;
        tracing.say_remarks();
        Ok(look.snapshot)
    }

    /// What has been found by now; how the command ended is not known yet.
    fn find(&self, view: &View, snapshot: &Snapshot, judge: &Judge, start_ns: u64) -> Findings {
        let document = view.document("fdtrace.check/1", snapshot);
        let rule = Rule {
            max_per_site: self.settled.max_per_site,
            growth: &|site, image| view.growth_of(site, image),
            close_wait_ms: u32::try_from(self.settled.close_wait.as_millis()).unwrap_or(u32::MAX),
            services: self.arguments.command.is_empty() || self.arguments.until.is_some(),
        };
        let command = CommandRun { argv: self.argv(), ended: Ended::Running, duration_ns: 0 };
        Findings::of(judge, &rule, command, &document, snapshot, start_ns)
    }

    fn say(&self, findings: &Findings, as_told: bool) -> Result<ExitCode, Failure> {
        // Whatever cannot be written, the rest is.
        let text = report::check::write_text(
            &mut io::stderr().lock(),
            findings,
            self.arguments.output.error_style(),
        );
        let reports = self.arguments.reports.write(findings);
        let baseline = self.settled.write_baseline(findings)?;
        if let Some((path, sites)) = baseline {
            let known = report::words::counted(sites as u64, "known leak");
            eprintln!("fdtrace: {known} written to {}", path.display());
        }
        reports?;
        text?;
        Ok(ExitCode::from(match findings.verdict {
            // Whoever writes a baseline has decided to live with what leaks.
            Verdict::Leak if baseline.is_none() => self.settled.leak_exit_code,
            Verdict::Inconclusive => INCONCLUSIVE,
            _ if as_told => 0,
            _ => findings.command.ended.status().map_or(0, |status| u8::try_from(status).unwrap_or(u8::MAX)),
        }))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is found at a look, by whoever knows the rule.
type Found<'a> = &'a dyn Fn(&View, &Snapshot) -> Findings;

/// A command that is to be ended.
struct Service<'a> {
    until: &'a str,
    found: Found<'a>,
    /// What it had when it was told to end.
    early: Option<Findings>,
}

impl Service<'_> {
    /// Before it is told to end, once: what it closes then is no merit.
    async fn judge(&mut self, tracing: &mut Tracing, view: &mut View) -> io::Result<()> {
        if self.early.is_some() {
            return Ok(());
        }
        tracing.collector().settle().await?;
        let look = tracing.look(view).await?;
        tracing.name_survivors().await?;
        // What was told last is heard when this is answered.
        tracing.collector().flush().await?;
        self.early = Some((self.found)(view, &look.snapshot));
        Ok(())
    }
}

/// Runs the command to its end: how it ended, whether that was by the signal that it was to end by, and what a service had
/// before.
async fn run(
    tracing: &mut Tracing,
    view: &mut View,
    signals: &mut Signals,
    child: &mut Child,
    mut service: Option<Service<'_>>,
    signal: i32,
) -> Result<(Ended, bool, Option<Findings>), Failure> {
    let pid = child.id().unwrap_or(0);
    let (mut witness, mut looks) = (ticker(WITNESS), ticker(LOOK));
    let shell = Cell::new(0);
    let until = service.as_ref().map(|service| service.until);
    let mut condition = std::pin::pin!(holds(until, &shell));
    let mut told = false;
    let mut kill_at = None;
    loop {
        tokio::select! {
            biased;
            ended = child.wait() => {
                let ended = command::ended(ended?);
                let early = service.and_then(|service| service.early);
                return Ok((ended, told && ended == Ended::Signal(signal), early));
            }
            sent = signals.next() => {
                if let Some(service) = &mut service {
                    service.judge(tracing, view).await?;
                }
                if !signals::is_from_terminal(sent) {
                    signals::send(pid, sent);
                }
            }
            () = &mut condition, if !told => {
                told = true;
                if let Some(service) = &mut service {
                    service.judge(tracing, view).await?;
                }
                signals::send(pid, signal);
                kill_at = Some(Instant::now() + PATIENCE);
            }
            () = at(kill_at) => {
                kill_at = None;
                signals::send(pid, libc::SIGKILL);
            }
            _ = looks.tick() => {
                // A service that was told to end gives back what it has.
                if !told {
                    tracing.look(view).await?;
                }
                tracing.collector().flush().await?;
            }
            _ = witness.tick() => {
                command::reap(&[pid, shell.get()]);
                tracing.witness().await?;
            }
        }
    }
}

/// Watches what runs, until a moment or a signal.
async fn watch_until(
    tracing: &mut Tracing,
    view: &mut View,
    signals: &mut Signals,
    end: Instant,
) -> Result<(), Failure> {
    let (mut witness, mut looks) = (ticker(WITNESS), ticker(LOOK));
    loop {
        tokio::select! {
            () = sleep_until(end) => return Ok(()),
            _ = signals.next() => return Ok(()),
            _ = looks.tick() => drop(tracing.look(view).await?),
            _ = witness.tick() => tracing.witness().await?,
        }
    }
}

/// Ends when a shell command has succeeded; never without one.
async fn holds(command: Option<&str>, process: &Cell<u32>) {
    let Some(command) = command else { return std::future::pending().await };
    loop {
        let mut shell = Command::new("/bin/sh");
        // What is read and written is the service's alone.
        shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let Ok(mut running) = shell.spawn() else { return std::future::pending().await };
        process.set(running.id().unwrap_or(0));
        let holds = running.wait().await.is_ok_and(|status| status.success());
        process.set(0);
        if holds {
            return;
        }
        // A service needs a while before anybody can ask it something.
        let _ = timeout(RETRY, std::future::pending::<()>()).await;
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Where the stream goes: to the judge, and into a trace file if there is one.
struct Watching {
    judge: Arc<Mutex<Judge>>,
    trace: Option<Recording>,
}

/// A judge that panicked is one that nobody asks again.
fn lock(judge: &Mutex<Judge>) -> MutexGuard<'_, Judge> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for Watching {
    fn write(&mut self, events: &[Event], fold: &Fold) -> io::Result<()> {
        let mut judge = lock(&self.judge);
        events.iter().for_each(|event| judge.apply(event));
        drop(judge);
        self.trace.as_mut().map_or(Ok(()), |trace| trace.write(events, fold))
    }

    fn flush(&mut self) -> io::Result<Written> {
        self.trace.as_mut().map_or(Ok(Written::default()), Sink::flush)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.trace.as_mut().map_or(Ok(()), Sink::finish)
    }
}
