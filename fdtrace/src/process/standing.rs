//! What an id is, for whoever asks about a process.

use std::fmt;

use super::{
    identity,
    procfs::{Text, number},
};

/// What has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A process that runs a program.
    Running,
    /// Nothing.
    Nothing,
    /// A thread of this process that is not its first one.
    ThreadOf(u32),
    /// A process that has ended, and waits for this parent to ask for its status.
    Ended(u32),
    /// A thread of the kernel.
    Kernel,
}

/// `PF_KTHREAD` (include/linux/sched.h)
const PF_KTHREAD: u64 = 0x0020_0000;

impl Standing {
    /// What has this id now.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let (Ok(status), Ok(stat)) = (Text::of(pid, "status"), Text::of(pid, "stat")) else {
            return Self::Nothing;
        };
        Self::read(pid, &status, &stat)
    }

    fn read(pid: u32, status: &Text, stat: &Text) -> Self {
        let line = |key: &str| status.line(key);
        let group = line("Tgid:").and_then(number).unwrap_or(pid);
        let fields: Vec<&[u8]> = stat.behind_the_name().into_iter().flatten().collect();
        let flags: u64 = fields.get(6).copied().and_then(number).unwrap_or(0);
        let threads: u64 = line("Threads:").and_then(number).unwrap_or(0);
        let has_ended = matches!(fields.first(), Some(&b"Z" | &b"X"));
        if group != pid {
            Self::ThreadOf(group)
        } else if flags & PF_KTHREAD != 0 {
            Self::Kernel
        } else if has_ended && threads <= 1 {
            Self::Ended(fields.get(1).copied().and_then(number).unwrap_or(0))
        } else {
            Self::Running
        }
    }

    /// Why such an id holds no handles, in a sentence; `None` of a process that runs.
    #[must_use]
    pub fn refusal(&self, pid: u32) -> Option<String> {
        let named = |pid: u32| Named(pid).to_string();
        Some(match self {
            Self::Running => return None,
            Self::Nothing => format!("there is no process {pid}"),
            Self::ThreadOf(group) => {
                format!(
                    "{pid} is a thread of {}, which holds its handles: ask for --pid {group}",
                    named(*group)
                )
            }
            Self::Ended(0) => format!("{} has ended, and holds nothing", named(pid)),
            Self::Ended(parent) => {
                format!(
                    "{} has ended and holds nothing; {} has not asked for its status yet",
                    named(pid),
                    named(*parent)
                )
            }
            Self::Kernel => format!("{} is a thread of the kernel, and has no descriptors", named(pid)),
        })
    }
}

struct Named(u32);

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = identity(self.0).comm;
        if name.is_empty() {
            write!(formatter, "process {}", self.0)
        } else {
            write!(formatter, "{name} ({})", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(status: &str, stat: &str) -> Standing {
        Standing::read(7, &Text::from(status.as_bytes()), &Text::from(stat.as_bytes()))
    }

    #[test]
    fn what_an_id_may_be() {
        let alone = "Name:\tapp\nTgid:\t7\nThreads:\t1\n";
        assert_eq!(standing(alone, "7 (a) S 3 7 7 0 -1 4194304 1"), Standing::Running);
        assert_eq!(standing(alone, "7 (a) Z 3 7 7 0 -1 4194304 1"), Standing::Ended(3));
        assert_eq!(standing(alone, "7 (k) S 2 0 0 0 -1 2129984 1"), Standing::Kernel);
        // Its first thread has ended, and others go on.
        let others = "Tgid:\t7\nThreads:\t2\n";
        assert_eq!(standing(others, "7 (a) Z 3 7 7 0 -1 4194304 1"), Standing::Running);
        assert_eq!(standing("Tgid:\t5\nThreads:\t2\n", "7 (a) S 3 7 7 0 -1 0 1"), Standing::ThreadOf(5));
    }

    #[test]
    fn who_runs_is_not_refused() {
        let own = std::process::id();
        assert_eq!((Standing::of(own), Standing::of(own).refusal(own)), (Standing::Running, None));
        assert_eq!(Standing::of(u32::MAX), Standing::Nothing);
        let refusal = Standing::ThreadOf(own).refusal(7).unwrap_or_default();
        assert!(refusal.ends_with(&format!("ask for --pid {own}")), "{refusal}");
    }
}
