//! Which PID namespace fdtrace runs in: a process has another number in each.

use std::{fs, io, path::Path};

use fdtrace_common::fields::Fields;

use super::{
    error::{Error, Result},
    fields,
};

/// The number of the first one, the same on all machines (`PROC_PID_INIT_INO`).
const FIRST: u32 = 0xEFFF_FFFC;

/// The number of our namespace, as the programs want it: 0 for the first one.
pub(super) fn number(fields: &Fields) -> Result<u32> {
    let proc = Path::new("/proc");
    check_proc(proc, std::process::id())?;
    let link = fs::read_link(proc.join("self/ns/pid")).map_err(|error| no_proc(&error))?;
    let number = parse(&link.to_string_lossy()).ok_or_else(|| {
        Error::Filter(format!("/proc/self/ns/pid is {}, which names no namespace", link.display()))
    })?;
    if number == FIRST {
        return Ok(0);
    }
    fields::require(&[
        (fields.task_struct.group_leader, "task_struct.group_leader"),
        (fields.pid_namespace.inum, "pid_namespace.ns.inum"),
    ])?;
    Ok(number)
}

/// In a new namespace without a `/proc` of its own, each number there is another process's.
fn check_proc(proc: &Path, own: u32) -> Result<()> {
    let link = fs::read_link(proc.join("self")).map_err(|error| no_proc(&error))?;
    if link.to_str().and_then(|name| name.parse().ok()) == Some(own) {
        return Ok(());
    }
    Err(Error::Filter(format!(
        "/proc is another PID namespace's: this process is {own} here and {} there; mount this namespace's own \
         (`unshare --mount-proc`, or `mount -t proc proc /proc`)",
        link.display()
    )))
}

fn no_proc(error: &io::Error) -> Error {
    Error::Filter(format!(
        "/proc/self cannot be read ({error}); fdtrace needs /proc (`mount -t proc proc /proc`)"
    ))
}

/// `pid:[4026531836]`
fn parse(link: &str) -> Option<u32> {
    link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        assert_eq!(parse("pid:[4026531836]"), Some(FIRST));
        assert_eq!(parse("net:[4026531840]"), None);
        assert_eq!(parse("pid:[]"), None);
    }

    #[test]
    fn a_proc_of_another_namespace_is_refused() {
        assert!(check_proc(Path::new("/proc"), std::process::id()).is_ok());
        let refused = check_proc(Path::new("/proc"), 0).expect_err("another process");
        assert!(refused.to_string().contains("mount -t proc"));
        assert!(check_proc(Path::new("/nonexistent"), 1).is_err());
    }
}
