//! What is new since another document: the same numbers, compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SharerLine;

/// What is new.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Growth {
    /// When the other document was taken, RFC 3339, UTC.
    pub since: String,
    /// How long ago that was.
    pub seconds: f64,
    /// All handles that were found.
    pub handles: Change,
    /// Those without a descriptor.
    pub hidden: Change,
    /// What lsof would list.
    pub descriptors: Change,
    /// What the kernel counts; null where one of the documents does not say it.
    pub file_nr: Option<Change>,
    /// What of it was found at nobody, at least; null where one of the documents cannot tell.
    pub not_found: Option<Change>,
    /// By holder, each handle once; only what changed.
    pub by_holder: BTreeMap<String, Change>,
    /// The kernel's count against `fs.file-max`; null where there is no such limit, or no count.
    pub system: Option<Ceiling>,
    /// Processes that changed, or that are near a limit, without those that took the documents: first those that reach one soon, the soonest first; then
    /// those that have used up most of one; then those that grew most.
    pub processes: Vec<ProcessGrowth>,
    /// Hidden handles that are alike and whose number changed, what grew most first.
    pub hidden_groups: Vec<HiddenGrowth>,
    /// Processes that were not there, and those that are gone; null where they cannot be reported.
    pub new_processes: Option<u64>,
    /// See there.
    pub gone_processes: Option<u64>,
    /// What cannot be compared, and why.
    pub remarks: Vec<String>,
}

/// A number, then and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// What it was.
    pub before: u64,
    /// What it is.
    pub now: u64,
    /// How much more.
    pub change: i64,
    /// The same for each second.
    pub per_second: f64,
}

/// How near something is to its limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ceiling {
    /// `RLIMIT_NOFILE`, `vm.max_map_count` or `fs.file-max`.
    pub name: String,
    /// How much of it is in use; of mappings at least so many.
    pub used: u64,
    /// How many more in each second.
    pub per_second: f64,
    /// The limit.
    pub limit: u64,
    /// How much is used up.
    pub percent: f64,
    /// When it is reached at this rate; null when it does not grow.
    pub seconds_left: Option<f64>,
}

/// Whether a process is in both documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// In both.
    #[default]
    Same,
    /// It was not there, or held nothing of what is asked for.
    New,
    /// It is not there any more, or holds nothing of what is asked for.
    Gone,
}

/// A process that changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessGrowth {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Whether it is in both documents.
    pub state: Presence,
    /// Different handles that it holds.
    pub handles: Change,
    /// Entries of its tables.
    pub descriptors: Change,
    /// Handles without a descriptor anywhere.
    pub hidden: Change,
    /// How many more handles than at the first sample of this watch; null without one.
    pub since_first: Option<i64>,
    /// The limit that it reaches first.
    pub limit: Option<Ceiling>,
    /// What most of its new handles are; null where they are of many sorts, or not distinguished.
    pub mostly: Option<Sort>,
}

/// What new handles are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sort {
    /// In words: a name, `files in FOLDER`, `sockets in CLOSE_WAIT`.
    pub what: String,
    /// How many.
    pub change: i64,
}

/// Hidden handles that are alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HiddenGrowth {
    /// What hides them.
    pub holder: String,
    /// What they are.
    pub kind: String,
    /// What they are called.
    pub name: String,
    /// The segment that they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shmid: Option<u32>,
    /// Mapped as code.
    pub code: bool,
    /// What every program has that runs.
    pub ordinary: bool,
    /// How many.
    pub count: Change,
    /// Who holds most of them now.
    pub processes: Vec<SharerLine>,
}
