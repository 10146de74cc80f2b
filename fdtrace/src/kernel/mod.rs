//! The only place that talks to the kernel about BPF: attach, BTF, kallsyms, ring buffer, raw `bpf()` calls.
//!
//! Everything above reads what comes out of here as plain data.

mod acquired;
mod bpf;
mod btf;
mod capabilities;
mod config;
mod error;
mod exchanges;
mod fields;
mod file_nr;
mod handle_table;
mod holder_walk;
mod hooks;
mod iterators;
mod kallsyms;
mod pid_namespace;
mod preemption;
#[cfg(test)]
mod program_rooms;
mod queries;
mod ring;
mod rules;
mod tracefs;
mod tracer;
mod work_queues;

pub use acquired::{AcquiredTable, Closed};
pub use capabilities::{Capabilities, Capability};
pub use config::{Acquisitions, Emit, Filters, Settings, Stacks, Unwind};
pub(crate) use error::system;
pub use error::{Error, Result};
pub use file_nr::{Exactness, FileNr, HandleCounter};
pub use handle_table::handle_table_bytes;
pub(crate) use holder_walk::records as walk_records;
pub use holder_walk::{
    BpfLayout, Chase, HolderWalk, NamespaceLayout, PathLayout, PeerLayout, PidLayout, QueueLayout,
    RING_DESCRIPTORS, RequestLayout, RingTable, SegmentLayout, SocketLayout, TreeLayout, UserLayout, Walk,
};
pub use hooks::{Backend, BackendReport, HookReport, Kernel, Role, State, survey};
pub use iterators::{DescriptorFinder, PreexistingScan, TableReader};
pub use kallsyms::{Symbol, Symbols};
pub use preemption::Preemption;
pub use queries::{Descriptions, Phantom, PhantomFinder, Sweeper};
pub use rules::{Interpreters, RuleBook};
pub use tracer::{ProgramCost, Tracer};
