//! The attached programs and their maps.

use std::{
    borrow::Cow,
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use aya::{
    Btf, Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use fdtrace_common::{
    config::Config,
    counters::{Counters, ShortLivedCount},
    descriptor::Acquired,
    fields::{self as table, Fields},
    iterators::Span,
    scripts::Interpreter,
    unwind::{Code, Rule},
    wire::Entry,
};

use super::{
    acquired::{self, AcquiredTable},
    bpf::{self, RunCounts},
    btf::Functions,
    config,
    config::{Acquisitions, Emit, Settings, Unwind},
    error::{Error, Result, system},
    exchanges, fields,
    handle_table::{HandleTable, Size, Slots},
    hooks::{self, Backend, BackendReport, HookReport, Kernel, Role},
    iterators::{DescriptorFinder, PreexistingScan, TableReader},
    queries::{Descriptions, PhantomFinder, Query, Sweeper},
    ring::Ring,
    rules::{Interpreters, RuleBook},
    work_queues,
};

/// The BPF object, built by `cargo xtask ebpf` and committed.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../fdtrace-ebpf/fdtrace.bpf.o"));

/// Lets aya copy our types to and from maps.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `Config` is `repr(C)`, made of integers, and has no padding (asserted where it is defined).
unsafe impl Pod for Plain<Config> {}
// SAFETY: `Counters` is an array of integers.
unsafe impl Pod for Plain<Counters> {}
// SAFETY: `Entry` is `repr(C)`, made of integers, and has no padding (its size is asserted where it is defined).
unsafe impl Pod for Plain<Entry> {}
// SAFETY: `Span` is `repr(C)`, made of integers of one size.
unsafe impl Pod for Plain<Span> {}
// SAFETY: `Acquired` is `repr(C)`, made of integers, and has no padding (its size is asserted where it is defined).
unsafe impl Pod for Plain<Acquired> {}
// SAFETY: `Rule` is `repr(C)`, made of integers, and has no padding (its size is asserted where it is defined).
unsafe impl Pod for Plain<Rule> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Code> {}

/// What one program has cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// The program's name in the object.
    pub program: &'static str,
    /// What it is for.
    pub role: Role,
    /// Runs that were timed.
    pub runs: u64,
    /// Nanoseconds in those runs.
    pub time_ns: u64,
    /// Runs that the kernel skipped.
    pub skipped: u64,
    /// Instructions that the verifier looked at; 0 where the kernel does not say.
    pub verified: u32,
}

/// A running trace. Dropping it takes everything out of the kernel; so does the end of the process, however it ends.
pub struct Tracer {
    ebpf: Ebpf,
    interpreters: Interpreters,
    functions: Functions,
    ring: Ring,
    handle_table: HandleTable,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    /// How often the kernel side was made to forget all stacks.
    stacks_epoch: AtomicU64,
    /// How the backend was attached.
    pub report: BackendReport,
    statistics: Option<OwnedFd>,
    ring_bytes: usize,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Tracer {
    /// Attaches the backend that the settings name, or the best one that works. What are `interpreters` is asked while the programs
    /// are loaded, once for each backend that is tried.
    ///
    /// # Errors
    /// A missing capability, BTF without a field that is needed, a filter that names nothing, or no backend that works.
    pub fn start(
        kernel: &mut Kernel,
        settings: &Settings,
        interpreters: &mut (impl FnMut() -> Vec<(u64, Interpreter)> + Send),
    ) -> Result<Self> {
        if let Some(missing) = kernel.capabilities.missing_for_tracing().first() {
            return Err(Error::Capability { missing: missing.to_string() });
        }
        if let Some(backend) = settings.backend {
            return Self::attach(kernel, settings, interpreters, backend)?
                .map_err(|reason| Error::Backend { backend: backend.name(), reason });
        }
        let mut reasons = Vec::new();
        for backend in Backend::preferred(kernel.preemption) {
            if let Some(reason) = backend.is_absent(kernel) {
                reasons.push(format!("  {backend}: {reason}"));
                continue;
            }
            match Self::attach(kernel, settings, interpreters, backend)? {
                Ok(tracer) => return Ok(tracer),
                Err(reason) => reasons.push(format!("  {backend}: {reason}")),
            }
        }
        Err(Error::NoBackend(reasons.join("\n")))
    }

    fn attach(
        kernel: &mut Kernel,
        settings: &Settings,
        interpreters: &mut (impl FnMut() -> Vec<(u64, Interpreter)> + Send),
        backend: Backend,
    ) -> Result<std::result::Result<Self, String>> {
        // It would see no allocation at all, and call everything clean.
        if backend == Backend::Tracepoint && !kernel.symbols.has_addresses() {
            return Ok(Err("kernel addresses are hidden, so allocations cannot be distinguished: CAP_SYSLOG is missing, or \
                           the sysctl kernel.kptr_restrict is 2"
                .to_owned()));
        }
        let found = fields::find(&mut kernel.types)?;
        let functions = hooks::functions(&kernel.types);
        let btf = functions.for_loader();
        let size = Size::of(settings.max_handles);
        let mut ebpf = load(kernel, &found.fields, settings, backend, size, &btf)?;
        fill_tree(&mut ebpf, &settings.filters.pids)?;
        let recognised = Interpreters::of(take_map(&mut ebpf, "INTERPRETERS")?)?;
        thread::scope(|scope| {
            scope.spawn(|| recognised.learn(&interpreters()));
            hooks::load(&mut ebpf, &btf, kernel, backend, settings);
        });
        let hooks = hooks::attach(&mut ebpf, &btf, kernel, backend, settings);
        let report = BackendReport { backend, hooks, remarks: kernel.remarks(backend, found.remarks) };
        if let Some(reason) = report.failure() {
            return Ok(Err(reason));
        }
        // The committed object has no messages.
        let logger = settings.object.as_ref().and_then(|_| EbpfLogger::init(&mut ebpf).ok());
        let program = loaded(&ebpf, &report, Role::Handles);
        let handle_table = handle_table(&mut ebpf, size, program)?;
        Ok(Ok(Self {
            ring: ring(&mut ebpf, settings.ring_bytes as usize)?,
            counters: PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?).map_err(object)?,
            handle_table,
            stacks_epoch: AtomicU64::new(0),
            ebpf,
            interpreters: recognised,
            functions,
            report,
            statistics: None,
            ring_bytes: settings.ring_bytes as usize,
            logger,
        }))
    }

    /// What handles are. Nobody else may ask at the same time.
    ///
    /// # Errors
    /// When descriptors cannot be duplicated.
    pub fn descriptions(&self) -> Result<Descriptions> {
        Ok(Descriptions {
            query: self.query(Role::Describe, "DESCRIBE")?,
            answers: self.shared(self.map("DESCRIPTIONS")?)?,
            handles: self.handle_table.clone(),
        })
    }

    /// The iterator that finds descriptors. It can be had once.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn descriptor_finder(&mut self) -> Result<DescriptorFinder> {
        Ok(DescriptorFinder {
            program: self.program_descriptor(Role::Descriptors),
            wanted: HashMap::try_from(take_map(&mut self.ebpf, "WANTED")?).map_err(object)?,
        })
    }

    /// Finds what skipped releases leave behind. Nobody else may ask at the same time.
    ///
    /// # Errors
    /// When descriptors cannot be duplicated.
    pub fn phantom_finder(&self) -> Result<PhantomFinder> {
        Ok(PhantomFinder::new(self.query(Role::Phantoms, "PHANTOMS")?, self.handle_table.clone()))
    }

    /// The iterators that find the handles that are pre-existing.
    #[must_use]
    pub fn existing(&self) -> PreexistingScan {
        PreexistingScan {
            files: self.program_descriptor(Role::ExistingFiles),
            mappings: self.program_descriptor(Role::ExistingMappings),
        }
    }

    /// Finds what has become old enough, for the min-age filter.
    #[must_use]
    pub fn sweeper(&self) -> Sweeper {
        Sweeper(self.handle_table.clone())
    }

    /// The kernel's own table of descriptors that were acquired. It can be had once.
    ///
    /// # Errors
    /// When descriptors cannot be duplicated, or it was taken before.
    pub fn acquired(&mut self) -> Result<AcquiredTable> {
        Ok(AcquiredTable {
            keys: self.program_descriptor(Role::AcquiredDescriptors),
            closed: self.query(Role::ClosedDescriptors, "CLOSED")?,
            table: HashMap::try_from(take_map(&mut self.ebpf, "ACQUIRED")?).map_err(object)?,
        })
    }

    /// The iterator that reads tables of descriptors. It can be had once.
    ///
    /// # Errors
    /// When descriptors cannot be duplicated, or it was taken before.
    pub fn table_reader(&mut self) -> Result<TableReader> {
        Ok(TableReader {
            program: self.program_descriptor(Role::Tables),
            tables: HashMap::try_from(take_map(&mut self.ebpf, "TABLES")?).map_err(object)?,
        })
    }

    /// Watches from now on who installs descriptors for handles that were there before, if the settings provide for it; says
    /// whether anything was attached.
    pub fn watch_descriptors(&mut self) -> bool {
        hooks::attach_late(&mut self.ebpf, &self.functions.for_loader(), &mut self.report)
    }

    /// Watches from now on who submits work to a queue of a program, if the settings provide for it: in all processes that run
    /// this file, which has the functions for it at these offsets.
    ///
    /// # Errors
    /// What the kernel answers, for a sentence.
    pub fn watch_queue(&mut self, file: &File, submit: u64, work: &[u64]) -> std::result::Result<(), String> {
        work_queues::attach(&mut self.ebpf, file, submit, work)
    }

    /// The maps in which the kernel side looks up how frames lead to their callers. They can be had once.
    ///
    /// # Errors
    /// When they were taken before.
    pub fn rules(&mut self) -> Result<RuleBook> {
        Ok(RuleBook {
            rules: HashMap::try_from(take_map(&mut self.ebpf, "UNWIND_RULES")?).map_err(object)?,
            code: HashMap::try_from(take_map(&mut self.ebpf, "PC_CACHE")?).map_err(object)?,
            interpreters: self.interpreters.clone(),
        })
    }

    /// The program that was loaded for this role, and the map of its keys.
    fn query(&self, role: Role, keys: &str) -> Result<Option<Query>> {
        let Some(program) = self.program_descriptor(role) else { return Ok(None) };
        Ok(Some(Query { program, keys: self.shared(self.map(keys)?)? }))
    }

    fn shared(&self, map: BorrowedFd<'_>) -> Result<OwnedFd> {
        map.try_clone_to_owned().map_err(system("a map cannot be shared"))
    }

    fn program_descriptor(&self, role: Role) -> Option<OwnedFd> {
        loaded(&self.ebpf, &self.report, role)
    }

    /// The ring's size.
    #[must_use]
    pub const fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// Waits until enough events wait in the ring, something can be read from `also`, or the time is over.
    pub fn wait(&self, timeout: Duration, also: Option<BorrowedFd<'_>>) {
        let wanted = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut polls = [wanted(self.ring.as_raw_fd()), wanted(also.map_or(-1, |fd| fd.as_raw_fd()))];
        let timeout = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: two valid structures, of which the kernel skips one without a descriptor; an interrupted wait is a short wait.
        unsafe { libc::poll(polls.as_mut_ptr(), 2, timeout) };
    }

    /// How far the ring is written. Whatever had happened before this was asked is read when [`Self::has_read`] says so.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.ring.written()
    }

    /// Whether all has been read up to there: a record that another CPU still writes holds up those behind it.
    #[must_use]
    pub fn has_read(&self, position: u64) -> bool {
        self.ring.read() >= position
    }

    /// Hands every record that waits in the ring to `take`, at most `most` of them; says how many there were.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        let mut taken = 0;
        while taken < most && self.ring.take(&mut take) {
            taken += 1;
        }
        taken
    }

    /// The counters, summed over the CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let mut sum = Counters::default();
        let values = self.counters.get(&0, 0).map_err(object)?;
        for cpu in values.iter() {
            sum.add(&cpu.0);
        }
        Ok(sum)
    }

    /// The kernel's own table of live handles.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn handles(&self) -> Result<Vec<(u64, Entry)>> {
        let mut found = Vec::new();
        self.handle_table
            .each(Span::ALL, |handle, entry| found.push((handle, entry)))
            .map_err(system("the table of handles cannot be read"))?;
        Ok(found)
    }

    /// What the min-age filter has dropped so far, by call ([`fdtrace_common::hash::call_key`]). The table of calls is
    /// bounded, so the sum may be less than what the counters say.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn short_lived(&self) -> Result<Vec<(u64, ShortLivedCount)>> {
        let cpus = nr_cpus().map_err(|(_, error)| system("the number of CPUs is unknown")(error))?;
        let map = self.map("SHORT_LIVED")?;
        let mut found = Vec::new();
        bpf::cpu_elements(map, cpus, |key, values: &[ShortLivedCount]| {
            let mut sum = ShortLivedCount::default();
            values.iter().for_each(|value| sum.add(*value));
            found.push((key, sum));
        })
        .map_err(system("the table of short-lived handles cannot be read"))?;
        Ok(found)
    }

    /// How often processes could not have a handle or a descriptor: `(process << 32 | error number, times)` of each that
    /// is still the program that got the error.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn failures(&self) -> Result<Vec<(u64, u32)>> {
        bpf::elements(self.map("FAILURES")?).map_err(system("the table of failures cannot be read"))
    }

    /// Makes the kernel side forget which stacks it has sent: each is sent again when it is next seen.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn forget_stacks(&self) -> Result<()> {
        let failed = || system("the tables of stacks cannot be emptied");
        // In this order: a site is remembered only when its stack is known to have been sent.
        bpf::clear::<u64, u8>(self.map("STACKS")?).map_err(failed())?;
        bpf::clear::<u64, u64>(self.map("SITES")?).map_err(failed())?;
        // What CPUs remember of sites is of another epoch from now on.
        let epoch = self.stacks_epoch.fetch_add(1, Ordering::Relaxed) + 1;
        bpf::fill(self.map("STACKS_EPOCH")?, &[epoch]).map_err(failed())
    }

    /// One of the maps that stay with the programs.
    fn map(&self, name: &str) -> Result<BorrowedFd<'_>> {
        match self.ebpf.map(name) {
            Some(Map::Array(map) | Map::LruHashMap(map) | Map::PerCpuLruHashMap(map)) => Ok(map.fd().as_fd()),
            _ => Err(Error::Object(format!("no map {name}"))),
        }
    }

    /// Takes a process out of those whose children are traced.
    pub fn unfollow(&mut self, pid: u32) {
        if let Some(map) = self.ebpf.map_mut("TREE")
            && let Ok(mut tree) = HashMap::<_, u32, u8>::try_from(map)
        {
            // Gone already is gone.
            let _ = tree.remove(&pid);
        }
    }

    /// Takes an entry out of the kernel's table whose handle is gone, if it is still of that generation.
    pub fn forget(&mut self, handle: u64, generation: u64) {
        self.handle_table.forget(handle, generation);
    }

    /// Runs that the kernel skipped of the programs at both ends of a handle's life: (allocation, release).
    #[must_use]
    pub fn skipped(&self) -> (u64, u64) {
        let of = |role| {
            let hook = self.report.hooks.iter().find(|hook| hook.role == role);
            hook.and_then(|hook| self.cost(hook)).map_or(0, |cost| cost.skipped)
        };
        (of(Role::Allocation), of(Role::Release))
    }

    /// Runs that the kernel skipped of the programs that see processes come, change and go.
    #[must_use]
    pub fn missed_ends(&self) -> u64 {
        let ends =
            [Role::Fork, Role::Exec, Role::Exit, Role::OpenAtExit, Role::OpenAtExec, Role::Acquisition];
        let hooks = self.report.hooks.iter().filter(|hook| ends.contains(&hook.role));
        hooks.filter_map(|hook| self.cost(hook)).map(|cost| cost.skipped).sum()
    }

    /// What each attached program has cost so far.
    #[must_use]
    pub fn costs(&self) -> Vec<ProgramCost> {
        self.report.hooks.iter().filter_map(|hook| self.cost(hook)).collect()
    }

    fn cost(&self, hook: &HookReport) -> Option<ProgramCost> {
        let program = hook.program?;
        let fd = self.ebpf.program(program)?.fd().ok()?;
        let RunCounts { runs, time_ns, skipped, verified } = bpf::run_counts(fd.as_fd()).ok()?;
        Some(ProgramCost { program, role: hook.role, runs, time_ns, skipped, verified })
    }

    /// Turns the kernel's run statistics on or off. They time every BPF program in the system, so they are on for a
    /// moment only.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn time_programs(&mut self, on: bool) -> io::Result<()> {
        self.statistics = match on {
            true => Some(aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| error.io_error)?),
            false => None,
        };
        Ok(())
    }
}

/// The program that was loaded for a role.
fn loaded(ebpf: &Ebpf, report: &BackendReport, role: Role) -> Option<OwnedFd> {
    let name = report.hooks.iter().find(|hook| hook.role == role)?.program?;
    ebpf.program(name)?.fd().ok()?.as_fd().try_clone_to_owned().ok()
}

/// Loads the object with its configuration; no program yet.
pub(super) fn load(
    kernel: &mut Kernel,
    fields: &Fields,
    settings: &Settings,
    backend: Backend,
    size: Size,
    btf: &Btf,
) -> Result<Ebpf> {
    raise_memlock();
    let config =
        Plain(Config { handle_buckets: size.buckets, ..config::build(kernel, fields, settings, backend)? });
    let fields = Plain(*fields);
    let mut bytes = Cow::Borrowed(settings.object.as_deref().unwrap_or(OBJECT));
    if size.buckets == 0 {
        bytes = exchanges::without(&bytes).into();
    }
    let mut loader = EbpfLoader::new();
    if settings.unwind != Unwind::Tables {
        // Maps that nobody uses take no memory to speak of.
        loader
            .map_max_entries("UNWIND_RULES", 1)
            .map_max_entries("PC_CACHE", 1)
            .map_max_entries("PC_CACHE_L1", 1)
            .map_max_entries("STACK_CACHE", 1);
    }
    if !settings.submitters {
        loader.map_max_entries("SUBMITTED", 1).map_max_entries("AT_WORK", 1);
    }
    if !matches!(settings.emit, Emit::MinAge(_)) {
        loader.map_max_entries("SHORT_LIVED", 1);
    }
    if settings.descriptors == Acquisitions::Off {
        loader.map_max_entries("ACQUIRED", 1).map_max_entries("MESSAGES", 1);
    } else {
        loader.map_max_entries("ACQUIRED", acquired::MAX);
    }
    loader
        .btf(Some(btf))
        .override_global("CONFIG", &config, true)
        .override_global(table::GLOBAL, &fields, true)
        .map_max_entries("EVENTS", settings.ring_bytes)
        .map_max_entries("HANDLES", size.map)
        // A map has one element at least.
        .map_max_entries("SLOT_KEYS", size.buckets.max(1))
        .map_max_entries("SLOT_ENTRIES", size.slots().max(1))
        .load(&bytes)
        .map_err(object)
}

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK. Where it cannot be raised, loading says what is missing.
pub(super) fn raise_memlock() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid structure.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

fn ring(ebpf: &mut Ebpf, bytes: usize) -> Result<Ring> {
    match take_map(ebpf, "EVENTS")? {
        Map::RingBuf(map) => Ring::of(map, bytes).map_err(system("the ring buffer cannot be mapped")),
        _ => Err(Error::Object("EVENTS is no ring buffer".to_owned())),
    }
}

fn handle_table(ebpf: &mut Ebpf, size: Size, program: Option<OwnedFd>) -> Result<HandleTable> {
    let mut array = |name| match take_map(ebpf, name)? {
        Map::Array(map) => map.fd().as_fd().try_clone_to_owned().map_err(system("a map cannot be shared")),
        _ => Err(Error::Object(format!("{name} is no array"))),
    };
    let (keys, entries) = (array("SLOT_KEYS")?, array("SLOT_ENTRIES")?);
    let slots = (size.buckets > 0).then(|| Slots::new(keys, entries, size));
    Ok(HandleTable::new(
        slots,
        Array::try_from(take_map(ebpf, "SPILLED")?).map_err(object)?,
        HashMap::try_from(take_map(ebpf, "HANDLES")?).map_err(object)?,
        program,
        Array::try_from(take_map(ebpf, "SPAN")?).map_err(object)?,
    ))
}

fn fill_tree(ebpf: &mut Ebpf, pids: &[u32]) -> Result<()> {
    let map = ebpf.map_mut("TREE").ok_or_else(|| Error::Object("no map TREE".to_owned()))?;
    let mut tree: HashMap<_, u32, u8> = HashMap::try_from(map).map_err(object)?;
    pids.iter().try_for_each(|pid| tree.insert(pid, 1, 0)).map_err(object)
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| Error::Object(format!("no map {name}")))
}

/// The innermost cause in one line.
pub(super) fn object(error: impl std::error::Error) -> Error {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    Error::Object(message)
}
