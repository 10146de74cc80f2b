//! Two documents compared.

use serde::{Deserialize, Serialize};

use super::{Handles, KernelFrame, Origin, Process, Trace, UserFrame};

/// Name and version of the shape.
pub const SCHEMA: &str = "fdtrace.diff/1";

/// Two documents compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Name and version of this shape.
    pub schema: String,
    /// The first trace.
    pub before: Side,
    /// The second trace.
    pub after: Side,
    /// What grew, most first; then what shrank, most first; then the rest.
    pub sites: Vec<SiteDifference>,
}

/// One of the two traces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    /// The trace as a whole.
    #[serde(flatten)]
    pub trace: Trace,
    /// The whole of its handles.
    pub handles: Handles,
}

/// One call site in both traces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteDifference {
    /// Its id, of the second trace if it is there.
    pub id: String,
    /// Hash of the origin and the names in the stack, which a rebuilt program keeps; none without a stack.
    pub name_id: Option<String>,
    /// `id`, or `functions` when only the names of the functions agree; none when it is in one trace only.
    pub matched_by: Option<MatchedBy>,
    /// So many sites have these names and cannot be distinguished, their sums being given; 1 for a site of its own.
    pub merged: u64,
    /// Which kernel path.
    pub origin: Origin,
    /// Alive at the end of the first trace.
    pub before: u64,
    /// Alive at the end of the second trace.
    pub after: u64,
    /// How many more.
    pub change: i64,
    /// Who made them, most first; of the second trace if the site is there.
    pub processes: Vec<Process>,
    /// Innermost frame first.
    pub kernel_stack: Vec<KernelFrame>,
    /// Innermost frame first.
    pub user_stack: Vec<UserFrame>,
    /// Whether the user stack reaches the function that the thread began with.
    pub user_stack_complete: bool,
}

/// How a site was found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchedBy {
    /// By its id.
    Id,
    /// By the names of its functions: it is other code.
    Functions,
}
