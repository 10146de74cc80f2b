//! Who is at the other end: of this process's own pipes, sockets and terminals.

use anyhow::{Context as _, Result, ensure};
use fdtrace::model::explain::Files as ExplainedFile;
use fdtrace_tests::harness::{AtInput, Workload, explain, explain_text, say, turn};
use rustix::{
    net::{
        AddressFamily, SocketAddrAny, SocketFlags, SocketType, accept_with, bind, connect, getsockname,
        listen, socket_with, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
};
use std::{
    fs::File,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

/// What is said of this process's descriptor.
fn found(fd: &impl AsFd) -> Result<ExplainedFile> {
    let (own, number) = (std::process::id(), fd.as_fd().as_raw_fd().cast_unsigned());
    let document = explain(["--pid", &own.to_string()])?;
    let process = document.process(own).context("this process is not there")?;
    let file = process.files.iter().find(|file| file.examples.contains(&number));
    file.cloned().with_context(|| format!("descriptor {number} is not there: {:?}", process.files))
}

/// The only end is of this sort, and these have it.
fn is_held(fd: &impl AsFd, end: &str, pids: &[u32]) -> Result<()> {
    let file = found(fd)?;
    let [peer] = file.peer.as_slice() else { anyhow::bail!("not one end: {file:?}") };
    let mut holders: Vec<u32> = peer.processes.iter().map(|process| process.pid).collect();
    holders.sort_unstable();
    ensure!((peer.end.as_str(), peer.count, peer.closed) == (end, 1, 0), "{end}: {file:?}");
    ensure!(holders == pids, "{pids:?} have the other end: {file:?}");
    Ok(())
}

/// Nobody has the other end any more.
fn is_closed(fd: &impl AsFd, end: &str) -> Result<()> {
    let file = found(fd)?;
    let [peer] = file.peer.as_slice() else { anyhow::bail!("not one end: {file:?}") };
    ensure!((peer.end.as_str(), peer.closed, peer.processes.len()) == (end, 1, 0), "{file:?}");
    Ok(())
}

/// One end here and the other one in another process, then nowhere.
fn between(here: &impl AsFd, there: OwnedFd, end: &str) -> Result<()> {
    let reader = AtInput::start(there)?;
    is_held(here, end, &[reader.pid()]).context("another process")?;
    drop(reader);
    is_closed(here, end)
}

#[test]
fn pipes() -> Result<()> {
    let _turn = turn();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    between(&writer, reader, "read")
}

/// A read that never ends: a process has the write end, and this one has it too.
#[test]
fn a_write_end_that_somebody_still_has() -> Result<()> {
    let _turn = turn();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (input, _kept) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = AtInput::with_output(input, writer.try_clone()?)?;
    let file = found(&reader)?;
    let write = file.peer.iter().find(|peer| peer.end == "write").with_context(|| format!("{file:?}"))?;
    let mut holders: Vec<u32> = write.processes.iter().map(|process| process.pid).collect();
    holders.sort_unstable();
    let mut expected = [std::process::id(), child.pid()];
    expected.sort_unstable();
    ensure!(holders == expected && write.elsewhere == 1, "{file:?}");
    drop(writer);
    is_held(&reader, "write", &[child.pid()])
}

#[test]
fn unix_sockets() -> Result<()> {
    let _turn = turn();
    for sort in [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM] {
        let (here, there) = socketpair(AddressFamily::UNIX, sort, SocketFlags::CLOEXEC, None)?;
        let child = AtInput::start(there)?;
        is_held(&here, "socket", &[child.pid()]).with_context(|| format!("{sort:?}"))?;
    }
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    between(&here, there, "socket")
}

/// A connection that nobody has accepted is the listener's.
#[test]
fn connections_that_wait() -> Result<()> {
    let _turn = turn();
    let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let listener = socket()?;
    bind(&listener, &rustix::net::SocketAddrUnix::new_unnamed())?;
    listen(&listener, 8)?;
    let (client, address): (OwnedFd, SocketAddrAny) = (socket()?, getsockname(&listener)?);
    connect(&client, &address)?;
    is_held(&client, "listener", &[std::process::id()])?;
    let server = accept_with(&listener, SocketFlags::CLOEXEC)?;
    is_held(&client, "socket", &[std::process::id()])?;
    drop(server);
    is_closed(&client, "socket")
}

#[test]
fn connections_of_this_machine() -> Result<()> {
    let _turn = turn();
    let four: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let six: SocketAddr = (Ipv6Addr::LOCALHOST, 0).into();
    for address in [four, six] {
        let listener = match TcpListener::bind(address) {
            Err(error) if address == six => {
                say(&format!("no IPv6: {error}"));
                continue;
            }
            listener => listener?,
        };
        let client = TcpStream::connect(listener.local_addr()?)?;
        is_held(&client, "listener", &[std::process::id()]).with_context(|| address.to_string())?;
        let (server, _) = listener.accept()?;
        between(&client, server.into(), "socket").with_context(|| address.to_string())?;
    }
    Ok(())
}

/// The server listens for both, and the client knows IPv4 only.
#[test]
fn ipv4_by_way_of_ipv6() -> Result<()> {
    let _turn = turn();
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(listener) => listener,
        Err(error) => {
            say(&format!("no IPv6: {error}"));
            return Ok(());
        }
    };
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()))?;
    let (server, _) = listener.accept()?;
    let child = AtInput::start(server.into())?;
    is_held(&client, "socket", &[child.pid()])
}

/// The slave of a master, without a name.
fn terminal() -> Result<Option<(OwnedFd, OwnedFd)>> {
    let path = ["/dev/ptmx", "/dev/pts/ptmx"].into_iter().find(|path| Path::new(path).exists());
    let Some(path) = path else { return Ok(None) };
    let master = File::options().read(true).write(true).open(path)?;
    let unlock: libc::c_int = 0;
    // SAFETY: reads one number, which outlives the call.
    ensure!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) } == 0);
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes numbers, and makes a descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    ensure!(slave >= 0, "TIOCGPTPEER: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it for us.
    Ok(Some((master.into(), unsafe { OwnedFd::from_raw_fd(slave) })))
}

#[test]
fn terminals() -> Result<()> {
    let _turn = turn();
    let Some((master, slave)) = terminal()? else {
        say("there are no pseudo terminals");
        return Ok(());
    };
    is_held(&slave, "master", &[std::process::id()])?;
    between(&master, slave, "slave")
}

/// "597 pipes, 201 children that never end": by the program of the children, with the number of pipes.
#[test]
fn children_that_never_end() -> Result<()> {
    let _turn = turn();
    let children: Vec<Workload> = (0..30).map(|_| Workload::start(["kept=1"])).collect::<Result<_>>()?;
    let own = std::process::id().to_string();
    let text = explain_text(["--pid", &own])?;
    let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default().replace('\n', " ");
    ensure!(last.contains("are held by 30 processes called workload"), "{text}");
    let number = |before: &str| -> Result<u64> {
        let (_, behind) = last.rsplit_once(before).with_context(|| text.clone())?;
        Ok(behind.split(' ').next().unwrap_or_default().parse()?)
    };
    // Who runs this test may have an end of a pipe as well.
    ensure!((60..70).contains(&number("The other ends of ")?) && (30..40).contains(&number(" (")?), "{text}");
    ensure!(last.contains(" read ends and ") && last.contains(" write ends: "), "{text}");
    drop(children);
    Ok(())
}
