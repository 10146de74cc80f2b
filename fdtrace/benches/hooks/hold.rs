//! Handles that somebody may count.

use std::{
    env, fs,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many
    #[arg(long)]
    count: usize,
    /// Where the regular files are made
    #[arg(long)]
    folder: PathBuf,
    /// How many names the regular files among them have
    #[arg(long, default_value_t = 100)]
    names: usize,
}

/// Descriptors that a process needs for itself.
const SPARE: usize = 100;

/// Says when all are there, and keeps them until it is killed. What is more than one process may have is held by others.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let most = maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX) - SPARE);
    let count = args.count.min(most);
    let mut processes = 1;
    if args.count > count {
        let mut other = Command::new(env::current_exe()?);
        other.args(["hold", "--count", &(args.count - count).to_string(), "--folder"]).arg(&args.folder);
        // SAFETY: one system call, which allocates nothing and takes no lock.
        unsafe {
            other.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let other = other.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(other.stdout.context("no output")?).read_line(&mut line)?;
        processes += line.trim().rsplit(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
    }
    let name = |index: usize| args.folder.join(format!("file-{}", index % args.names.max(1)));
    for index in 0..args.names {
        // Another process may have made it, as empty as this.
        fs::write(name(index), "")?;
    }
    // As a service has them: most are files, some are sockets, and some are neither.
    let open = |index: usize| -> anyhow::Result<OwnedFd> {
        Ok(match index % 8 {
            0 => socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?,
            1 => eventfd(0, EventfdFlags::CLOEXEC)?,
            _ => File::open(name(index))?.into(),
        })
    };
    let held: Vec<_> = (0..count).map(open).collect::<Result<_, _>>().context("cannot open more")?;
    let mut out = std::io::stdout();
    writeln!(out, "{} handles in {processes} processes", args.count)?;
    out.flush()?;
    // As long as this one is there.
    let _held = held;
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
