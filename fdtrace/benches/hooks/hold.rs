//! Handles that somebody may count.

use std::{fs, fs::File, io::Write as _, path::PathBuf, thread, time::Duration};

use anyhow::Context as _;
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{Resource, Rlimit, getrlimit, setrlimit},
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

/// Says when all are there, and keeps them until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
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
    let held: Vec<_> = (0..args.count).map(open).collect::<Result<_, _>>().context("cannot open more")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", held.len())?;
    out.flush()?;
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
