//! Gives up ownership for a call into C, and forgets to take it back.

use std::{
    env,
    fs::File,
    net::UdpSocket,
    os::fd::{FromRawFd, IntoRawFd, RawFd},
};

#[inline(never)]
fn bind() -> RawFd {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap(); // LEAK
    socket.into_raw_fd()
}

fn call_into_c(fd: RawFd) -> bool {
    fd > 2
}

fn main() {
    let fixed = env::args().any(|word| word == "fixed");
    let mut good = 0;
    for _ in 0..20 {
        let fd = bind();
        good += i32::from(call_into_c(fd));
        if fixed {
            // SAFETY: nobody else owns it.
            drop(unsafe { File::from_raw_fd(fd) });
        }
    }
    println!("{good} calls");
}
