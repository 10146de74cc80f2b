//! The socket of FDTRACE_SCOPE. Whoever speaks there is no friend: lines, connections and patience have limits.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use nix::unistd::{Gid, Uid};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::protocol::{LINE, Verb, refused};
use crate::files::PrivateFolder;

/// Connections at once, where there is room for so many descriptors.
const MAX_CONNECTIONS: u64 = 256;
/// So long a runner may take to read an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Until the next connection is taken, where there was no room for one.
const PAUSE: Duration = Duration::from_millis(50);

/// A line that somebody has sent, and where its answer goes.
pub(crate) struct Request {
    /// Which connection it came by.
    pub(crate) connection: u64,
    /// The process that made the connection.
    pub(crate) pid: u32,
    pub(crate) verb: Verb,
    pub(crate) answer: oneshot::Sender<String>,
}

/// The socket, until this is dropped.
pub(crate) struct Server {
    folder: PrivateFolder,
    accepting: JoinHandle<()>,
    requests: mpsc::Receiver<Request>,
}

impl Server {
    /// Listens; whom the command runs as may speak.
    ///
    /// # Errors
    /// When there is no room for a socket.
    pub(crate) fn start(user: Option<(Uid, Gid)>) -> io::Result<Self> {
        let folder = PrivateFolder::create()?;
        let listener = UnixListener::bind(folder.socket())?;
        folder.admit(user)?;
        let (sender, requests) = mpsc::channel(1);
        Ok(Self { folder, accepting: tokio::spawn(accept(listener, sender)), requests })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.socket()
    }

    pub(crate) async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let room = Arc::new(Semaphore::new(most_connections()));
    let mut connection = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors are left for now.
            sleep(PAUSE).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            // Who does not read it has lost nothing.
            drop(stream.try_write(refused("there are too many connections").as_bytes()));
            continue;
        };
        connection += 1;
        let requests = requests.clone();
        tokio::spawn(async move {
            // Who hangs up, or breaks the rules, is heard no more.
            drop(serve(stream, connection, requests).await);
            drop(permit);
        });
    }
}

/// A quarter of the descriptors that fdtrace may have.
fn most_connections() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let most = limit.map_or(MAX_CONNECTIONS, |(soft, _)| soft / 4).clamp(1, MAX_CONNECTIONS);
    usize::try_from(most).unwrap_or(1)
}

async fn serve(stream: UnixStream, connection: u64, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let pid = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::with_capacity(LINE, input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input).take(LINE as u64).read_until(b'\n', &mut line).await?;
        let answer = match line.strip_suffix(b"\n") {
            Some(line) => answered(line, (connection, pid), &requests).await,
            None if read == LINE => refused("the line is too long"),
            None => return Ok(()),
        };
        timeout(TIMEOUT, output.write_all(answer.as_bytes())).await??;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
    }
}

async fn answered(line: &[u8], (connection, pid): (u64, u32), requests: &mpsc::Sender<Request>) -> String {
    let verb = match Verb::parse(line) {
        Ok(verb) => verb,
        Err(why) => return refused(why),
    };
    let (answer, answered) = oneshot::channel();
    let over = || refused("the check is over");
    if requests.send(Request { connection, pid, verb, answer }).await.is_err() {
        return over();
    }
    answered.await.unwrap_or_else(|_| over())
}
