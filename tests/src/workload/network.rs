//! The network of a machine or a namespace that has just begun.

use std::io;

#[expect(
    clippy::cast_possible_truncation,
    reason = "both flags lie in the lower 16 bits, which is all `ifreq` has"
)]
const UP_AND_RUNNING: libc::c_short = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;

/// Sets the interface `lo` up; the kernel then gives it 127.0.0.1 by itself.
///
/// # Errors
/// When the kernel refuses.
pub fn bring_up_loopback() -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all bytes zero are a valid `ifreq`: it holds integers and character arrays only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which `request` is for the length of the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
