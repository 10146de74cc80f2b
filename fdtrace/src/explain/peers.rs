//! Who is at the other end of pipes, sockets and pseudo terminals.
//!
//! An end may be open many times, and many processes may hold it. So ends are named ([`At`]), and who holds each is found
//! once, however many handles lead there.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
};

use super::{Process, Sharer, processes::Processes, references::Held};
use crate::{
    holders::{Handle, HolderSnapshot, Terminal, mark},
    model::Kind,
};

/// The most processes that are named at the other end of a group.
const MAX: usize = 256;
const AF_UNIX: u8 = 1;
/// `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT`: the other end has not, or has said that nothing more comes.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
/// How a file was opened.
const ACCESS: u32 = 3;
const READ_ONLY: u32 = 0;
const WRITE_ONLY: u32 = 1;

/// What the other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The end of a pipe that is written to: as long as somebody has it, a read does not end.
    Write,
    /// The end of a pipe that is read from.
    Read,
    /// A connected socket.
    Socket,
    /// The listener at which a connection waits to be accepted.
    Listener,
    /// The side of a pseudo terminal that a terminal emulator has.
    Master,
    /// The side that programs run at.
    Slave,
}

impl End {
    /// The word for it in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Socket => "socket",
            Self::Listener => "listener",
            Self::Master => "master",
            Self::Slave => "slave",
        }
    }
}

/// Who is at one sort of other end of some handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is.
    pub end: End,
    /// Handles that have such an end.
    pub count: u64,
    /// Those whose other end nobody has open any more.
    pub closed: u64,
    /// Those whose other end a process holds that does not hold them.
    pub elsewhere: u64,
    /// Who has the other end, of most handles first, and of how many.
    pub processes: Vec<Sharer>,
    /// Processes that are not named.
    pub left_out: u64,
}

/// Where an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum At {
    /// At a handle.
    Handle(u32),
    /// Whoever may read from this pipe.
    Readers(u64),
    /// Whoever may write to it.
    Writers(u64),
    /// This side of a terminal.
    Side(u64),
    /// Nowhere any more.
    Nobody,
}

/// A connection as one of its ends has it: its network namespace where addresses are its own, the type of its sockets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Connection {
    namespace: u64,
    socket_type: u8,
    here: SocketAddr,
    there: SocketAddr,
}

impl Connection {
    fn of(snapshot: &HolderSnapshot, handle: &Handle) -> Option<Self> {
        let (here, there) = handle.addresses(&snapshot.names)?;
        // Addresses of other machines, and those between namespaces, mean the same in each.
        let namespace = if there.ip().is_loopback() { handle.parent } else { 0 };
        (there.port() != 0).then_some(Self { namespace, socket_type: handle.socket_type, here, there })
    }

    const fn reversed(self) -> Self {
        Self { here: self.there, there: self.here, ..self }
    }
}

/// Who may read and write a pipe.
#[derive(Default)]
struct Pipe {
    readers: Vec<u32>,
    writers: Vec<u32>,
}

/// All ends.
#[derive(Default)]
pub(super) struct Ends {
    pipes: HashMap<u64, Pipe>,
    /// Unix sockets.
    sockets: HashMap<u64, u32>,
    waiting: HashMap<u64, u32>,
    connections: HashMap<Connection, u32>,
    /// By network namespace and port.
    listeners: HashMap<(u64, u16), u32>,
    sides: HashMap<u64, Vec<u32>>,
    terminals: HashMap<u32, Terminal>,
}

impl Ends {
    pub(super) fn of(snapshot: &HolderSnapshot) -> Self {
        let mut ends = Self { waiting: snapshot.waiting.iter().copied().collect(), ..Self::default() };
        for (place, handle) in (0..).zip(&snapshot.handles) {
            match handle.kind {
                Kind::Fifo if handle.private != 0 => ends.add_pipe(place, handle),
                Kind::Socket => ends.add_socket(snapshot, place, handle),
                _ => {}
            }
        }
        for terminal in &snapshot.terminals {
            ends.sides.entry(terminal.own).or_default().push(terminal.handle);
            ends.terminals.insert(terminal.handle, *terminal);
        }
        ends
    }

    fn add_pipe(&mut self, place: u32, handle: &Handle) {
        let pipe = self.pipes.entry(handle.private).or_default();
        if reads(handle) {
            pipe.readers.push(place);
        }
        if writes(handle) {
            pipe.writers.push(place);
        }
    }

    fn add_socket(&mut self, snapshot: &HolderSnapshot, place: u32, handle: &Handle) {
        if handle.family == AF_UNIX {
            self.sockets.insert(handle.private, place);
        } else if handle.is_listener() {
            if let Some((here, _)) = handle.addresses(&snapshot.names) {
                self.listeners.insert((handle.parent, here.port()), place);
            }
        } else if let Some(connection) = Connection::of(snapshot, handle) {
            self.connections.insert(connection, place);
        }
    }

    /// Where the other ends of a handle are; a pipe that is open for both has two.
    fn others(&self, snapshot: &HolderSnapshot, place: u32) -> [Option<(End, At)>; 2] {
        let handle = &snapshot.handles[place as usize];
        match handle.kind {
            Kind::Fifo if handle.private != 0 => {
                let at = handle.private;
                let [writers, readers] = [(End::Write, At::Writers(at)), (End::Read, At::Readers(at))];
                [reads(handle).then_some(writers), writes(handle).then_some(readers)]
            }
            Kind::Socket if handle.family == AF_UNIX => [self.unix(handle), None],
            Kind::Socket => [self.internet(snapshot, handle), None],
            _ => [self.terminals.get(&place).map(other_side), None],
        }
    }

    fn unix(&self, handle: &Handle) -> Option<(End, At)> {
        let known = self.sockets.get(&handle.parent).map(|place| (End::Socket, At::Handle(*place)));
        known
            .or_else(|| self.waiting.get(&handle.parent).map(|place| (End::Listener, At::Handle(*place))))
            .or_else(|| (handle.marks & mark::OUTLIVED != 0).then_some((End::Socket, At::Nobody)))
    }

    fn internet(&self, snapshot: &HolderSnapshot, handle: &Handle) -> Option<(End, At)> {
        let connection = Connection::of(snapshot, handle)?;
        if let Some(place) = self.connections.get(&connection.reversed()) {
            return Some((End::Socket, At::Handle(*place)));
        }
        // What is not on this machine has no other end here.
        if !connection.there.ip().is_loopback() && connection.there.ip() != connection.here.ip() {
            return None;
        }
        if handle.has_state(CLOSE_WAIT) {
            return Some((End::Socket, At::Nobody));
        }
        let listener = *self.listeners.get(&(handle.parent, connection.there.port()))?;
        let waits = handle.has_state(ESTABLISHED) && snapshot.handles[listener as usize].receive > 0;
        waits.then_some((End::Listener, At::Handle(listener)))
    }

    /// The handles at an end.
    fn members<'a>(&'a self, at: &'a At) -> &'a [u32] {
        match at {
            At::Handle(place) => std::slice::from_ref(place),
            At::Readers(pipe) => self.pipes.get(pipe).map_or(&[], |pipe| &pipe.readers),
            At::Writers(pipe) => self.pipes.get(pipe).map_or(&[], |pipe| &pipe.writers),
            At::Side(side) => self.sides.get(side).map_or(&[], |side| side),
            At::Nobody => &[],
        }
    }
}

/// Who holds the ends that somebody asked for.
struct HoldersOfEnds(HashMap<At, Vec<usize>>);

impl HoldersOfEnds {
    fn find(snapshot: &HolderSnapshot, processes: &Processes, ends: &Ends, asked: &HashSet<At>) -> Self {
        let mut holders: HashMap<u32, Vec<usize>> =
            asked.iter().flat_map(|at| ends.members(at)).map(|place| (*place, Vec::new())).collect();
        let mut is_asked = vec![false; snapshot.handles.len()];
        holders.keys().for_each(|place| is_asked[*place as usize] = true);
        processes.each_held(snapshot, |index, held: &Held| {
            if held.first
                && is_asked[held.handle as usize]
                && let Some(holders) = holders.get_mut(&held.handle)
            {
                holders.push(index);
            }
        });
        let of = |at: &At| {
            let all = ends.members(at).iter().filter_map(|place| holders.get(place));
            let mut all: Vec<usize> = all.flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            (*at, all)
        };
        Self(asked.iter().map(of).collect())
    }

    fn of(&self, at: At) -> &[usize] {
        self.0.get(&at).map_or(&[], |holders| holders)
    }
}

/// Says of each group who is at its other ends; groups know their places.
pub(super) fn tell(snapshot: &HolderSnapshot, processes: &Processes, found: &mut [Process]) {
    let ends = Ends::of(snapshot);
    let others = |place: &u32| ends.others(snapshot, *place).into_iter().flatten();
    let groups = || found.iter().flat_map(|process| &process.files);
    let asked = groups().flat_map(|group| &group.places).flat_map(others).map(|(_, at)| at).collect();
    let holders = HoldersOfEnds::find(snapshot, processes, &ends, &asked);
    for process in found {
        let own = process.pid;
        for group in &mut process.files {
            // Many handles may lead to one end.
            let mut counts: BTreeMap<(End, At), u64> = BTreeMap::new();
            group.places.iter().flat_map(others).for_each(|other| *counts.entry(other).or_default() += 1);
            group.peers = gather(&counts, processes, &holders, own);
        }
    }
}

/// Who is at the other ends of each of some handles.
pub(super) fn of(snapshot: &HolderSnapshot, processes: &Processes, places: &[u32]) -> Vec<Vec<Peer>> {
    let ends = Ends::of(snapshot);
    let others = |place: &u32| ends.others(snapshot, *place).into_iter().flatten();
    let asked = places.iter().flat_map(others).map(|(_, at)| at).collect();
    let holders = HoldersOfEnds::find(snapshot, processes, &ends, &asked);
    let of_one = |place| others(place).map(|other| (other, 1)).collect();
    places.iter().map(|place| gather(&of_one(place), processes, &holders, 0)).collect()
}

/// What the ends of a group are together.
fn gather(
    counts: &BTreeMap<(End, At), u64>,
    processes: &Processes,
    holders: &HoldersOfEnds,
    own: u32,
) -> Vec<Peer> {
    let mut gathered: BTreeMap<End, (Peer, HashMap<usize, u64>)> = BTreeMap::new();
    for ((end, at), count) in counts {
        let (peer, sums) = gathered.entry(*end).or_insert_with(|| (Peer::of(*end), HashMap::new()));
        let at = holders.of(*at);
        peer.count += count;
        peer.closed += if at.is_empty() { *count } else { 0 };
        peer.elsewhere += if at.iter().any(|index| processes.pid(*index) != own) { *count } else { 0 };
        at.iter().for_each(|index| *sums.entry(*index).or_default() += count);
    }
    gathered.into_values().map(|(peer, sums)| peer.held_by(processes, sums)).collect()
}

impl Peer {
    const fn of(end: End) -> Self {
        Self { end, count: 0, closed: 0, elsewhere: 0, processes: Vec::new(), left_out: 0 }
    }

    fn held_by(mut self, processes: &Processes, sums: HashMap<usize, u64>) -> Self {
        let mut all: Vec<Sharer> =
            sums.into_iter().map(|(index, count)| processes.sharer(index, count)).collect();
        all.sort_by_key(|process| (Reverse(process.count), process.pid));
        self.left_out = all.len().saturating_sub(MAX) as u64;
        all.truncate(MAX);
        Self { processes: all, ..self }
    }
}

#[cfg(test)]
mod tests;

fn reads(handle: &Handle) -> bool {
    handle.flags & ACCESS != WRITE_ONLY
}

fn writes(handle: &Handle) -> bool {
    handle.flags & ACCESS != READ_ONLY
}

fn other_side(terminal: &Terminal) -> (End, At) {
    (if terminal.is_slave { End::Master } else { End::Slave }, At::Side(terminal.other))
}
