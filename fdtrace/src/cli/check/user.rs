//! Running the command as somebody else.

use std::{ffi::CString, fmt, io};

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User, getgrouplist, setgid, setgroups, setuid},
};

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
        let found = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(user),
        }
        // A machine without a list of users has numbers.
        .or_else(|error| if error == Errno::ENOENT { Ok(None) } else { Err(error) })
        .map_err(|error| Failure::Failed(anyhow::anyhow!("--user {user}: {error}")))?;
        let number = found.as_ref().map(|user| user.uid).or_else(|| user.parse().ok().map(Uid::from_raw));
        let number = number.ok_or_else(|| unknown("user", user))?;
        let group = match (group, &found) {
            (Some(name), _) => find_group(name)?.ok_or_else(|| unknown("group", name))?,
            (None, Some(user)) => user.gid,
            (None, None) => Gid::from_raw(number.as_raw()),
        };
        let name = found.and_then(|user| CString::new(user.name).ok());
        let groups = name.and_then(|name| getgrouplist(&name, group).ok()).unwrap_or_else(|| vec![group]);
        Ok(Self { user: number, group, groups })
    }

    /// Becomes that user for good.
    pub(super) fn become_it(&self) -> io::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.group)?;
        Ok(setuid(self.user)?)
    }
}

fn find_group(name: &str) -> Result<Option<Gid>, Failure> {
    if let Ok(number) = name.parse() {
        return Ok(Some(Gid::from_raw(number)));
    }
    let group = Group::from_name(name)
        .map_err(|error| Failure::Failed(anyhow::anyhow!("--user: group {name}: {error}")))?;
    Ok(group.map(|group| group.gid))
}
