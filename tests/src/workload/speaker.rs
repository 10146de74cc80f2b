//! Speaking to the socket of FDTRACE_SCOPE, one action after the other.
//!
//! `say TEXT` sends a line and prints the answer; `open N` opens so many files and keeps them, `dup N` so many duplicates,
//! `close N` closes the last ones of either; `map` maps a file and closes it; `fork ACTION` does the action in a child, prints
//! what that prints, and leaves the child alone; `connect` makes another connection, by which the next lines go, `flood N` so
//! many that say nothing; `raw BYTES` sends bytes as they are, `long N` a line of so many, and `silent TEXT` a line whose answer
//! is not read; `answer` reads one; `user N` becomes somebody else; `hang-up` closes the connection.

use anyhow::{Context as _, Result, bail};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::{
    env,
    fs::File,
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

struct Speaker {
    socket: PathBuf,
    connection: Option<BufReader<UnixStream>>,
    crowd: Vec<UnixStream>,
    kept: Vec<File>,
}

/// Does what is said.
///
/// # Errors
/// When an action fails, or there is nobody to speak to.
pub fn speak(actions: &[String]) -> Result<()> {
    let socket = env::var_os("FDTRACE_SCOPE").context("nobody listens")?.into();
    let mut speaker = Speaker { socket, connection: None, crowd: Vec::new(), kept: Vec::new() };
    for action in actions {
        speaker.act(action)?;
    }
    // What is kept is kept to the end.
    speaker.kept.into_iter().for_each(std::mem::forget);
    Ok(())
}

impl Speaker {
    fn act(&mut self, action: &str) -> Result<()> {
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        match verb {
            "say" => {
                self.send(format!("{rest}\n").as_bytes())?;
                self.answer()
            }
            "silent" => self.send(format!("{rest}\n").as_bytes()),
            "raw" => self.send(rest.replace("\\n", "\n").replace("\\xff", "\u{ff}").as_bytes()),
            "long" => self.send(&vec![b'x'; rest.parse()?]),
            "answer" => self.answer(),
            "open" => self.keep(rest.parse()?, || Ok(File::open("/etc/passwd")?)),
            "dup" => {
                let of = File::open("/etc/passwd")?;
                self.keep(rest.parse()?, || Ok(of.try_clone()?))
            }
            "close" => {
                self.kept.truncate(self.kept.len() - rest.parse::<usize>()?);
                Ok(())
            }
            "map" => map(),
            "fork" => self.fork(rest),
            "connect" => self.connect(),
            "flood" => self.flood(rest.parse()?),
            "user" => become_user(rest.parse()?),
            "hang-up" => {
                self.connection = None;
                Ok(())
            }
            // What a runner adds to name a test.
            "--exact" | "leaks::here" => Ok(()),
            _ => bail!("what is {action}?"),
        }
    }

    fn connect(&mut self) -> Result<()> {
        self.connection = Some(BufReader::new(UnixStream::connect(&self.socket).context("connect")?));
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        if self.connection.is_none() {
            self.connect()?;
        }
        let connection = self.connection.as_ref().context("no connection")?;
        match connection.get_ref().write_all(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            sent => sent.context("send"),
        }
    }

    /// Prints it; what is over has none.
    fn answer(&mut self) -> Result<()> {
        let mut line = String::new();
        match self.connection.as_mut().context("no connection")?.read_line(&mut line) {
            Ok(1..) => print!("{line}"),
            Ok(0) => println!("hung up"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => println!("hung up"),
            Err(error) => return Err(error).context("answer"),
        }
        Ok(())
    }

    fn keep(&mut self, count: usize, make: impl Fn() -> Result<File>) -> Result<()> {
        for _ in 0..count {
            self.kept.push(make()?);
        }
        Ok(())
    }

    /// The child stays until this process has ended.
    fn fork(&mut self, action: &str) -> Result<()> {
        let (mut done, begun) = UnixStream::pair()?;
        // SAFETY: this program has one thread.
        match unsafe { libc::fork() } {
            0 => {
                // Before the parent goes on: it may end at once then, and who comes after it may never end.
                let parent = std::os::unix::process::parent_id();
                self.connection = None;
                drop(begun);
                self.act(action)?;
                done.write_all(b"\n")?;
                while std::os::unix::process::parent_id() == parent {
                    sleep(Duration::from_millis(5));
                }
                std::process::exit(0);
            }
            -1 => Err(std::io::Error::last_os_error()).context("fork"),
            _ => {
                drop(done);
                BufReader::new(&begun).read_line(&mut String::new())?;
                Ok(())
            }
        }
    }

    /// How many there are before one hears that there are too many.
    fn flood(&mut self, count: usize) -> Result<()> {
        for number in 0..count {
            let Ok(stream) = UnixStream::connect(&self.socket) else {
                println!("{number} of {count} connected");
                return Ok(());
            };
            self.crowd.push(stream);
        }
        Ok(())
    }
}

/// A handle that is open nowhere, and lives.
fn map() -> Result<()> {
    let file = File::open(env::current_exe()?)?;
    let (protection, flags) = (ProtFlags::READ, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses the address, and the memory is never looked at.
    unsafe { mmap(std::ptr::null_mut(), 4096, protection, flags, &file, 0) }.context("mmap")?;
    Ok(())
}

fn become_user(user: u32) -> Result<()> {
    // SAFETY: takes a number.
    let group = unsafe { libc::setgid(user) };
    // SAFETY: as above.
    if group != 0 || unsafe { libc::setuid(user) } != 0 {
        Err(std::io::Error::last_os_error()).context("setuid")
    } else {
        Ok(())
    }
}
