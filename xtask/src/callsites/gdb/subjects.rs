//! What is debugged: the programs of the test set, and some that nobody here has written.

use super::session::wait_for;
use crate::run;
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

/// What brings the programs.
pub(super) const PACKAGES: [&str; 4] = ["nginx-light", "redis-server", "python3", "postgresql"];

/// A user without any rights: postgres does not run with more.
const NOBODY: u32 = 65_534;

/// A program to be debugged.
pub(super) enum Subject {
    /// One of the test set.
    Ours { name: String, path: PathBuf },
    /// One of Debian's.
    Service(Service),
}

/// One that nobody here has written.
pub(super) struct Service {
    name: &'static str,
    /// Where it may be.
    paths: &'static [&'static str],
    prepare: fn(program: &Path, scratch: &Path) -> Result<Prepared>,
}

/// How it is run.
pub(super) struct Prepared {
    pub(super) command: Vec<OsString>,
    pub(super) user: Option<u32>,
    /// Its standard input.
    pub(super) input: String,
    /// Makes it work, and lets it end.
    pub(super) act: Box<dyn Fn(Pid) -> Result<()>>,
}

const SERVICES: [Service; 4] = [
    Service { name: "nginx", paths: &["/usr/sbin/nginx"], prepare: nginx },
    Service { name: "redis-server", paths: &["/usr/bin/redis-server"], prepare: redis },
    Service { name: "python3", paths: &["/usr/bin/python3"], prepare: python },
    Service {
        name: "postgres",
        paths: &["/usr/lib/postgresql/15/bin/postgres", "/usr/lib/postgresql/17/bin/postgres"],
        prepare: postgres,
    },
];

/// Everything that can be debugged.
pub(super) fn all(directory: &Path) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for entry in fs::read_dir(directory)? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = folder.join(&name);
        subjects.extend(path.is_file().then_some(Subject::Ours { name, path }));
    }
    subjects.sort_by(|one, other| one.name().cmp(other.name()));
    subjects.extend(SERVICES.map(Subject::Service));
    Ok(subjects)
}

impl Subject {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Ours { name, .. } => name,
            Self::Service(service) => service.name,
        }
    }

    /// Without a choice it is all of them.
    pub(super) fn is_chosen(&self, only: &[String]) -> bool {
        only.is_empty() || only.iter().any(|name| name == self.name())
    }

    /// Writes what it needs into a folder; a program that is not there is no error, and said.
    pub(super) fn prepare(&self, scratch: &Path) -> Result<Result<Prepared, String>> {
        match self {
            Self::Ours { path, .. } => Ok(Ok(plain(vec![path.into()], "\n"))),
            Self::Service(service) => {
                let Some(program) = service.paths.iter().map(Path::new).find(|path| path.is_file()) else {
                    return Ok(Err(format!("there is no {}", service.paths.join(" or "))));
                };
                (service.prepare)(program, scratch).map(Ok)
            }
        }
    }
}

/// A program that ends by itself when its input does.
fn plain(command: Vec<OsString>, input: &str) -> Prepared {
    Prepared { command, user: None, input: input.to_owned(), act: Box::new(|_| Ok(())) }
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Connects as soon as somebody listens, says something, and reads the first bytes of the answer.
fn ask(port: u16, question: &str) -> Result<()> {
    let mut connection = None;
    wait_for("a service to listen", || {
        connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
        Ok(connection.is_some())
    })?;
    let mut connection = connection.context("no connection")?;
    connection.write_all(question.as_bytes())?;
    // One that ends instead of answering has been told to.
    let _ = connection.read(&mut [0; 512]);
    Ok(())
}

/// One process that does not fork, serves a file, misses another, and is told to end.
fn nginx(program: &Path, scratch: &Path) -> Result<Prepared> {
    let port = free_port()?;
    let here = scratch.display();
    let text = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n  access_log {here}/access.log; client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n  \
           fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n  \
           server {{ listen 127.0.0.1:{port}; root {here}; }}\n}}\n"
    );
    let configuration = scratch.join("nginx.conf");
    fs::write(&configuration, text)?;
    fs::write(scratch.join("index.html"), "hello\n")?;
    let act = move |pid| {
        for path in ["/index.html", "/", "/index.html", "/missing"] {
            ask(port, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))?;
        }
        Ok(kill_process(pid, Signal::QUIT)?)
    };
    let command = vec![program.into(), "-c".into(), configuration.into(), "-p".into(), scratch.into()];
    Ok(Prepared { act: Box::new(act), ..plain(command, "") })
}

/// Some commands, a dump that the server writes itself, and the end.
fn redis(program: &Path, scratch: &Path) -> Result<Prepared> {
    let port = free_port()?;
    let options = ["--save", "", "--appendonly", "yes", "--bind", "127.0.0.1", "--dir"].map(OsString::from);
    let mut command = vec![program.into(), "--port".into(), port.to_string().into()];
    command.extend(options);
    command.push(scratch.into());
    let act = move |_| {
        ["PING\r\n", "SET key value\r\n", "SAVE\r\n", "INFO\r\n", "SHUTDOWN NOSAVE\r\n"]
            .iter()
            .try_for_each(|question| ask(port, question))
    };
    Ok(Prepared { act: Box::new(act), ..plain(command, "") })
}

/// What the interpreter does: through its own evaluation loop, its modules in C, and threads.
const PYTHON: &str = r#"
import json, select, socket, sqlite3, tempfile, threading

kept = []

def leak(path):
    kept.append(open(path))

def serve(listener):
    kept.append(listener.accept())

class Config:
    def load(self):
        leak("/dev/null")

[Config().load() for _ in range(5)]
sorted([3, 2, 1], key=lambda _: leak("/dev/null") or 0)
listener = socket.create_server(("127.0.0.1", 0))
thread = threading.Thread(target=serve, args=(listener,))
thread.start()
kept.append(socket.create_connection(listener.getsockname()))
thread.join()
kept.append(select.epoll())
kept.append(tempfile.TemporaryFile())
kept.append(sqlite3.connect(tempfile.mkdtemp() + "/db"))
kept[-1].execute("create table t (a)")
"#;

fn python(program: &Path, scratch: &Path) -> Result<Prepared> {
    let script = scratch.join("leak.py");
    fs::write(&script, PYTHON)?;
    Ok(plain(vec![program.into(), "-I".into(), script.into()], ""))
}

/// One process that reads its commands from its standard input.
fn postgres(program: &Path, scratch: &Path) -> Result<Prepared> {
    let data = scratch.join("data");
    fs::create_dir(&data)?;
    for folder in [scratch, &data] {
        chown(folder, Some(NOBODY), Some(NOBODY))?;
    }
    let mut initdb = Command::new(program.with_file_name("initdb"));
    initdb
        .args(["--no-sync", "--locale=C", "--pgdata"])
        .arg(&data)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir(scratch);
    run::output(&mut initdb)?;
    let input = "create table t (a int primary key, b text);\n\
                 insert into t select i, repeat('x', 100) from generate_series(1, 1000) i;\n\
                 select count(*) from t where b like '%x';\ncheckpoint;\ndrop table t;\n";
    let command = vec![program.into(), "--single".into(), "-D".into(), data.into(), "postgres".into()];
    Ok(Prepared { user: Some(NOBODY), ..plain(command, input) })
}
