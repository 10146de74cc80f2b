//! Running the command as somebody else.

use std::{
    fmt, io,
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::Failure;
use crate::files;

/// Who the command runs as.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
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
    pub(crate) fn find(text: &str) -> Result<Self, Failure> {
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

    /// The user, and its first group.
    pub(crate) const fn ids(&self) -> (Uid, Gid) {
        (self.user, self.group)
    }

    /// Becomes that user for good.
    pub(crate) fn become_it(&self) -> io::Result<()> {
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
    // A user of no further groups is reported in the entry itself.
    let line = self::entry("initgroups", name).ok().flatten().unwrap_or_default();
    groups_of_line(&line)
}

fn groups_of_line(line: &str) -> Vec<u32> {
    line.split_ascii_whitespace().skip(1).filter_map(number).collect()
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// The C library's own program, where root puts it: a PATH is anybody's.
const GETENT: [&str; 3] = ["/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"];

/// The most of a table of users that is read.
const MAX: u64 = 64 << 20;

/// The first line that the machine's name services have of a name or number. They are asked by the C library's own program:
/// a statically linked fdtrace cannot load them. Where there is no such program, the files are all that there is.
fn entry(database: &str, key: &str) -> Result<Option<String>, Failure> {
    let Some(program) = GETENT.into_iter().find(|program| Path::new(program).is_file()) else {
        return Ok(in_files(database, key));
    };
    match Command::new(program).args([database, "--", key]).env_clear().stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned))
        }
        Ok(_) => Ok(None),
        Err(error) => Err(Failure::Failed(anyhow::anyhow!("--user: {program}: {error}"))),
    }
}

/// What `getent` would say if there were files only.
fn in_files(database: &str, key: &str) -> Option<String> {
    let lines = |database: &str| files::read_text(&Path::new("/etc").join(database), MAX).unwrap_or_default();
    match database {
        "initgroups" => Some(groups_in(&lines("group"), key)),
        _ => entry_in(&lines(database), key),
    }
}

/// The line of a name, or of a number.
fn entry_in(table: &str, key: &str) -> Option<String> {
    let has = |field: usize| table.lines().find(|line| line.split(':').nth(field) == Some(key));
    has(0).or_else(|| has(2)).map(str::to_owned)
}

/// A user, and the numbers of the groups that list it.
fn groups_in(table: &str, user: &str) -> String {
    let lists = |line: &&str| {
        line.split(':').nth(3).is_some_and(|members| members.split(',').any(|member| member == user))
    };
    let numbers = table.lines().filter(lists).filter_map(|line| line.split(':').nth(2));
    [user].into_iter().chain(numbers).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_without_a_name_service() {
        let users = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n";
        assert_eq!(entry_in(users, "alice").as_deref(), users.lines().nth(1));
        assert_eq!(entry_in(users, "1000").as_deref(), users.lines().nth(1));
        assert_eq!(entry_in(users, "nobody"), None);
        let groups = "wheel:x:10:alice,bob\naudio:x:11:bob\ndocker:x:12:alice\n";
        assert_eq!(groups_in(groups, "alice"), "alice 10 12");
        assert_eq!(groups_of_line(&groups_in(groups, "alice")), [10, 12]);
    }
}
