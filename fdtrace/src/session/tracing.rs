//! A running trace, as the verbs use it: tracer, collector and enricher together.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fdtrace_common::{scripts::Interpreter, wire::PREEXISTING};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::Failure;
use crate::{
    collect::{self, Collector, Sample, Setup, Sink, monotonic_ns},
    enrich::{self, Enricher, Meter, Names, Tables},
    kernel::{Capabilities, DescriptorFinder, HookReport, Kernel, Settings, State, Tracer, Unwind},
    model::{Descriptors, Document, Kind, LIVE_SCHEMA, Own},
    process::{self, around},
    stacks::{Readers, Recogniser},
    stream::Fact,
    text::fmt::escape_control,
    trace::{Header, HookState},
    view::{Session, View, seconds_left},
};

/// How often the enricher finds out about groups that are new. A process that lives for less may leave no names.
const ENRICH_INTERVAL: Duration = Duration::from_millis(50);

/// The most handles whose names and descriptors are looked up at the end of a recording.
const MAX_NAMED: usize = 1 << 14;

/// Ticks that are not made up for when one is late.
pub(crate) fn ticker(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A running trace.
pub(crate) struct Tracing {
    collector: Collector,
    enrich: Enricher,
    meter: Meter,
    readers: Readers,
    kept: Capabilities,
    /// Every handle that is described gets its name, not only those that are shown.
    names_all: bool,
    /// Regular files that were described and have no path yet.
    files: Vec<(u64, u64)>,
    /// When it was last found out about new groups.
    enriched: Instant,
}

/// A tracer that is attached, before its events are read.
pub(crate) struct Attached {
    pub(crate) session: Session,
    pub(crate) tracer: Tracer,
    kernel: Kernel,
    /// The processes that are traced, where there is a choice.
    pids: Vec<u32>,
    readers: Readers,
    recogniser: Recogniser,
}

impl Attached {
    /// Attaches the programs.
    pub(crate) fn attach(settings: &Settings) -> Result<Self, Failure> {
        // Before there are threads, and before anything follows what this process starts.
        let readers = Readers::start()?;
        let mut kernel = Kernel::inspect()?;
        let mut recogniser = Recogniser::new(Arc::default(), &readers);
        if settings.submitters {
            recogniser.modules().scripts.want_queues();
        }
        let (start, start_ns) = (SystemTime::now(), monotonic_ns());
        let mut recognised = None;
        let mut interpreters =
            || recognised.get_or_insert_with(|| interpreters(&mut recogniser, settings)).clone();
        let mut tracer = Tracer::start(&mut kernel, settings, &mut interpreters)?;
        collect::watch_queues(&mut tracer, &recogniser.modules(), &readers);
        let session = Session {
            start,
            start_ns,
            backend: tracer.report.backend.name().to_owned(),
            kernel: kernel.release.clone(),
            min_age_ns: settings.emit.min_age_ns(),
        };
        Ok(Self { session, tracer, kernel, pids: settings.filters.pids.clone(), readers, recogniser })
    }

    /// What the backend does badly on this kernel.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let report = &self.tracer.report;
        report.remarks.iter().map(|remark| format!("{} backend: {remark}", report.backend)).collect()
    }

    /// Watches the tables of descriptors of the processes that are traced.
    pub(crate) fn tables(&mut self, settings: &Settings) -> Result<Tables, Failure> {
        Ok(Tables::new(self.tracer.table_reader()?, settings.filters.clone()))
    }

    /// What a trace file says about itself.
    pub(crate) fn header(&mut self, settings: &Settings, command: &[String]) -> Header {
        let report = &self.tracer.report;
        Header {
            fdtrace: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.session.kernel.clone(),
            machine: std::env::consts::ARCH.to_owned(),
            host: around::host_name(),
            boot_id: around::boot_id(),
            backend: self.session.backend.clone(),
            hooks: report.hooks.iter().map(hook_state).collect(),
            offsets: self.kernel.offsets(),
            remarks: report.remarks.clone(),
            start: humantime::format_rfc3339_nanos(self.session.start).to_string(),
            start_ns: self.session.start_ns,
            filters: settings.filters.words(),
            command: command.to_vec(),
            min_age_ns: self.session.min_age_ns,
            ring_bytes: settings.ring_bytes.into(),
            max_handles: settings.max_handles.into(),
        }
    }

    /// Begins to read events; they go to `sink` as well, if there is one. With `names_all` each handle gets its name as
    /// soon as it is described; otherwise those that are shown do, with their descriptors ([`Tracing::document`]), and the
    /// programs' cost is measured now and then.
    pub(crate) fn begin(mut self, sink: Option<Box<dyn Sink>>, names_all: bool) -> Result<Tracing, Failure> {
        let modules = self.recogniser.modules();
        let is_admin = !names_all || modules.scripts.wants_queues();
        let kept = Capabilities::after_attaching(sink.is_some(), is_admin);
        let (descriptions, descriptors) = (self.tracer.descriptions()?, self.tracer.descriptor_finder()?);
        let kernel_preempts = self.kernel.preemption.preempts();
        let symbols = Arc::new(self.kernel.into_symbols());
        let readers = self.readers;
        let names = Names::new(descriptions, descriptors, Arc::clone(&symbols));
        let enrich = Enricher::new(Arc::clone(&symbols), Arc::clone(&modules), &readers, names);
        let min_age_ns = self.session.min_age_ns;
        let setup = Setup {
            tracer: self.tracer,
            kernel_preempts,
            min_age_ns,
            modules,
            readers: readers.clone(),
            recogniser: self.recogniser,
            symbols,
            sink,
            kept,
        };
        let collector = Collector::start(setup)?;
        // Before anything else: a process may be gone before somebody asks for its name.
        collector.tell(enrich::introduce(&self.pids));
        let meter = Meter::new(readers.clone());
        give_back_memory();
        let (files, enriched) = (Vec::new(), Instant::now());
        Ok(Tracing { collector, enrich, meter, readers, kept, names_all, files, enriched })
    }
}

/// Those that run, and those that a shell may start: of what is opened right after attaching, the lines are wanted too.
fn interpreters(recogniser: &mut Recogniser, settings: &Settings) -> Vec<(u64, Interpreter)> {
    if settings.unwind == Unwind::Tables {
        recogniser.note_running();
        recogniser.note_installed();
    }
    recogniser.take()
}

/// What only the start needed is free by now, and the kernel gets it back: the texts of its symbols and types, and the object.
fn give_back_memory() {
    // SAFETY: takes a number; the allocator's own locks keep other threads out.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

impl Tracing {
    /// Waits until there is something to find out about, and no shorter than names are given time to come through.
    pub(crate) async fn news(&self) {
        sleep_until(self.enriched + ENRICH_INTERVAL).await;
        self.collector.news().await;
    }

    /// Finds out about what is new since the last call.
    pub(crate) async fn enrich(&mut self) -> io::Result<()> {
        self.enriched = Instant::now();
        let fresh = self.collector.fresh().await?;
        if !fresh.is_empty() {
            self.collector.tell(self.enrich.find_out(&fresh));
        }
        Ok(())
    }

    /// Looks: what is known now becomes part of the view's history.
    pub(crate) async fn sample(&mut self, view: &mut View) -> io::Result<Sample> {
        self.collector.sweep();
        self.enrich().await?;
        let described = self.enrich.describe_new(self.names_all)?;
        if self.names_all {
            self.files =
                described.iter().filter_map(regular_file).take(DescriptorFinder::MAX_WANTED).collect();
        }
        self.collector.tell(described);
        self.enrich.rest();
        let sample = self.collector.sample(view.selection().min_age_ns).await?;
        view.sample(&sample.snapshot);
        Ok(sample)
    }

    /// The document of a sample, with names for its first `named` sites.
    pub(crate) fn document(&mut self, view: &View, mut sample: Sample, named: usize) -> io::Result<Document> {
        let unnamed = view.unnamed(&sample.snapshot, named);
        if !unnamed.is_empty() {
            let facts = self.enrich.learn_names(&unnamed)?;
            sample.snapshot.learn(&facts);
            self.collector.tell(facts);
        }
        let mut document = view.document(LIVE_SCHEMA, &sample.snapshot);
        document.own = Some(self.own(&sample));
        add_limit(&mut document);
        Ok(document)
    }

    fn own(&mut self, sample: &Sample) -> Own {
        self.meter.read(&sample.costs, sample.snapshot.stats.own_allocations)
    }

    /// Names and descriptors of the oldest live handles: the last that is said of them.
    pub(crate) async fn name_live(&mut self) -> io::Result<()> {
        let handles = self.collector.oldest(MAX_NAMED).await?;
        let facts = self.enrich.learn_names(&handles)?;
        self.collector.tell(facts);
        // And what came since the last sample.
        self.collector.tell(self.enrich.describe_new(self.names_all)?);
        Ok(())
    }

    /// Finds out the names and descriptors of these handles, by address and generation.
    pub(crate) fn name(&mut self, handles: &[(u64, u64)]) -> io::Result<()> {
        self.collector.tell(self.enrich.learn_names(handles)?);
        Ok(())
    }

    /// The paths of files that were described at the last sample.
    pub(crate) fn name_files(&mut self) -> io::Result<()> {
        let files = std::mem::take(&mut self.files);
        if !files.is_empty() {
            self.collector.tell(self.enrich.learn_names(&files)?);
        }
        Ok(())
    }

    /// Which of these sockets have a peer that has not hung up.
    pub(crate) fn connected(&mut self, sockets: &[(u64, u64)]) -> io::Result<Vec<(u64, u64)>> {
        self.enrich.connected(sockets)
    }

    /// Gives up what tracing does not need any more. A command is to be started before: it gets what fdtrace was given.
    pub(crate) fn keep_only_what_is_needed(&self) -> io::Result<()> {
        self.kept.keep_only()
    }

    /// Which files could not be read for stacks and names; each is said once.
    pub(crate) fn take_remarks(&self) -> Vec<String> {
        self.readers.take_remarks().iter().map(|remark| escape_control(remark)).collect()
    }

    pub(crate) const fn collector(&self) -> &Collector {
        &self.collector
    }
}

fn regular_file(fact: &Fact) -> Option<(u64, u64)> {
    match fact {
        Fact::Described(found) if found.kind == Kind::Regular && found.generation != PREEXISTING => {
            Some((found.handle, found.generation))
        }
        _ => None,
    }
}

fn hook_state(hook: &HookReport) -> HookState {
    let role = hook.role.name().to_owned();
    let (state, target, lost) = match &hook.state {
        State::Attached(target) => ("attached".to_owned(), target.clone(), String::new()),
        State::Alternative(target, reason) => {
            (format!("alternative: {reason}"), target.clone(), String::new())
        }
        State::Missing(reason, lost) => (format!("missing: {reason}"), String::new(), (*lost).to_owned()),
        State::Fatal(reason) => (format!("fatal: {reason}"), String::new(), String::new()),
        State::Off => ("off".to_owned(), String::new(), String::new()),
    };
    HookState { role, state, target, lost }
}

/// How near the process that grows fastest is to its limit; only a live process tells.
fn add_limit(document: &mut Document) {
    let Some(fastest) = &mut document.fastest else { return };
    fastest.descriptors = process::Descriptors::of(fastest.pid)
        .map(|found| Descriptors { used: found.used, limit: found.limit });
    fastest.seconds_to_limit = fastest
        .descriptors
        .filter(|_| fastest.takes_descriptors)
        .and_then(|found| seconds_left(found, fastest.per_second));
}
