//! What handles of a site are called, and what was done to get them.

use crate::{
    model::{Holder, Kind, Origin, Site, check::Finding},
    stacks,
    text::fmt::number,
};

/// A thing, and how a program comes by it and gets rid of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    one: &'static str,
    several: &'static str,
    /// `opened`
    pub(super) made: &'static str,
    /// `closed`
    pub(super) ended: &'static str,
}

impl Words {
    /// `1 file`, `50 files`
    pub(super) fn counted(self, count: u64) -> String {
        format!("{} {}", number(count), self.of(count))
    }

    /// `file` or `files`
    pub(super) const fn of(self, count: u64) -> &'static str {
        if count == 1 { self.one } else { self.several }
    }
}

const fn words(one: &'static str, several: &'static str, made: &'static str) -> Words {
    Words { one, several, made, ended: "closed" }
}

/// What people call handles of all sorts.
pub(super) const FILES: Words = words("file", "files", "opened");

/// Anonymous inodes by the name that the kernel gives them.
const ANON: [(&str, Words); 8] = [
    ("[eventpoll]", words("epoll instance", "epoll instances", "created")),
    ("[eventfd]", words("eventfd", "eventfds", "created")),
    ("[timerfd]", words("timerfd", "timerfds", "created")),
    ("[signalfd]", words("signalfd", "signalfds", "created")),
    ("inotify", words("inotify instance", "inotify instances", "created")),
    ("[io_uring]", words("io_uring", "io_urings", "created")),
    ("[pidfd]", words("pidfd", "pidfds", "opened")),
    ("bpf", words("BPF object", "BPF objects", "created")),
];

/// What the handles of a finding are called: by the kind that most of them are of.
pub(super) fn of(finding: &Finding) -> Words {
    let site = &finding.site;
    let words = match (site.origin, kind(site)) {
        (Origin::Dup, _) => words("descriptor", "descriptors", "duplicated"),
        (Origin::Recvmsg, _) => words("descriptor", "descriptors", "received"),
        (Origin::PidfdGetfd, _) => words("descriptor", "descriptors", "taken"),
        (Origin::ShmAttach, _) => words("shared memory segment", "shared memory segments", "attached"),
        (_, Kind::Regular) => FILES,
        (_, Kind::Directory) => words("directory", "directories", "opened"),
        (_, Kind::Socket) => words("socket", "sockets", socket_verb(site)),
        (Origin::Pipe, _) => words("pipe end", "pipe ends", "created"),
        (_, Kind::Fifo) => words("FIFO", "FIFOs", "opened"),
        (_, Kind::Anon) => anon(site),
        (_, Kind::Memfd) => words("memfd", "memfds", "created"),
        (_, Kind::Char | Kind::Block) => words("device", "devices", "opened"),
        (Origin::Socket, _) => words("socket", "sockets", socket_verb(site)),
        (Origin::Open, _) => FILES,
        (Origin::OpenDir, _) => words("directory", "directories", "opened"),
        _ => words("handle", "handles", "made"),
    };
    Words { ended: end(site), ..words }
}

/// The kind that most are of.
pub(super) fn kind(site: &Site) -> Kind {
    let most = site.kinds.iter().max_by_key(|(_, count)| **count).map(|(kind, _)| *kind);
    most.or_else(|| site.examples.first().map(|example| example.kind)).unwrap_or_default()
}

/// Whether mappings alone hold them.
pub(super) fn is_mapped(site: &Site) -> bool {
    let held = |holder| site.holders.get(&holder).copied().unwrap_or_default();
    held(Holder::Mapping) > 0 && held(Holder::Descriptor) == 0
}

fn end(site: &Site) -> &'static str {
    match site.origin {
        Origin::ShmAttach => "detached",
        _ if is_mapped(site) => "unmapped",
        _ => "closed",
    }
}

fn socket_verb(site: &Site) -> &'static str {
    let accepts = |symbol: &str| symbol.contains("accept");
    let innermost = stacks::telling(&site.user_stack).take(3);
    let is_accepted = innermost.filter_map(|frame| frame.symbol.as_deref()).any(accepts);
    if is_accepted { "accepted" } else { "created" }
}

fn anon(site: &Site) -> Words {
    let name = site.examples.first().map_or("", |example| example.name.as_str());
    let known = ANON.iter().find(|(inode, _)| name.contains(inode));
    known.map_or(words("handle", "handles", "created"), |(_, words)| *words)
}
