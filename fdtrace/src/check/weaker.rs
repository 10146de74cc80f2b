//! What a site keeps for a reason that can be seen is no leak, but a word of its own. `docs/verdict.md` says when.

use std::collections::BTreeSet;

use super::{
    judge::{Group, Judge, LeftOpen},
    rule::{Deeds, Fate},
};
use crate::kinds::Kind;

/// `TCP_ESTABLISHED` (include/net/tcp_states.h)
const ESTABLISHED: u8 = 1;
/// Where the kernel makes the socket of a connection that it accepts, whoever asks: a system call, or io_uring.
const ACCEPTING: [&str; 2] = ["do_accept", "__sys_accept4_file"];

impl Judge {
    /// Sockets that programs have accepted and that are alive, by address and generation; the first so many.
    pub(crate) fn accepted(&self, most: usize) -> Vec<(u64, u64)> {
        let lives = self.lives().filter(|(_, _, group)| is_accepting(self, group));
        lives.map(|(handle, generation, _)| (handle, generation)).take(most).collect()
    }
}

/// Whether a group's handles are sockets of connections that were accepted.
fn is_accepting(judge: &Judge, group: &Group) -> bool {
    let is =
        |number: libc::c_long| group.call.syscall.is_some_and(|known| libc::c_long::from(known) == number);
    if group.call.acquired {
        return false;
    }
    let by_kernel = || {
        let site = group.site.and_then(|id| judge.site(id));
        site.is_some_and(|site| site.kernel.iter().any(|frame| ACCEPTING.contains(&frame.symbol.as_str())))
    };
    is(libc::SYS_accept4) || is(libc::SYS_accept) || by_kernel()
}

/// How many of the sockets that a site accepted and kept have a peer that is there and has not hung up. None of those that
/// a program connected itself: their number is its own doing.
pub(super) fn living_peers(judge: &Judge, deeds: &Deeds<'_>) -> u64 {
    let groups = &deeds.groups;
    if groups.is_empty() || !groups.iter().all(|group| is_accepting(judge, group)) {
        return 0;
    }
    let alive: u64 = groups.iter().map(|group| group.connected).sum();
    alive + peers_at_exit(&deeds.of(Fate::Kept).collect::<Vec<_>>())
}

/// A socket in the family of Unix is ESTABLISHED for ever, so when a program has ended only TCP tells.
fn peers_at_exit(kept: &[&LeftOpen]) -> u64 {
    let mut names = kept.iter().filter_map(|left| left.held.name.as_deref()).peekable();
    if names.peek().is_none() || !names.all(|name| name.starts_with("tcp ")) {
        return 0;
    }
    let is_connected =
        |left: &&&LeftOpen| !left.alive && left.at_exit().any(|open| open.socket_state == ESTABLISHED);
    kept.iter().filter(is_connected).count() as u64
}

/// The files that a site has kept, by name: regular files, and no more of them twice than `most`. None where a name is not
/// known.
fn different_files<'a>(deeds: &Deeds<'a>, most: u64) -> Option<BTreeSet<&'a str>> {
    let (mut names, mut again) = (BTreeSet::new(), 0);
    for left in deeds.of(Fate::Kept) {
        let name = left.held.name.as_deref().filter(|_| left.held.kind == Kind::Regular && left.of == 0)?;
        again += u64::from(!names.insert(name));
    }
    (again <= most).then_some(names)
}

/// How many archives of code a site has kept, and nothing else: what a runtime has on its class path is open for as long as
/// it runs, as libraries are mapped. Each is a file of its own that was opened to be read; a link may name one once more.
pub(super) fn archives(deeds: &Deeds<'_>, holds_code: &dyn Fn(&str) -> bool) -> Option<usize> {
    let only_read = deeds.groups.iter().all(|group| only_reads(group));
    let files = different_files(deeds, LINKS).filter(|_| only_read)?;
    files.iter().all(|path| holds_code(path)).then_some(files.len())
}

/// So many files of a class path may be on it by two names.
const LINKS: u64 = 1;

fn only_reads(group: &Group) -> bool {
    const WRITES: libc::c_int = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    let is =
        |number: libc::c_long| group.call.syscall.is_some_and(|known| libc::c_long::from(known) == number);
    #[cfg(target_arch = "x86_64")]
    let opens = is(libc::SYS_open) || is(libc::SYS_openat);
    #[cfg(not(target_arch = "x86_64"))]
    let opens = is(libc::SYS_openat);
    opens && group.call.detail & WRITES.cast_unsigned() == 0
}
