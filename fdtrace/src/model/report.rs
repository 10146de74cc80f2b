//! What the views show, in the shape of the JSON that others read: keys may be added, never renamed. A key
//! that a document does not have, because an older fdtrace wrote it, reads as empty.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{Holder, KernelFrame, Kind, Origin, UserFrame, words::words};

/// Numbers by a word.
pub type Counts = BTreeMap<Cow<'static, str>, u64>;

/// Name of the shape of what `report --json` writes.
pub const REPORT_SCHEMA: &str = "fdtrace.report/1";
/// The same of `live --json`.
pub const LIVE_SCHEMA: &str = "fdtrace.live/1";

/// One look at the live handles.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// Name and version of this shape.
    pub schema: String,
    /// The trace that it was taken from.
    pub trace: Trace,
    /// The whole of the handles.
    pub handles: Handles,
    /// Call sites with live handles, most first.
    pub sites: Vec<Site>,
    /// What grows fastest, if anything grows.
    pub fastest: Option<Fastest>,
    /// Processes whose tables of descriptors repeat a handle, the fullest first; of a trace that has ended, none.
    pub processes: Vec<FullTable>,
    /// What the tracer itself costs; none of a trace that has ended.
    pub own: Option<Own>,
}

/// The trace as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Trace {
    /// When it began, RFC 3339, UTC.
    pub start: String,
    /// How long it has been running.
    pub duration_ns: u64,
    /// How many samples were taken, this one included.
    pub samples: u64,
    /// Which backend saw the handles.
    pub backend: String,
    /// The kernel's release.
    pub kernel: String,
    /// Nothing was lost that was not resynced again.
    pub complete: bool,
    /// Why not, if not.
    pub incomplete: Vec<String>,
    /// What happened.
    pub events: Events,
    /// What was missed.
    pub lost: Lost,
}

/// Sums over the trace; exact also when events were lost, for the kernel side counts for itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Events {
    /// Handles made, never-opened ones included.
    pub allocated: u64,
    /// Handles gone.
    pub released: u64,
    /// Gone, by cause; `unknown` holds lives that were lost in the ring from beginning to end.
    pub released_by: Counts,
    /// Of those gone, the ones that no open completed.
    pub never_opened: u64,
    /// Releases of handles that were not traced: pre-existing, or filtered out.
    pub untraced_releases: u64,
    /// Allocations that made no handle, by name of the error.
    pub errors: BTreeMap<String, u64>,
    /// Allocations a second since the last sample.
    pub allocated_per_second: f64,
    /// Releases a second since the last sample.
    pub released_per_second: f64,
}

/// What was missed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// Records that found no room in the ring.
    pub events: u64,
    /// Handles that found no room in the kernel's table.
    pub handles: u64,
    /// Stacks that could not be taken, or were not received.
    pub stacks: u64,
    /// Program runs that the kernel skipped.
    pub skipped: u64,
    /// Handles resynced from the kernel's own table.
    pub healed: u64,
    /// Handles whose address was used again although no release was seen.
    pub phantoms: u64,
    /// Records that could not be read.
    pub malformed: u64,
}

/// The whole of the handles.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handles {
    /// Allocated since tracing began, and alive; in the min-age filter only those that are old enough.
    pub live: u64,
    /// Alive and too young for the min-age filter to speak of.
    pub young: u64,
    /// The age from which the min-age filter speaks of a handle; 0 when it speaks of all.
    pub min_age_ns: u64,
    /// Older than tracing, found in descriptors and mappings when it began, and still alive.
    pub pre_existing: u64,
    /// Of those found then, the ones that are gone.
    pub pre_existing_released: u64,
    /// Who held those that are alive when tracing began, most first.
    pub pre_existing_by: Vec<ExistingBy>,
    /// All others of the system (file-nr less all of the above): filtered out, or held by something that the walk of
    /// descriptors and mappings does not see.
    pub others: u64,
}

/// A process that held handles when tracing began.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExistingBy {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Handles that it held then, and that are alive.
    pub live: u64,
}

/// One call site.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Site {
    /// Hash of the origin and the user stack by build-id and offset.
    pub id: String,
    /// Hash of the origin and the names in the stack, which a rebuilt program keeps; none without a stack.
    pub name_id: Option<String>,
    /// Which kernel path.
    pub origin: Origin,
    /// The kernel function that tells so; none where the system call does, or nothing.
    pub origin_function: Option<String>,
    /// It makes no handles, but descriptors for handles that others made: all numbers are of descriptors.
    pub acquired: bool,
    /// It only loads what programs run: executables, libraries, locales.
    pub loaded: bool,
    /// Descriptors that it takes.
    pub descriptors: u64,
    /// The handles that its descriptors repeat, most repeated first; none where it makes handles.
    pub repeats: Vec<Repeat>,
    /// Descriptors that it asked for when there were none left, as far as it was reported: at most one in a millisecond.
    pub refused: u64,
    /// Alive.
    pub live: u64,
    /// Of those, at least as old as `--min-age` asks.
    pub aged: u64,
    /// Change of `live` since the last sample.
    pub change: i64,
    /// Made.
    pub allocated: u64,
    /// Gone.
    pub released: u64,
    /// Gone, by cause.
    pub released_by: Counts,
    /// Age of the oldest one alive.
    pub oldest_age_ns: u64,
    /// How its number develops.
    pub verdict: Trend,
    /// What the verdict rests on; none where nothing lives.
    pub lifetimes: Option<Lifetimes>,
    /// Alive, by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Alive, by what holds them, as far as is known.
    pub holders: BTreeMap<Holder, u64>,
    /// Call sites that mapped these handles, most first.
    pub mapped_by: Vec<MappedAt>,
    /// Who made them, most first.
    pub processes: Vec<Process>,
    /// The oldest ones.
    pub examples: Vec<Example>,
    /// Innermost frame first.
    pub kernel_stack: Vec<KernelFrame>,
    /// Innermost frame first.
    pub user_stack: Vec<UserFrame>,
    /// Whether the user stack reaches the function that the thread began with.
    pub user_stack_complete: bool,
}

/// A handle to which several descriptors point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repeat {
    /// Its path, its peer, or what it is; empty when nobody knows.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// How many descriptors.
    pub descriptors: u64,
}

/// The most handles that are named.
const MAX_REPEATS: usize = 3;

/// The first few of those that have several descriptors, most repeated first.
#[must_use]
pub fn most_repeated(mut repeats: Vec<Repeat>) -> Vec<Repeat> {
    repeats.retain(|repeat| repeat.descriptors > 1);
    repeats.sort_by(|one, other| (other.descriptors, &one.name).cmp(&(one.descriptors, &other.name)));
    repeats.truncate(MAX_REPEATS);
    repeats
}

/// A call site that mapped handles of another one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MappedAt {
    /// Live handles that it mapped.
    pub handles: u64,
    /// Its id.
    pub site: String,
    /// Which kernel path allocated what it mapped.
    pub origin: Origin,
    /// Innermost frame first.
    pub user_stack: Vec<UserFrame>,
    /// One of the mappings.
    pub example: Option<MappingExample>,
}

/// One mapping of a file.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MappingExample {
    /// The process that has it.
    pub pid: u32,
    /// Where it begins.
    pub address: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// How old the handles of a site become.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifetimes {
    /// Of those that were made, how many are gone.
    pub released_share: f64,
    /// Half of those that are gone lived less than this, a power of two; none when none is gone.
    pub median_ns: Option<u64>,
    /// Alive, and older than those became that are gone.
    pub overdue: u64,
}

words! {
    /// How the number of a site's live handles develops.
    #[derive(Default)]
    pub enum Trend {
        /// Handles stay that are older than others become, and there are ever more of them.
        Growing = "growing",
        /// What is made is released.
        Steady = "steady",
        /// They were made long ago, and stay.
        Burst = "burst",
        /// There was one handle only.
        Single = "single",
        /// Too little was seen.
        #[default]
        Unknown = "unknown",
    }
}

/// A process with live handles of a site.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its program.
    pub exe: String,
    /// Its cgroup.
    pub cgroup: String,
    /// Its live handles of this site.
    pub live: u64,
    /// Descriptors that those take.
    pub descriptors: u64,
    /// Handles that it made at this site; none where they were not counted by process.
    pub allocated: Option<u64>,
}

/// One live handle.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Example {
    /// Its path, its peer, or what it is.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The process that has a descriptor for it, or that made it.
    pub pid: u32,
    /// A descriptor of that process; none when no process has one, or nobody has looked.
    pub fd: Option<u32>,
    /// Somebody has looked, and no process has a descriptor for it.
    pub hidden: bool,
    /// Its age.
    pub age_ns: u64,
}

/// What grows fastest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fastest {
    /// The site's id.
    pub site: String,
    /// Where it is, in a few words.
    pub place: String,
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Live handles of that site and process.
    pub live: u64,
    /// How many more a second.
    pub per_second: f64,
    /// These are no handles, but descriptors for handles that others made.
    pub acquired: bool,
    /// Whether handles of this kind take descriptors.
    #[serde(skip)]
    pub takes_descriptors: bool,
    /// How near the process is to its limit of descriptors.
    pub descriptors: Option<Descriptors>,
    /// Seconds until the limit at this rate; none when the handles take no descriptors.
    pub seconds_to_limit: Option<f64>,
}

/// A process whose table of descriptors repeats a handle.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FullTable {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its program.
    pub exe: String,
    /// Entries in its table.
    pub descriptors: u64,
    /// Handles in its table.
    pub handles: u64,
    /// The most descriptors that it may have; none for no limit.
    pub limit: Option<u64>,
    /// The handles that it repeats, most repeated first.
    pub repeats: Vec<Repeat>,
    /// The call site that repeats them, as far as that was seen: its id.
    pub site: Option<String>,
    /// Where that is, in a few words.
    pub place: Option<String>,
}

impl FullTable {
    /// Whether four fifths of the limit are used.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.descriptors.saturating_mul(5) >= limit.saturating_mul(4))
    }
}

/// Descriptors of a process against its soft limit.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Descriptors {
    /// In use.
    pub used: u64,
    /// The most there may be.
    pub limit: u64,
}

/// What the tracer costs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Own {
    /// Of one core, in percent, since the last sample; none at the first one.
    pub cpu_percent: Option<f64>,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Nanoseconds that one allocation's program takes; none where the kernel does not say.
    pub allocation_ns: Option<u64>,
    /// The same for a release.
    pub release_ns: Option<u64>,
    /// Handles that the tracer itself allocated, which are not traced.
    pub allocations: u64,
}
