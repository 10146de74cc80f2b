//! Where a program is run: a new directory each time, always with the same path, and nothing of Cargo in the environment.

use super::table::{PORT, Program};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    env,
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// What makes commits and messages the same each time, on each machine.
const ENVIRONMENT: [(&str, &str); 10] = [
    ("LC_ALL", "C.UTF-8"),
    ("TZ", "UTC"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_AUTHOR_NAME", "nobody"),
    ("GIT_AUTHOR_EMAIL", "nobody@localhost"),
    ("GIT_COMMITTER_NAME", "nobody"),
    ("GIT_COMMITTER_EMAIL", "nobody@localhost"),
    ("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z"),
    ("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z"),
];
/// How often a server is asked whether it is there, and how long that waits.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(50);

/// A directory for one program, removed in the end.
pub(super) struct Place {
    folder: TempDir,
    port: u16,
}

/// A web server that shows the directory until this is dropped.
struct Server(Child);

impl Place {
    pub(super) fn new() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("fdtrace-ordinary-").tempdir().context("no directory")?;
        // Nobody else takes it in the meantime: the kernel gives ports in turn.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok(Self { folder, port })
    }

    /// Runs something in a directory that is prepared for a program.
    pub(super) fn with<T>(
        &self,
        program: &Program,
        what: impl FnOnce(&mut Command) -> Result<T>,
    ) -> Result<T> {
        let work = self.work();
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir(&work)?;
        self.prepare(program)?;
        let _server = program.has_server().then(|| self.serve()).transpose()?;
        let (name, args) = program.command.split_first().context("no command")?;
        let mut command = self.command(name);
        command.args(args.iter().map(|arg| self.fill(arg)));
        what(&mut command)
    }

    /// Another command in the same surroundings.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.work()).envs(ENVIRONMENT).stdin(Stdio::null());
        forget_cargo(&mut command);
        command
    }

    /// A file beside the directory.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn work(&self) -> PathBuf {
        self.beside("work")
    }

    fn fill(&self, text: &str) -> String {
        text.replace(PORT, &self.port.to_string())
    }

    fn prepare(&self, program: &Program) -> Result<()> {
        if program.prepare.is_empty() {
            return Ok(());
        }
        let script = self.fill(&program.prepare);
        let output = self.command("bash").args(["-euc", &script]).output().context("no bash")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot be prepared: {}", said.trim());
        Ok(())
    }

    fn serve(&self) -> Result<Server> {
        let port = self.port.to_string();
        let mut command = self.command("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("no web server")?;
        let server = Server(child);
        for _ in 0..LOOKS {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(server);
            }
            thread::sleep(LOOK);
        }
        bail!("the web server does not answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Cargo runs us, and tells what it runs about itself: its programs would behave otherwise than for anybody else.
pub(crate) fn forget_cargo(command: &mut Command) {
    let keep = |name: &str| name == "CARGO_HOME" || !name.starts_with("CARGO") && name != "LD_LIBRARY_PATH";
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| !keep(name)) {
            command.env_remove(name);
        }
    }
}
