//! The documents of `fdtrace live --json` and `fdtrace report --json`, as far as the tests read them.

use crate::truth::{Counts, add, without_zeros};
use anyhow::{Result, ensure};
use serde::Deserialize;

/// One document: everything from the start of tracing to one interval's end.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    /// Name and version of the format.
    pub schema: String,
    /// How the tracing went.
    pub trace: Trace,
    /// All handles together.
    pub handles: Handles,
    /// The call sites with live handles.
    pub sites: Vec<Site>,
    /// Processes whose tables of descriptors repeat a handle.
    #[serde(default)]
    pub processes: Vec<FullTable>,
}

/// How the tracing went.
#[derive(Clone, Debug, Deserialize)]
pub struct Trace {
    /// The kernel hooks in use.
    pub backend: String,
    /// Nothing was lost that was not found again.
    pub complete: bool,
    /// Counts of the kernel side.
    pub events: Events,
    /// What was missed.
    pub lost: Lost,
}

/// Counts of the kernel side.
#[derive(Clone, Debug, Deserialize)]
pub struct Events {
    /// Handles created.
    pub allocated: u64,
    /// Handles gone.
    pub released: u64,
    /// Of those, never opened.
    pub never_opened: u64,
    /// Allocations that failed, by error name.
    pub errors: Counts,
    /// Handles gone, by cause.
    #[serde(default)]
    pub released_by: Counts,
}

/// What was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Lost {
    /// Records that found the ring full.
    pub events: u64,
    /// Handles that found the table full.
    pub handles: u64,
    /// Stacks that could not be read.
    pub stacks: u64,
    /// Program runs that the kernel skipped.
    pub skipped: u64,
    /// Of all that, found again.
    pub healed: u64,
}

/// All handles together.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Handles {
    /// Allocated since tracing began, and alive.
    pub live: u64,
    /// Alive before tracing began, and still.
    pub pre_existing: u64,
    /// Alive before tracing began, and not any more.
    #[serde(default)]
    pub pre_existing_released: u64,
    /// Alive and too young to be spoken of.
    #[serde(default)]
    pub young: u64,
}

/// A call site.
#[derive(Clone, Debug, Deserialize)]
pub struct Site {
    /// Its name.
    pub id: String,
    /// Which kernel path allocates there.
    pub origin: String,
    /// It makes no handles, but descriptors for handles that others made.
    #[serde(default)]
    pub acquired: bool,
    /// Descriptors that it takes.
    #[serde(default)]
    pub descriptors: u64,
    /// The handles that its descriptors repeat.
    #[serde(default)]
    pub repeats: Vec<Repeat>,
    /// Handles alive.
    pub live: u64,
    /// Handles created.
    pub allocated: u64,
    /// Handles gone.
    pub released: u64,
    /// Handles gone, by cause.
    pub released_by: Counts,
    /// Whether it grows.
    pub verdict: String,
    /// Live handles by kind.
    pub kinds: Counts,
    /// Live handles by what holds them.
    pub holders: Counts,
    /// Who mapped the handles that live.
    pub mapped_by: Vec<MappedAt>,
    /// Who allocates there.
    pub processes: Vec<SiteProcess>,
    /// The oldest handles.
    pub examples: Vec<Example>,
    /// The kernel's stack, innermost frame first.
    pub kernel_stack: Vec<Frame>,
    /// The program's stack, innermost frame first.
    pub user_stack: Vec<Frame>,
    /// It reaches the function that the thread began with.
    pub user_stack_complete: bool,
}

/// A handle to which several descriptors point.
#[derive(Clone, Debug, Deserialize)]
pub struct Repeat {
    /// What it is called.
    pub name: String,
    /// How many descriptors.
    pub descriptors: u64,
}

/// A process whose table of descriptors repeats a handle.
#[derive(Clone, Debug, Deserialize)]
pub struct FullTable {
    /// Which process.
    pub pid: u32,
    /// Entries in its table.
    pub descriptors: u64,
    /// The handles that it repeats, most repeated first.
    pub repeats: Vec<Repeat>,
    /// The call site that repeats them, in a few words.
    pub place: Option<String>,
}

/// A call site that mapped handles of another one.
#[derive(Clone, Debug, Deserialize)]
pub struct MappedAt {
    /// How many of the live ones.
    pub handles: u64,
    /// The site's name.
    pub site: String,
    /// The program's stack, innermost frame first.
    pub user_stack: Vec<Frame>,
    /// One of the mappings.
    pub example: Option<MappingExample>,
}

/// A mapping.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct MappingExample {
    /// Whose memory.
    pub pid: u32,
    /// Where in it; 0 when the kernel had not decided yet.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
}

/// A frame of a stack. Those of the kernel have a name and nothing else.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// The function, where it has a name.
    pub symbol: Option<String>,
    /// The program or library.
    pub module: Option<String>,
    /// The source, where it is known.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// It is a part of the next one.
    pub inlined: bool,
    /// The module's build-id.
    pub build_id: Option<String>,
    /// Where in the module's file.
    pub offset: u64,
}

/// A process with handles of a site.
#[derive(Clone, Debug, Deserialize)]
pub struct SiteProcess {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Live handles that it allocated there.
    pub live: u64,
}

/// One of the oldest handles of a site.
#[derive(Clone, Debug, Deserialize)]
pub struct Example {
    /// A path, a peer, or the kernel's word for it.
    pub name: Option<String>,
    /// What it is.
    pub kind: String,
    /// Who has it.
    pub pid: Option<u32>,
    /// The descriptor's number there.
    pub fd: Option<u32>,
}

impl Document {
    /// Reads one line, and checks what must hold for every document.
    ///
    /// # Errors
    /// When it is not JSON of this form, or contradicts itself.
    pub fn parse(line: &str) -> Result<Self> {
        let document: Self = serde_json::from_str(line)?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<()> {
        let Events { allocated, released, .. } = self.trace.events;
        let live = self.handles.live;
        let known = ["fdtrace.live/1", "fdtrace.report/1"].contains(&self.schema.as_str());
        ensure!(known, "schema {:?}", self.schema);
        ensure!(
            allocated.checked_sub(released) == Some(live),
            "live {live} is not allocated {allocated} - released {released}"
        );
        for site in &self.sites {
            let Site { id, origin, live, allocated, released, .. } = site;
            ensure!(
                allocated.checked_sub(*released) == Some(*live),
                "site {id} ({origin}): live {live} is not allocated {allocated} - released {released}"
            );
        }
        Ok(())
    }

    /// Live handles by origin.
    #[must_use]
    pub fn origins(&self) -> Counts {
        let mut counts = Counts::new();
        self.sites.iter().for_each(|site| add(&mut counts, &site.origin, site.live));
        counts
    }

    /// Live handles by kind.
    #[must_use]
    pub fn kinds(&self) -> Counts {
        let mut counts = Counts::new();
        for (kind, count) in self.sites.iter().flat_map(|site| &site.kinds) {
            add(&mut counts, kind, *count);
        }
        counts
    }

    /// Released handles by cause, at all sites.
    #[must_use]
    pub fn released_by(&self) -> Counts {
        without_zeros(self.trace.events.released_by.clone())
    }
}
