//! From small scenes to who is at the other end.

use fdtrace_common::holder_walk::File;

use super::{
    super::{tests::NoPaths, *},
    *,
};
use crate::holders::fixture::{KERNEL, Scene, file, tcp_socket, unix_socket};

/// An end, handles, those that are closed, those elsewhere, and who has them.
type Line = (End, u64, u64, u64, Vec<(u32, u64)>);

/// All that a process's groups say, in their order.
fn of(snapshot: &HolderSnapshot, pid: u32) -> Vec<Line> {
    let focus = Focus { peers: true, groups: 100, ..Focus::default() };
    let found = explain(snapshot, &Around::default(), &focus, &mut NoPaths);
    let process = found.processes.iter().find(|process| process.pid == pid).expect("a process");
    let line = |peer: &Peer| {
        let held = peer.processes.iter().map(|process| (process.pid, process.count)).collect();
        (peer.end, peer.count, peer.closed, peer.elsewhere, held)
    };
    process.files.iter().flat_map(|group| &group.peers).map(line).collect()
}

fn peers(scene: &Scene, pid: u32) -> Vec<Line> {
    of(&scene.snapshot(), pid)
}

/// An end of a pipe.
fn pipe(scene: &mut Scene, number: u64, flags: u32) -> u64 {
    let named = file(scene.next(), b"");
    let (ino, private) = (number, KERNEL + 0x40_0000 + number * 64);
    scene.file(File { inode_mode: 0o010_600, flags, ino, private, ..named })
}

fn family() -> Scene {
    let mut scene = Scene::default();
    scene.process(1, "parent").process(2, "child").process(3, "child");
    scene
}

#[test]
fn who_holds_the_write_end() {
    let mut scene = family();
    let (reader, writer) = (pipe(&mut scene, 1, 0), pipe(&mut scene, 1, 1));
    scene.opens(1, &[reader]).opens(2, &[writer, writer]).opens(3, &[writer]);
    assert_eq!(peers(&scene, 1), [(End::Write, 1, 0, 1, vec![(2, 1), (3, 1)])]);
    assert_eq!(peers(&scene, 2), [(End::Read, 1, 0, 1, vec![(1, 1)])]);
    // Who reads has the write end itself: nobody else has to, and the read does not end.
    scene.opens(1, &[writer]);
    let both = [(End::Write, 1, 0, 1, vec![(1, 1), (2, 1), (3, 1)]), (End::Read, 1, 0, 0, vec![(1, 1)])];
    assert_eq!(peers(&scene, 1), both);
}

#[test]
fn ends_that_are_closed() {
    let mut scene = family();
    let (reader, writer) = (pipe(&mut scene, 1, 0), pipe(&mut scene, 2, 1));
    scene.opens(1, &[reader, writer]);
    assert_eq!(peers(&scene, 1), [(End::Write, 1, 1, 0, vec![]), (End::Read, 1, 1, 0, vec![])]);
    // A FIFO that is open for both is its own other end.
    let mut scene = family();
    let both = pipe(&mut scene, 1, 2);
    scene.opens(1, &[both]);
    assert_eq!(peers(&scene, 1), [(End::Write, 1, 0, 0, vec![(1, 1)]), (End::Read, 1, 0, 0, vec![(1, 1)])]);
}

#[test]
fn many_handles_of_one_pipe() {
    let mut scene = family();
    let readers: Vec<u64> = (0..50).map(|_| pipe(&mut scene, 1, 0)).collect();
    let writers: Vec<u64> = (0..40).map(|_| pipe(&mut scene, 1, 1)).collect();
    scene.opens(1, &readers).opens(2, &writers);
    assert_eq!(peers(&scene, 1), [(End::Write, 50, 0, 50, vec![(2, 50)])]);
}

#[test]
fn unix_sockets() {
    let mut scene = family();
    let sock = |number: u64| KERNEL + 0x50_0000 + number * 64;
    let mut socket = |number: u64, peer: u64| {
        let found = unix_socket(scene.next(), sock(number));
        scene.file(File { parent: peer, ino: number, ..found })
    };
    let (one, other) = (socket(1, sock(2)), socket(2, sock(1)));
    let (waits, alone, elsewhere) = (socket(3, sock(9)), socket(4, 0), socket(5, sock(10)));
    let listener = File { state: 10, ino: 6, ..unix_socket(scene.next(), sock(6)) };
    let listener = scene.file(listener);
    scene.opens(1, &[one, waits, alone, elsewhere]).opens(2, &[other, listener]);
    let mut snapshot = scene.snapshot();
    let place = snapshot.place(listener).expect("it is there");
    snapshot.waiting.push((sock(9), place));
    let expected = [(End::Socket, 1, 0, 1, vec![(2, 1)]), (End::Listener, 1, 0, 1, vec![(2, 1)])];
    assert_eq!(of(&snapshot, 1), expected, "what leads elsewhere is not known");
    let place = snapshot.place(elsewhere).expect("it is there");
    snapshot.handles[place as usize].marks |= mark::OUTLIVED;
    assert_eq!(of(&snapshot, 1)[2], (End::Socket, 1, 1, 0, vec![]));
}

/// A socket from one port of this machine to another, in a namespace.
fn local(scene: &mut Scene, from: u16, to: u16, state: u8, namespace: u64) -> u64 {
    let found = tcp_socket(scene.next(), state);
    let mut name = found.name;
    name[16..20].copy_from_slice(&[127, 0, 0, 1]);
    let (ino, remote_port) = (u64::from(from) << 16 | u64::from(to), to.to_be());
    scene.file(File { local_port: from, remote_port, name, ino, parent: namespace, ..found })
}

#[test]
fn connections_within_the_machine() {
    let mut scene = family();
    let client = local(&mut scene, 4000, 80, 1, 1);
    let server = local(&mut scene, 80, 4000, 1, 1);
    let same_elsewhere = local(&mut scene, 80, 4000, 1, 2);
    scene.opens(1, &[client]).opens(2, &[server]).opens(3, &[same_elsewhere]);
    assert_eq!(peers(&scene, 1), [(End::Socket, 1, 0, 1, vec![(2, 1)])]);
    assert_eq!(peers(&scene, 3), [], "in another namespace it is another address");
}

#[test]
fn connections_that_nobody_accepts_or_that_are_closed() {
    let mut scene = family();
    let (waits, closed) = (local(&mut scene, 4000, 80, 1, 1), local(&mut scene, 4001, 80, 8, 1));
    let listener = local(&mut scene, 80, 0, 10, 1);
    scene.opens(1, &[waits, closed]).opens(2, &[listener]);
    let mut snapshot = scene.snapshot();
    assert_eq!(of(&snapshot, 1), [(End::Socket, 1, 1, 0, vec![])], "its queue is empty");
    let place = snapshot.place(listener).expect("it is there");
    snapshot.handles[place as usize].receive = 1;
    assert_eq!(of(&snapshot, 1)[0], (End::Listener, 1, 0, 1, vec![(2, 1)]));
}

#[test]
fn ipv4_by_way_of_ipv6() {
    let mut scene = family();
    let client = local(&mut scene, 4000, 80, 1, 1);
    let six = tcp_socket(scene.next(), 1);
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    let mut name = six.name;
    name[..16].copy_from_slice(&mapped);
    name[16..32].copy_from_slice(&mapped);
    let (family, remote_port) = (10, 4000u16.to_be());
    let server = scene.file(File { family, local_port: 80, remote_port, name, parent: 1, ..six });
    scene.opens(1, &[client]).opens(2, &[server]);
    assert_eq!(peers(&scene, 1), [(End::Socket, 1, 0, 1, vec![(2, 1)])]);
}

#[test]
fn sides_of_a_terminal() {
    let mut scene = family();
    let mut device = || {
        let named = file(scene.next(), b"0");
        scene.file(File { inode_mode: 0o020_600, ..named })
    };
    let (master, slave) = (device(), device());
    scene.opens(1, &[master]).opens(2, &[slave]).opens(3, &[slave]);
    let mut snapshot = scene.snapshot();
    let place = |snapshot: &HolderSnapshot, handle| snapshot.place(handle).expect("it is there");
    let side = |handle, own, other, is_slave| Terminal { handle, own, other, is_slave };
    snapshot.terminals =
        vec![side(place(&snapshot, master), 8, 16, false), side(place(&snapshot, slave), 16, 8, true)];
    assert_eq!(of(&snapshot, 1), [(End::Slave, 1, 0, 1, vec![(2, 1), (3, 1)])]);
    assert_eq!(of(&snapshot, 2), [(End::Master, 1, 0, 1, vec![(1, 1)])]);
}
