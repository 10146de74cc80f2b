//! What a site keeps for a reason that can be seen is no leak, but a word of its own. `docs/verdict.md` says when.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    evaluate::{Evaluator, Group, LeftOpen},
    rule::{Disposition, SiteStats},
};
use crate::{
    model::{Kind, UserFrame},
    stacks::{libraries::is_c_library, telling},
    stream::Site,
};

/// `TCP_ESTABLISHED` (include/net/tcp_states.h)
const ESTABLISHED: u8 = 1;
/// Where the kernel makes the socket of a connection that it accepts, whoever asks: a system call, or io_uring.
const ACCEPTING: [&str; 2] = ["do_accept", "__sys_accept4_file"];

impl Evaluator {
    /// Sockets that programs have accepted and that are alive, by address and generation; the first so many.
    pub(crate) fn accepted(&self, most: usize) -> Vec<(u64, u64)> {
        let lives = self.lives().filter(|(_, _, group)| is_accepting(self, group));
        lives.map(|(handle, generation, _)| (handle, generation)).take(most).collect()
    }
}

/// Whether a group's handles are sockets of connections that were accepted.
fn is_accepting(evaluator: &Evaluator, group: &Group) -> bool {
    if group.call.acquired {
        return false;
    }
    let by_kernel = || {
        let site = group.site.and_then(|id| evaluator.site(id));
        site.is_some_and(|site| site.kernel.iter().any(|frame| ACCEPTING.contains(&frame.symbol.as_str())))
    };
    group.call.is(libc::SYS_accept4) || group.call.is(libc::SYS_accept) || by_kernel()
}

/// How many of the sockets that a site accepted and kept have a peer that is there and has not hung up. None of those that
/// a program connected itself: their number is its own doing.
pub(super) fn living_peers(evaluator: &Evaluator, stats: &SiteStats<'_>) -> u64 {
    let groups = &stats.groups;
    if groups.is_empty() || !groups.iter().all(|group| is_accepting(evaluator, group)) {
        return 0;
    }
    let alive: u64 = groups.iter().map(|group| group.connected).sum();
    alive + peers_at_exit(&stats.of(Disposition::Kept).collect::<Vec<_>>())
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
fn different_files<'a>(stats: &SiteStats<'a>, most: u64) -> Option<BTreeSet<&'a str>> {
    let (mut names, mut again) = (BTreeSet::new(), 0);
    for left in stats.of(Disposition::Kept) {
        let name = left.held.name.as_deref().filter(|_| left.held.kind == Kind::Regular && left.of == 0)?;
        again += u64::from(!names.insert(name));
    }
    (again <= most).then_some(names)
}

/// How many archives of code a site has kept, and nothing else: what a runtime has on its class path is open for as long as
/// it runs, as libraries are mapped. Each is a file of its own that was opened to be read; a link may name one once more.
pub(super) fn archives(stats: &SiteStats<'_>, holds_code: &dyn Fn(&str) -> bool) -> Option<usize> {
    let only_read = with_something_kept(stats).all(only_reads);
    let files = different_files(stats, LINKS).filter(|_| only_read)?;
    files.iter().all(|path| holds_code(path)).then_some(files.len())
}

/// Of the calls that a site stands for, those that kept something.
fn with_something_kept<'a>(stats: &'a SiteStats<'_>) -> impl Iterator<Item = &'a Group> {
    stats.groups.iter().copied().filter(|group| !group.left.is_empty() || group.series.live() > 0)
}

/// So many files of a class path may be on it by two names.
const LINKS: u64 = 1;

/// A cache has no more files than this part of the descriptors that its process may have.
const PART_OF_LIMIT: u64 = 4;

/// How many data files a site has kept, and nothing else, of a cache as databases have one: files that were there before,
/// opened to be read and written, each another one, by a function that closes others of them.
pub(super) fn data_files(evaluator: &Evaluator, stats: &SiteStats<'_>) -> Option<usize> {
    let groups = &stats.groups;
    let image = groups.first().and_then(|group| evaluator.image(group.image))?;
    let opener = groups.first().and_then(|group| opener(evaluator, group))?;
    let closes = |group: &Group| group.closed > 0 && self::opener(evaluator, group) == Some(opener);
    let files = different_files(stats, 0).filter(|_| with_something_kept(stats).all(updates_in_place))?;
    let few = files.len() as u64 <= image.limit / PART_OF_LIMIT;
    (few && image.groups.iter().any(|index| closes(evaluator.group_at(*index)))).then_some(files.len())
}

/// The function that calls the C library, by its module and name; of a script by its file and name.
fn opener<'a>(evaluator: &'a Evaluator, group: &Group) -> Option<(&'a str, &'a str)> {
    let frames = &group.site.and_then(|id| evaluator.site(id))?.user.frames;
    let frame = telling(frames.iter().map(Arc::as_ref)).find(|frame| !is_in_library(frame))?;
    frame.module.as_deref().or(frame.file.as_deref()).zip(frame.symbol.as_deref())
}

/// A stack that was cut off in the C library stands for all lines of the program.
pub(super) fn ends_in_library(site: &Site) -> bool {
    let frames = &site.user.frames;
    !site.user.complete && !frames.is_empty() && frames.iter().all(|frame| is_in_library(frame))
}

fn is_in_library(frame: &UserFrame) -> bool {
    frame.module.as_deref().is_some_and(is_c_library)
}

fn only_reads(group: &Group) -> bool {
    flags(group).is_some_and(|flags| flags & (libc::O_ACCMODE | CREATES) == libc::O_RDONLY)
}

fn updates_in_place(group: &Group) -> bool {
    flags(group).is_some_and(|flags| flags & (libc::O_ACCMODE | CREATES) == libc::O_RDWR)
}

const CREATES: libc::c_int = libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;

/// The flags of the calls that opened files.
fn flags(group: &Group) -> Option<libc::c_int> {
    #[cfg(target_arch = "x86_64")]
    let opens = group.call.is(libc::SYS_open) || group.call.is(libc::SYS_openat);
    #[cfg(not(target_arch = "x86_64"))]
    let opens = group.call.is(libc::SYS_openat);
    opens.then_some(group.call.detail.cast_signed())
}
