//! The steps. Each makes a known number of handles and enters them in the ledger.

use super::{
    NotPossible,
    children::{Running, beside_child, execute, in_children, pause},
    holding,
    ledger::{By, Cause, Entry, Holder, Kind, Ledger, Mapping, Origin},
    mapped,
    place::{FILE_LEN, Place},
    processes,
    shm::Segment,
    wandering::wander,
};
use anyhow::{Context as _, Result, ensure};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll},
    fs::{CWD, MemfdFlags, Mode, OFlags, fdatasync, inotify, memfd_create, openat, unlink},
    io::{Errno, fcntl_dupfd_cloexec, write},
    mm::{MapFlags, ProtFlags, mmap},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
        accept_with, bind, connect, getsockname, ipproto, listen, sendmsg, socket_with, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
    process::{PidfdFlags, getpid, pidfd_open},
    time::{TimerfdClockId, TimerfdFlags, timerfd_create},
};
use std::{
    ffi::CStr,
    io::IoSlice,
    mem::{MaybeUninit, forget},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    ptr,
    sync::Mutex,
    thread,
};

/// A step, by name.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) name: &'static str,
    /// It makes child processes, so it runs in one thread only.
    pub(super) forks: bool,
    pub(super) run: fn(&Place, u64, &mut Ledger) -> Result<()>,
}

const fn action(name: &'static str, run: fn(&Place, u64, &mut Ledger) -> Result<()>) -> Action {
    Action { name, forks: false, run }
}

const fn forking(name: &'static str, run: fn(&Place, u64, &mut Ledger) -> Result<()>) -> Action {
    Action { name, forks: true, run }
}

/// Every step that there is.
pub(super) static STEPS: [Action; 56] = [
    action("pairs", pairs),
    action("kept", kept),
    action("leaky", leaky),
    action("wandering", wandering),
    action("failed", failed),
    action("crowded", crowded),
    action("directories", directories),
    action("char-devices", char_devices),
    action("temporary", temporary),
    action("deleted", deleted),
    action("paths", paths),
    action("dups", dups),
    action("tcp", tcp),
    action("tcp-connections", tcp_connections),
    action("close-wait", close_wait),
    action("unix", unix),
    action("socketpairs", socketpairs),
    action("pipes", pipes),
    action("epoll", epoll_instances),
    action("eventfd", eventfds),
    action("inotify", inotify_instances),
    action("timerfd", timerfds),
    action("signalfd", signalfds),
    action("pidfd", pidfds),
    action("memfd", memfds),
    action("mapped", mapped),
    action("mapped-open", holding::mapped_open),
    action("vmas", holding::vmas),
    action("mapped-code", mapped::code),
    action("mapped-memfd-code", mapped::memfd_code),
    action("mapped-deleted-code", mapped::deleted_code),
    action("shared-anonymous", shared_anonymous),
    action("shm-attach", shm_attach),
    action("shm-huge", holding::shm_huge),
    action("shm-segments", shm_segments),
    action("scm-rights", scm_rights),
    action("scm-nested", holding::scm_nested),
    action("scm-embryo", holding::scm_embryo),
    action("scm-datagram", holding::scm_datagram),
    action("io-uring-files", holding::io_uring_files),
    action("passing", holding::passing),
    forking("threads", threads),
    forking("forks", forks),
    forking("exit-children", exit_children),
    forking("exec-children", exec_children),
    forking("running-programs", running_programs),
    forking("other-process", other_process),
    forking("last-holder-exits", last_holder_exits),
    forking("shm-both", processes::shm_both),
    forking("shared-children", processes::shared_children),
    forking("mapped-shared", mapped::shared),
    forking("main-exited", processes::main_exited),
    forking("private-tables", processes::private_tables),
    forking("inherited", processes::inherited),
    forking("executables", processes::executables),
    forking("io-uring-rings", processes::io_uring_rings),
];

/// The names of all steps.
pub fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|action| action.name)
}

/// The most descriptors in one message (`SCM_MAX_FD`).
pub(super) const SCM_MAX_FD: usize = 253;

pub(super) fn open(path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    openat(CWD, path, flags, Mode::RUSR).with_context(|| format!("open {}", path.to_string_lossy()))
}

pub(super) fn open_file(place: &Place) -> Result<OwnedFd> {
    open(&place.file, OFlags::RDONLY | OFlags::CLOEXEC)
}

fn pairs(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    for _ in 0..count {
        drop(open_file(place)?);
    }
    ledger.gone(Cause::Close, count);
    Ok(())
}

fn kept(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(open_file(place)?, Origin::Open, Kind::Regular);
        Ok(())
    })
}

/// One call site that lets go of most of its files, and forgets each tenth.
fn leaky(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (1..=count).try_for_each(|number| {
        let file = open_file(place)?;
        if number % 10 == 0 {
            ledger.keep(file, Origin::Open, Kind::Regular);
        } else {
            drop(file);
            ledger.gone(Cause::Close, 1);
        }
        Ok(())
    })
}

/// Files that are closed again, opened from stacks of many shapes.
fn wandering(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    wander(count, &mut || {
        drop(open_file(place)?);
        Ok(())
    })?;
    ledger.gone(Cause::Close, count);
    Ok(())
}

fn failed(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    for _ in 0..count {
        let result = openat(CWD, &place.missing, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        ensure!(matches!(result, Err(Errno::NOENT)), "opening a missing file gave {result:?}");
    }
    ledger.never_opened(count);
    Ok(())
}

/// Opens that may meet the machine's limit of handles.
fn crowded(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        match openat(CWD, &place.file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                drop(file);
                ledger.gone(Cause::Close, 1);
            }
            Err(Errno::NFILE) => ledger.failed("ENFILE", 1),
            Err(error) => return Err(error).context("open"),
        }
        Ok(())
    })
}

fn directories(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        ledger.keep(open(&place.directory, flags)?, Origin::OpenDir, Kind::Directory);
        Ok(())
    })
}

fn char_devices(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC)?, Origin::Open, Kind::Char);
        Ok(())
    })
}

/// Files that never had a name.
fn temporary(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let entry = Entry::new(Origin::Open, Kind::Regular, 1, By::Descriptor);
        ledger.hold(Holder::Descriptors(vec![open(&place.directory, flags)?]), entry.deleted(0));
        Ok(())
    })
}

/// Bytes that are written to a file before it loses its name.
const DELETED_LEN: usize = 8192;

/// Files that were unlinked after they were opened and written to.
fn deleted(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let path = place.new_name()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = open(&path, flags)?;
        unlink(&path)?;
        let written = write(&file, &[1; DELETED_LEN])?;
        ensure!(written == DELETED_LEN, "wrote {written} bytes");
        // A file system may wait with giving a file its room.
        fdatasync(&file)?;
        let entry = Entry::new(Origin::Open, Kind::Regular, 1, By::Descriptor);
        ledger.hold(Holder::Descriptors(vec![file]), entry.deleted(DELETED_LEN as u64));
        Ok(())
    })
}

/// Files that are known by their place and not opened for anything.
fn paths(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(open(&place.file, OFlags::PATH | OFlags::CLOEXEC)?, Origin::Open, Kind::Regular);
        Ok(())
    })
}

/// One handle, however many descriptors: the first one closed, `count` copies kept.
fn dups(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let first = open_file(place)?;
    let copies = (0..count).map(|_| fcntl_dupfd_cloexec(&first, 0)).collect::<Result<_, _>>()?;
    drop(first);
    let entry = Entry::new(Origin::Open, Kind::Regular, 1, By::Descriptor);
    ledger.hold(Holder::Descriptors(copies), entry.referred_to(vec![(By::Descriptor, count)]));
    Ok(())
}

pub(super) fn stream_socket(family: AddressFamily) -> Result<OwnedFd> {
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("socket")
}

fn tcp(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(stream_socket(AddressFamily::INET)?, Origin::Socket, Kind::Socket);
        Ok(())
    })
}

/// A listening socket, and both ends of `count` connections to it.
fn tcp_connections(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    each_connection(count, ledger, |client, server, ledger| {
        ledger.keep_all(vec![client, server], Origin::Socket, Kind::Socket);
        Ok(())
    })
}

/// What a peer sends before it closes, and nobody reads.
const UNREAD: &[u8] = b"nobody reads this";

/// A listening socket, and the servers' ends of `count` connections that the clients have closed.
fn close_wait(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    each_connection(count, ledger, |client, server, ledger| {
        write(&client, UNREAD)?;
        drop(client);
        ledger.gone(Cause::Close, 1);
        // The state is what it is when the peer's last words have come.
        poll(&mut [PollFd::new(&server, PollFlags::RDHUP)], None)?;
        ledger.keep(server, Origin::Socket, Kind::Socket);
        Ok(())
    })
}

fn each_connection(
    count: u64,
    ledger: &mut Ledger,
    mut with: impl FnMut(OwnedFd, OwnedFd, &mut Ledger) -> Result<()>,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let listener =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).context("bind to 127.0.0.1")?;
    listen(&listener, 1)?;
    let address = getsockname(&listener)?;
    for _ in 0..count {
        let client = stream_socket(AddressFamily::INET)?;
        connect(&client, &address).context("connect")?;
        let server = accept_with(&listener, SocketFlags::CLOEXEC).context("accept")?;
        with(client, server, ledger)?;
    }
    ledger.keep(listener, Origin::Socket, Kind::Socket);
    Ok(())
}

fn unix(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(stream_socket(AddressFamily::UNIX)?, Origin::Socket, Kind::Socket);
        Ok(())
    })
}

pub(crate) fn unix_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("socketpair")
}

fn socketpairs(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let (one, other) = unix_pair()?;
        ledger.keep_all(vec![one, other], Origin::Socket, Kind::Socket);
        Ok(())
    })
}

fn pipes(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        ledger.keep_all(vec![reader, writer], Origin::Pipe, Kind::Fifo);
        Ok(())
    })
}

fn epoll_instances(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(epoll::create(epoll::CreateFlags::CLOEXEC)?, Origin::AnonInode, Kind::Anon);
        Ok(())
    })
}

fn eventfds(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(eventfd(0, EventfdFlags::CLOEXEC)?, Origin::AnonInode, Kind::Anon);
        Ok(())
    })
}

fn inotify_instances(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(inotify::init(inotify::CreateFlags::CLOEXEC)?, Origin::AnonInode, Kind::Anon);
        Ok(())
    })
}

fn timerfds(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        ledger.keep(timer, Origin::AnonInode, Kind::Anon);
        Ok(())
    })
}

fn signalfds(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    // SAFETY: all bytes zero are a set without signals.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    (0..count).try_for_each(|_| {
        // SAFETY: `none` outlives the call, which makes a new descriptor for -1.
        let number = unsafe { libc::signalfd(-1, &raw const none, libc::SFD_CLOEXEC) };
        ensure!(number >= 0, "signalfd: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just made it, and nothing else knows it.
        let signals = unsafe { OwnedFd::from_raw_fd(number) };
        ledger.keep(signals, Origin::AnonInode, Kind::Anon);
        Ok(())
    })
}

/// Of this process itself.
fn pidfds(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let process = pidfd_open(getpid(), PidfdFlags::empty())
            .map_err(|error| NotPossible(format!("pidfd_open: {error}")))?;
        ledger.keep(process, Origin::AnonInode, Kind::Anon);
        Ok(())
    })
}

fn memfds(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        ledger.keep(memfd_create(c"workload", MemfdFlags::CLOEXEC)?, Origin::Shmem, Kind::Memfd);
        Ok(())
    })
}

/// Files that are closed after they were mapped: alive, with no descriptor.
fn mapped(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let mapping = map(&open_file(place)?)?;
        let entry = Entry::new(Origin::Open, Kind::Regular, 1, By::Mapping);
        ledger.hold(Holder::Mapping(mapping), entry);
        Ok(())
    })
}

pub(super) fn map(file: &OwnedFd) -> Result<Mapping> {
    // SAFETY: the kernel chooses the address, and nobody writes to or shortens the file while it is mapped.
    let address = unsafe { mmap(ptr::null_mut(), FILE_LEN, ProtFlags::READ, MapFlags::PRIVATE, file, 0) };
    // SAFETY: the mapping was just made with this length, and nothing else knows it.
    Ok(unsafe { Mapping::new(address.context("mmap")?, FILE_LEN) })
}

/// Anonymous memory that is shared: the kernel makes a file for it.
fn shared_anonymous(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    (0..count).try_for_each(|_| {
        // SAFETY: the kernel chooses the address, so no memory that Rust knows is replaced.
        let address =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), FILE_LEN, protection, MapFlags::SHARED) };
        // SAFETY: the mapping was just made with this length, and nothing else knows it.
        let mapping = unsafe { Mapping::new(address.context("mmap")?, FILE_LEN) };
        ledger.hold(Holder::Mapping(mapping), Entry::new(Origin::Shmem, Kind::Shm, 1, By::Mapping));
        Ok(())
    })
}

/// One segment, which is one handle, attached `count` times, which is one handle each.
fn shm_attach(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    match count {
        0 => Ok(()),
        _ => attach(Segment::new()?, count, count, ledger),
    }
}

/// `total`: with those of other processes.
pub(super) fn attach(segment: Segment, count: u64, total: u64, ledger: &mut Ledger) -> Result<()> {
    for _ in 0..count {
        let entry = Entry::new(Origin::ShmAttach, Kind::Shm, 1, By::ShmAttach);
        ledger.hold(Holder::Attachment(segment.attach()?), entry);
    }
    let entry = segment_entry(&segment, total);
    // Marked for removal now; it goes with the last attachment, even when this process is killed.
    drop(segment);
    ledger.hold(Holder::Another, entry);
    Ok(())
}

pub(super) fn segment_entry(segment: &Segment, attaches: u64) -> Entry {
    let entry = Entry::new(Origin::Shmem, Kind::Shm, 1, By::ShmSegment);
    entry.of_nobody().segment(segment.id(), attaches)
}

/// Segments that nothing attaches: handles without any holder but the kernel.
fn shm_segments(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let segment = Segment::new()?;
        let entry = segment_entry(&segment, 0);
        ledger.hold(Holder::Segment(segment), entry);
        Ok(())
    })
}

/// Files that are closed after they were sent to a socket that nobody reads.
fn scm_rights(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (sender, receiver) = unix_pair()?;
    let mut left = usize::try_from(count)?;
    while left > 0 {
        let batch = left.min(SCM_MAX_FD);
        let files = (0..batch).map(|_| open_file(place)).collect::<Result<Vec<_>>>()?;
        send_files(&sender, &files)?;
        left -= batch;
    }
    ledger.keep_all(vec![sender, receiver], Origin::Socket, Kind::Socket);
    let entry = Entry::new(Origin::Open, Kind::Regular, count, By::ScmRights);
    ledger.hold(Holder::Another, entry);
    Ok(())
}

pub(super) fn send_files(sender: &OwnedFd, files: &[OwnedFd]) -> Result<()> {
    let borrowed: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&borrowed)), "too many descriptors for one message");
    sendmsg(sender, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).context("sendmsg")?;
    Ok(())
}

/// Threads that open a file each and end: their handles are the process's and stay.
fn threads(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    let opened = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                let file = open_file(place);
                opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(file);
            });
        }
    });
    for file in opened.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        ledger.keep(file?, Origin::Open, Kind::Regular);
    }
    Ok(())
}

/// Children that inherit everything, make nothing and exit: no handle comes or goes.
fn forks(_: &Place, count: u64, _: &mut Ledger) -> Result<()> {
    in_children(count, || true)
}

/// Children that open three files each and exit without closing them.
fn exit_children(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    in_children(count, || (0..3).all(|_| leave_open(place, OFlags::CLOEXEC)))?;
    ledger.gone(Cause::Exit, 3 * count);
    Ok(())
}

/// Children that open two files which exec closes and one which it does not, and become another program.
fn exec_children(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    let body = || {
        leave_open(place, OFlags::CLOEXEC)
            && leave_open(place, OFlags::CLOEXEC)
            && leave_open(place, OFlags::empty())
            && execute(&place.program)
    };
    // The program stops itself and is continued, which only shows that it ran.
    (0..count).try_for_each(|_| beside_child(body, || ()))?;
    ledger.gone(Cause::Exec, 2 * count);
    // The file that exec left open, and the program itself.
    ledger.gone(Cause::Exit, 2 * count);
    Ok(())
}

/// Children that run another program: its file is open as long as they run.
fn running_programs(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let process = Running::start(&place.program, ledger)?;
        let entry = Entry::new(Origin::Exec, Kind::Regular, 1, By::Mapping).of(&process);
        ledger.hold(Holder::Running(process), entry.referred_to(program_references(1)));
        Ok(())
    })
}

/// A program's file is mapped, once, and its executable.
pub(super) fn program_references(programs: u64) -> Vec<(By, u64)> {
    vec![(By::Mapping, programs), (By::Executable, programs)]
}

/// In a child: opens the file for as long as the process lives.
pub(super) fn leave_open(place: &Place, flags: OFlags) -> bool {
    openat(CWD, &place.file, OFlags::RDONLY | flags, Mode::empty()).map(forget).is_ok()
}

/// Files that the parent opens and a child closes last.
fn other_process(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    hand_to_child(place, count, true)?;
    ledger.gone(Cause::OtherProcess, count);
    Ok(())
}

/// Files that the parent opens and that go when a child exits.
fn last_holder_exits(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    hand_to_child(place, count, false)?;
    ledger.gone(Cause::Exit, count);
    Ok(())
}

fn hand_to_child(place: &Place, count: u64, closes: bool) -> Result<()> {
    (0..count).try_for_each(|_| {
        let file = open_file(place)?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        let child = || {
            pause();
            // SAFETY: close takes no pointers; this process exits next and uses the descriptor no more.
            !closes || unsafe { libc::close(descriptor) } == 0
        };
        beside_child(child, || drop(file))
    })
}
