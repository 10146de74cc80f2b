//! What is left over: handles that the kernel counts and nobody was seen to hold, or the other way round.

use std::cmp::Reverse;

use super::FileNr;
use crate::holders::{HolderSnapshot, Sightings};

/// What the machine has that holds handles where no walk finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Loop devices, each with a file behind it.
    pub loop_devices: u64,
    /// Swap files.
    pub swap_files: u64,
    /// Mounts of autofs, each with a pipe.
    pub autofs_mounts: u64,
    /// Interpreters that binfmt_misc keeps open.
    pub kept_interpreters: u64,
    /// Requests that contexts of AIO have room for.
    pub aio_room: u64,
    /// A server of NFS runs in the kernel.
    pub nfs_server: bool,
    /// There are graphics devices, whose buffers are files.
    pub graphics: bool,
    /// This process lives in a PID namespace of its own, and sees no other.
    pub inside_pid_namespace: bool,
}

/// What file-nr has more than was found (less, where it is negative).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residual {
    /// At least so many.
    pub min: i64,
    /// At most so many.
    pub max: i64,
    /// What may hold them.
    pub reasons: Vec<String>,
}

pub(super) fn of(
    snapshot: &HolderSnapshot,
    file_nr: Option<FileNr>,
    accounted: u64,
    around: &Around,
) -> Option<Residual> {
    // Handles of other namespaces are in file-nr, and out of sight.
    if around.inside_pid_namespace || snapshot.by_proc {
        return None;
    }
    let file_nr = file_nr?;
    let (least, most) = found(snapshot, accounted, file_nr);
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (min, max) = (signed(file_nr.min) - signed(most), signed(file_nr.max) - signed(least));
    Some(Residual { min, max, reasons: reasons(snapshot, file_nr, (min, max), around) })
}

/// How many handles there were at any moment of the walk that can be found: at least, and at most. What came and went was
/// there at some moments only, and one walk cannot say what: then file-nr says how many such there may be.
fn found(snapshot: &HolderSnapshot, accounted: u64, file_nr: FileNr) -> (u64, u64) {
    let (least, most) = match snapshot.sightings {
        Some(Sightings { both, either }) => (both, either),
        None if file_nr.exact => {
            let moved = file_nr.max - file_nr.min;
            (accounted.saturating_sub(moved), accounted + moved)
        }
        None => (accounted, accounted),
    };
    (least.saturating_sub(snapshot.moving), most)
}

/// What the machine has, with numbers, the largest first.
fn things(snapshot: &HolderSnapshot, around: &Around) -> Vec<String> {
    let of = |count: u64, one: &str, many: &str| {
        (count, if count == 1 { format!("1 {one}") } else { format!("{count} {many}") })
    };
    let (requests, rings) = snapshot.requests;
    let (_, rings) = of(rings, "ring", "rings");
    let mut things = [
        of(
            requests,
            &format!("request in flight in io_uring, in {rings}"),
            &format!("requests in flight in io_uring, in {rings}"),
        ),
        of(around.aio_room, "request that AIO has room for", "requests that AIO has room for (fs.aio-nr)"),
        of(
            around.autofs_mounts,
            "autofs mount, which keeps a pipe",
            "autofs mounts, each of which keeps a pipe",
        ),
        of(
            around.kept_interpreters,
            "interpreter that binfmt_misc keeps open",
            "interpreters that binfmt_misc keeps open",
        ),
        of(around.loop_devices, "loop device", "loop devices"),
        of(around.swap_files, "swap file", "swap files"),
    ];
    things.sort_by_key(|(count, _)| Reverse(*count));
    things.into_iter().filter(|(count, _)| *count > 0).map(|(_, thing)| thing).collect()
}

fn reasons(
    snapshot: &HolderSnapshot,
    file_nr: FileNr,
    (min, max): (i64, i64),
    around: &Around,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if max > 0 {
        for process in &snapshot.unreadable {
            let (pid, comm) = (process.pid, &process.comm);
            let has = process.descriptors.map(|count| format!(": {count} descriptors"));
            let has = has.unwrap_or_default();
            reasons.push(format!("process {pid} ({comm}) cannot be looked into{has}"));
        }
        reasons.extend(things(snapshot, around));
        reasons.extend(around.nfs_server.then(|| "files that the NFS server keeps open".to_owned()));
        reasons.extend(around.graphics.then(|| "graphics buffers".to_owned()));
        reasons.push("files being closed, or the kernel's own".to_owned());
    }
    if min < 0 || file_nr.min != file_nr.max {
        reasons.push(if file_nr.exact {
            "handles that came and went during the walk".to_owned()
        } else {
            "file-nr of this kernel is off by up to a batch for each CPU".to_owned()
        });
    }
    reasons
}
