//! Steps whose handles are held by something else than a descriptor, or by more than one thing.

use super::{
    io_uring,
    ledger::{By, Cause, Entry, Holder, Kind, Ledger, Origin},
    place::Place,
    shm::Segment,
    steps::{SCM_MAX_FD, attach, map, open_file, send_files, stream_socket, unix_pair},
};
use anyhow::{Context as _, Result};
use rustix::{
    fd::OwnedFd,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
        socketpair,
    },
};

/// Files that are mapped and open: held twice, and counted as open.
pub(super) fn mapped_open(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let file = open_file(place)?;
        let entry = Entry::new(Origin::Open, Kind::Regular, 1, By::Descriptor);
        let entry = entry.referred_to(vec![(By::Descriptor, 1), (By::Mapping, 1)]);
        ledger.hold(Holder::MappedOpen(map(&file)?, file), entry);
        Ok(())
    })
}

/// One file, mapped `count` times and closed: one handle.
pub(super) fn vmas(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let file = open_file(place)?;
    // All of them show the same page, so the kernel cannot make one of two neighbours.
    let mappings = (0..count).map(|_| map(&file)).collect::<Result<_>>()?;
    let entry = Entry::new(Origin::Open, Kind::Regular, 1, By::Mapping);
    ledger.hold(Holder::Mappings(mappings), entry.referred_to(vec![(By::Mapping, count)]));
    Ok(())
}

/// As `shm-attach`, with a segment in huge pages.
pub(super) fn shm_huge(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    match count {
        0 => Ok(()),
        _ => attach(Segment::huge()?, count, count, ledger),
    }
}

fn open_files(place: &Place, count: usize) -> Result<Vec<OwnedFd>> {
    (0..count).map(|_| open_file(place)).collect()
}

/// Sends files through a socket and closes them, in messages as large as may be.
fn send_all(sender: &OwnedFd, place: &Place, count: u64) -> Result<()> {
    let mut left = usize::try_from(count)?;
    while left > 0 {
        let batch = left.min(SCM_MAX_FD);
        send_files(sender, &open_files(place, batch)?)?;
        left -= batch;
    }
    Ok(())
}

/// Files in the queue of a socket, which is in the queue of a socket, which is in the queue of a third one.
pub(super) fn scm_nested(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (inner, middle, outer) = (unix_pair()?, unix_pair()?, unix_pair()?);
    send_all(&inner.0, place, count)?;
    send_files(&middle.0, &[inner.0, inner.1])?;
    send_files(&outer.0, &[middle.0, middle.1])?;
    ledger.keep_all(vec![outer.0, outer.1], Origin::Socket, Kind::Socket);
    ledger.hold(Holder::Another, Entry::new(Origin::Socket, Kind::Socket, 4, By::ScmRights));
    ledger.hold(Holder::Another, Entry::new(Origin::Open, Kind::Regular, count, By::ScmRights));
    Ok(())
}

/// Files in a connection that nobody has accepted: its end at the server has no handle yet.
pub(super) fn scm_embryo(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (listener, client) = (stream_socket(AddressFamily::UNIX)?, stream_socket(AddressFamily::UNIX)?);
    // The kernel finds a name that is free.
    bind(&listener, &SocketAddrUnix::new_unnamed()).context("bind")?;
    listen(&listener, 1)?;
    connect(&client, &getsockname(&listener)?).context("connect")?;
    send_all(&client, place, count)?;
    ledger.keep_all(vec![listener, client], Origin::Socket, Kind::Socket);
    ledger.hold(Holder::Another, Entry::new(Origin::Open, Kind::Regular, count, By::ScmRights));
    Ok(())
}

/// Files in the queues of datagram sockets, of which each takes one message: there is room for few.
pub(super) fn scm_datagram(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    let mut left = usize::try_from(count)?;
    while left > 0 {
        let batch = left.min(SCM_MAX_FD);
        let (sender, receiver) =
            socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        send_files(&sender, &open_files(place, batch)?)?;
        ledger.keep_all(vec![sender, receiver], Origin::Socket, Kind::Socket);
        let entry = Entry::new(Origin::Open, Kind::Regular, batch as u64, By::ScmRights);
        ledger.hold(Holder::Another, entry);
        left -= batch;
    }
    Ok(())
}

/// Files that are closed after an io_uring has taken them.
pub(super) fn io_uring_files(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let ring = io_uring::made()?;
    io_uring::register_files(&ring, &open_files(place, usize::try_from(count)?)?)?;
    ledger.keep(ring, Origin::AnonInode, Kind::Anon);
    // The ring is taken apart by a worker of the kernel.
    let entry = Entry::new(Origin::Open, Kind::Regular, count, By::IoUring).gone_by(Cause::Kernel);
    ledger.hold(Holder::Another, entry);
    Ok(())
}

/// A file that is mapped for a moment, one that is in flight for a moment, and a segment that is attached for a moment.
pub(super) fn passing(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    for _ in 0..count {
        drop(map(&open_file(place)?)?);
        let (sender, receiver) = unix_pair()?;
        send_all(&sender, place, 1)?;
        drop((sender, receiver));
        let segment = Segment::new()?;
        drop((segment.attach()?, segment));
    }
    // The files, the two ends, the segment and its attachment.
    ledger.gone(Cause::Close, 6 * count);
    Ok(())
}
