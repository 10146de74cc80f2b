//! Running the command as somebody else.

use std::{fmt, io, process::Command};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::super::Failure;

/// Who the command runs as.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    user: Uid,
    group: Gid,
    /// All groups, found before anything is started: nothing may be looked up between fork and exec.
    groups: Vec<Gid>,
}

impl fmt::Display for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "user {} and group {}", self.user, self.group)
    }
}

impl Credentials {
    /// A user by name or number, and a group if one is given.
    pub(super) fn find(text: &str) -> Result<Self, Failure> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let unknown = |what: &str, name: &str| Failure::Usage(format!("--user: there is no {what} {name}"));
        // `nobody:x:65534:65534:...`
        let found = entry("passwd", user)?;
        let field = |index| found.as_deref().and_then(|line| number(line.split(':').nth(index)?));
        let number = field(2).or_else(|| number(user)).ok_or_else(|| unknown("user", user))?;
        let group = match group {
            Some(name) => find_group(name)?.ok_or_else(|| unknown("group", name))?,
            None => field(3).unwrap_or(number),
        };
        let mut groups = found.as_deref().map_or_else(Vec::new, groups_of);
        groups.push(group);
        groups.sort_unstable();
        groups.dedup();
        Ok(Self {
            user: Uid::from_raw(number),
            group: Gid::from_raw(group),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        })
    }

    /// Becomes that user for good.
    pub(super) fn become_it(&self) -> io::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.group)?;
        Ok(setuid(self.user)?)
    }
}

fn find_group(name: &str) -> Result<Option<u32>, Failure> {
    // `nogroup:x:65534:`
    let found = entry("group", name)?;
    Ok(found.and_then(|line| number(line.split(':').nth(2)?)).or_else(|| number(name)))
}

/// All groups of the user whose entry this is: `nobody 65534 100`.
fn groups_of(entry: &str) -> Vec<u32> {
    let name = entry.split(':').next().unwrap_or_default();
    // A user of no further groups is told in the entry itself.
    let line = self::entry("initgroups", name).ok().flatten().unwrap_or_default();
    line.split_ascii_whitespace().skip(1).filter_map(number).collect()
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// The first line that the machine's name services have of a name or number; nothing where there are none. They are asked
/// by the C library's own program: a statically linked fdtrace cannot load them.
fn entry(database: &str, key: &str) -> Result<Option<String>, Failure> {
    match Command::new("getent").args([database, key]).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Failed(anyhow::anyhow!("--user: getent: {error}"))),
    }
}
