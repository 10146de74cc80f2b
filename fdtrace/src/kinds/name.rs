//! The name of a handle, from the kernel's structures alone: no path is looked up, nothing can block.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fdtrace_common::description::Description;

use crate::model::Kind;

/// The name of the directory entry, up to its terminating zero.
pub(super) fn raw(description: &Description) -> &[u8] {
    let name = &description.name;
    &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())]
}

/// What to call a handle of this kind: a socket by its addresses, anything else by the name of its directory entry.
#[must_use]
pub fn describe(description: &Description, kind: Kind) -> String {
    match kind {
        Kind::Socket => socket(description),
        Kind::Fifo if raw(description).is_empty() => format!("pipe:[{}]", description.ino),
        Kind::Memfd if raw(description) == b"secretmem" => "memfd_secret".to_owned(),
        Kind::Shm => segment(description).unwrap_or_else(|| entry(description)),
        _ => entry(description),
    }
}

/// The name of the directory entry.
fn entry(description: &Description) -> String {
    String::from_utf8_lossy(raw(description)).into_owned()
}

/// A SysV segment or an attach of one: its key is the name of the directory entry, and its id is the number of the inode,
/// which `newseg` (ipc/shm.c) sets because tools read it in `/proc/PID/maps`.
fn segment(description: &Description) -> Option<String> {
    let key = raw(description).strip_prefix(b"SYSV")?;
    Some(format!("SysV segment {} (key 0x{})", description.ino, String::from_utf8_lossy(key)))
}

fn socket(description: &Description) -> String {
    let family = match description.family {
        1 => return unix(description),
        2 | 10 => return internet(description),
        16 => "netlink".to_owned(),
        17 => "packet".to_owned(),
        40 => "vsock".to_owned(),
        other => format!("family {other}"),
    };
    format!("{family} socket:[{}]", description.ino)
}

fn unix(description: &Description) -> String {
    let kind = match description.socket_type {
        1 => "stream",
        2 => "dgram",
        5 => "seqpacket",
        _ => "socket",
    };
    let name = match description.name {
        // An abstract name begins with a zero, and may have no other.
        [0, first, ..] if first != 0 => {
            let name = description.name[1..].split(|byte| *byte == 0).next().unwrap_or_default();
            format!("@{}", String::from_utf8_lossy(name))
        }
        _ => String::from_utf8_lossy(raw(description)).into_owned(),
    };
    match (name.is_empty(), description.name_of_peer != 0) {
        (true, _) => format!("unix {kind}:[{}]", description.ino),
        (false, true) => format!("unix {kind} to {name}"),
        (false, false) => format!("unix {kind} {name}"),
    }
}

/// The addresses of a socket over IPv4 or IPv6: its own, and the other end's, whose port is 0 where there is none. IPv4 by
/// way of IPv6 is IPv4.
#[must_use]
pub fn addresses(description: &Description) -> Option<(SocketAddr, SocketAddr)> {
    let address = |bytes: &[u8; 16]| -> Option<IpAddr> {
        match description.family {
            2 => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
            10 => Some(Ipv6Addr::from(*bytes).to_canonical()),
            _ => None,
        }
    };
    let local = SocketAddr::new(address(&description.local)?, description.local_port);
    let remote = SocketAddr::new(address(&description.remote)?, u16::from_be(description.remote_port));
    Some((local, remote))
}

fn internet(description: &Description) -> String {
    let Some((local, remote)) = addresses(description) else { return String::new() };
    match description.socket_type {
        1 if remote.port() == 0 => format!("tcp {local} {}", tcp_state(description.socket_state)),
        1 => format!("tcp {local} to {remote} {}", tcp_state(description.socket_state)),
        2 if remote.port() == 0 => format!("udp {local}"),
        2 => format!("udp {local} to {remote}"),
        _ => format!("raw {local}"),
    }
}

/// The name of a state of TCP (include/net/tcp_states.h); empty for what is none.
#[must_use]
pub fn tcp_state(state: u8) -> &'static str {
    const STATES: [&str; 13] = [
        "",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSED",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
    STATES.get(usize::from(state)).copied().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::{super::tests::description, *};

    #[test]
    fn sockets_by_address_and_state() {
        let mut found = description(0o140_000, 0, b"");
        (found.family, found.socket_type, found.socket_state) = (2, 1, 8);
        (found.local, found.local_port) = ([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 80);
        (found.remote, found.remote_port) = (found.local, 5000_u16.to_be());
        assert_eq!(describe(&found, Kind::Socket), "tcp 127.0.0.1:80 to 127.0.0.1:5000 CLOSE_WAIT");
        found.remote_port = 0;
        found.socket_state = 10;
        assert_eq!(describe(&found, Kind::Socket), "tcp 127.0.0.1:80 LISTEN");
    }

    #[test]
    fn segments_by_id_and_key() {
        let found = description(0o100_600, 0, b"SYSV0000002a");
        assert_eq!(describe(&found, Kind::Shm), "SysV segment 77 (key 0x0000002a)");
        assert_eq!(describe(&description(0o100_600, 0, b"dev/zero"), Kind::Shm), "dev/zero");
    }

    #[test]
    fn unix_sockets_by_name() {
        let mut found = description(0o140_000, 0, b"\0bus\0");
        (found.family, found.socket_type) = (1, 1);
        assert_eq!(describe(&found, Kind::Socket), "unix stream @bus");
        found = description(0o140_000, 0, b"/run/x");
        (found.family, found.socket_type, found.name_of_peer) = (1, 2, 1);
        assert_eq!(describe(&found, Kind::Socket), "unix dgram to /run/x");
        found.name = [0; fdtrace_common::description::NAME_LEN];
        assert_eq!(describe(&found, Kind::Socket), "unix dgram:[77]");
    }
}
