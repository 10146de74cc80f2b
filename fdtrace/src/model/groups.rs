//! A document summed up by something else than the call site.

use serde::{Deserialize, Serialize};

use super::{Handles, Trace};

/// Name and version of the shape.
pub const SCHEMA: &str = "fdtrace.report-by/1";

/// Stands for what nobody looked at.
pub const UNKNOWN: &str = "unknown";

/// What a row of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A call site.
    Site,
    /// A process.
    Process,
    /// What the handles are.
    Kind,
    /// Which kernel path allocated them.
    Origin,
    /// What holds them.
    Holder,
}

/// A document summed up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Name and version of this shape.
    pub schema: String,
    /// What a row is.
    pub by: By,
    /// The trace that it was taken from.
    pub trace: Trace,
    /// The whole of the handles.
    pub handles: Handles,
    /// Most live handles first.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The site's id, `comm (pid)`, or the word for a kind, an origin, a holder.
    pub key: String,
    /// Alive.
    pub live: u64,
    /// Made; none where that is not known: what a handle was, and what held it, is known of live ones only.
    pub allocated: Option<u64>,
    /// Call sites.
    pub sites: u64,
    /// Processes that made handles at these sites.
    pub processes: u64,
    /// The process, of a table by process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The site with the most live handles of the row.
    pub top_site: String,
    /// Where that is, in one name.
    pub place: String,
}
