//! Where a program is run: a new directory each time, always with the same path, and nothing of Cargo in the environment.

use super::table::{PORT, Program, VERSION};
use crate::run::{self, Running};
use anyhow::{Context as _, Result, bail, ensure};
use fdtrace_tests::corpus::Ended;
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// The projects of examples, in the checkout.
const PROJECTS: &str = "tests/ci-examples";
/// Says in a folder that all is installed there.
const INSTALLED: &str = ".installed";
/// What makes commits and messages the same each time, on each machine.
const ENVIRONMENT: &str = "LC_ALL=C.UTF-8 TZ=UTC GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
                           GIT_AUTHOR_NAME=nobody GIT_AUTHOR_EMAIL=nobody@localhost GIT_AUTHOR_DATE=2000-01-01T00:00:00Z \
                           GIT_COMMITTER_NAME=nobody GIT_COMMITTER_EMAIL=nobody@localhost \
                           GIT_COMMITTER_DATE=2000-01-01T00:00:00Z";
/// How often a server is asked whether it is there, and how long that waits.
const MAX_TRIES: u32 = 100;
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// A directory for one program, and an `fdtrace` on the path.
pub(super) struct Place {
    /// Removed in the end.
    folder: TempDir,
    /// Where the program runs.
    work: PathBuf,
    path: OsString,
    port: u16,
}

impl Place {
    pub(super) fn temporary(fdtrace: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fdtrace-check-").tempdir().context("no directory")?;
        let programs = folder.path().join("bin");
        fs::create_dir(&programs)?;
        symlink(fdtrace, programs.join("fdtrace"))?;
        let work = folder.path().join("work");
        // What an example installs for itself comes first.
        let before = env::var_os("PATH").unwrap_or_default();
        let path =
            env::join_paths([programs, work.join("venv/bin")].into_iter().chain(env::split_paths(&before)))?;
        // Nobody else takes it in the meantime: the kernel gives ports in turn.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok(Self { folder, work, path, port })
    }

    /// The folder of a version, where it is installed once and stays.
    pub(super) fn kept(fdtrace: &Path, program: &Program, version: &str) -> Result<Self> {
        let name = format!("{}-{version}", program.name.split(':').next().unwrap_or_default());
        let work = run::checkout()?.join("target/known-leaks").join(name);
        let place = Self { work, ..Self::temporary(fdtrace)? };
        place.install(&program.install.replace(VERSION, version))?;
        Ok(place)
    }

    fn install(&self, script: &str) -> Result<()> {
        let done = self.work.join(INSTALLED);
        if fs::read_to_string(&done).is_ok_and(|installed| installed == script) {
            return Ok(());
        }
        self.empty()?;
        self.bash(script).context("cannot be installed")?;
        Ok(fs::write(done, script)?)
    }

    /// Runs something in a directory that is prepared for a program.
    pub(super) fn with<T>(
        &self,
        program: &Program,
        what: impl FnOnce(&mut Command) -> Result<T>,
    ) -> Result<T> {
        if self.work.starts_with(self.folder.path()) {
            self.empty()?;
        }
        self.bash(&self.fill(&program.prepare)).context("cannot be prepared")?;
        let _server = program.has_server().then(|| self.serve()).transpose()?;
        let (name, args) = program.command.split_first().context("no command")?;
        let mut command = self.command(name);
        command.args(args.iter().map(|arg| self.fill(arg)));
        what(&mut command)
    }

    /// Another command in the same surroundings.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let environment = ENVIRONMENT.split(' ').filter_map(|variable| variable.split_once('='));
        command.current_dir(&self.work).env("PATH", &self.path).envs(environment).stdin(Stdio::null());
        forget_cargo(&mut command);
        command
    }

    /// What a line has said, as a page has it.
    pub(super) fn as_told(&self, line: &str, ended: &Ended) -> Ended {
        let folder = self.work.display().to_string();
        let said = |text: &str| text.replace(&folder, "/project");
        let stdout = format!("$ {line}\n{}", said(&ended.stdout));
        Ended { stdout, stderr: said(&ended.stderr), status: ended.status, time: ended.time }
    }

    /// A file beside the directory.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn copy_project(&self, project: &str) -> Result<()> {
        copy(&run::checkout()?.join(PROJECTS).join(project), &self.work)
    }

    fn empty(&self) -> Result<()> {
        if self.work.exists() {
            fs::remove_dir_all(&self.work)?;
        }
        Ok(fs::create_dir_all(&self.work)?)
    }

    fn fill(&self, text: &str) -> String {
        text.replace(PORT, &self.port.to_string())
    }

    fn bash(&self, script: &str) -> Result<()> {
        if script.is_empty() {
            return Ok(());
        }
        let output = self.command("bash").args(["-euc", script]).output().context("no bash")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// A web server that shows the directory.
    fn serve(&self) -> Result<Running> {
        let port = self.port.to_string();
        let mut command = self.command("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("no web server")?;
        let server = Running(child);
        for _ in 0..MAX_TRIES {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(server);
            }
            thread::sleep(TRY_INTERVAL);
        }
        bail!("the web server does not answer");
    }
}

/// Cargo runs us, and tells what it runs about itself: its programs would behave otherwise than for anybody else.
fn forget_cargo(command: &mut Command) {
    let keep = |name: &str| name == "CARGO_HOME" || !name.starts_with("CARGO") && name != "LD_LIBRARY_PATH";
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| !keep(name)) {
            command.env_remove(name);
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}
