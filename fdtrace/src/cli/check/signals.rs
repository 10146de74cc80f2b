//! Signals that are meant for the command.

use std::{fs::File, io, os::fd::AsRawFd as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::command::is_ignored;

/// Signals that whoever started fdtrace may send to it for the command.
const PASSED_ON: [libc::c_int; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// Names of signals for `--signal`.
const NAMES: [(&str, i32); 8] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("TERM", libc::SIGTERM),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("KILL", libc::SIGKILL),
    ("ABRT", libc::SIGABRT),
];

/// A signal by its name, with or without `SIG`, or by its number.
pub(super) fn parse(text: &str) -> Result<i32, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = || name.parse().ok().filter(|number| (1..64).contains(number));
    named.or_else(number).ok_or_else(|| format!("{text} is no signal; TERM, INT and HUP are some"))
}

/// Signals that come.
pub(super) struct Signals(Vec<(libc::c_int, Signal)>);

impl Signals {
    /// Takes them, from now on.
    pub(super) fn take() -> io::Result<Self> {
        // What the command ignores it need not be sent.
        let heard = PASSED_ON.into_iter().filter(|number| !is_ignored(*number));
        let each = heard.map(|number| Ok((number, signal(SignalKind::from_raw(number))?)));
        each.collect::<io::Result<_>>().map(Self)
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> libc::c_int {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Whether the terminal has sent a signal to the command as well: it sends to all that run in its foreground.
pub(super) fn is_from_terminal(signal: libc::c_int) -> bool {
    if signal != libc::SIGINT && signal != libc::SIGQUIT {
        return false;
    }
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    // SAFETY: a valid descriptor.
    let foreground = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    // SAFETY: takes nothing.
    foreground == unsafe { libc::getpgrp() }
}

/// Sends a signal to a process; one that is gone needs none.
pub(super) fn send(pid: u32, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: takes numbers.
        unsafe { libc::kill(pid, signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!(parse("TERM"), Ok(15));
        assert_eq!(parse("SIGINT"), Ok(2));
        assert_eq!(parse("9"), Ok(9));
        assert!(parse("NOW").is_err() && parse("0").is_err() && parse("99").is_err());
    }
}
