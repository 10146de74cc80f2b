//! Scopes: what the command's runner says of the parts of its run, and what it is reported them.

mod protocol;
mod server;

pub(crate) use protocol::MAX_SCOPE_NAME as MAX_NAME;

use std::{io, path::PathBuf, sync::Mutex};

use nix::unistd::{Gid, Uid};
use protocol::Verb;
use server::{Request, Server};

use super::{super::tracing::Tracing, lock};
use crate::{
    check::{Evaluator, Policy, Scopes},
    collect::monotonic_ns,
    model::check::ScopeFound,
};

/// Handles that are looked for in all tables of descriptors at once.
const MAX_SOUGHT: usize = 4096;

/// The scopes of a check, and the socket where they are announced.
pub(crate) struct Announced {
    server: Option<Server>,
    scopes: Scopes,
}

impl Announced {
    /// Where nobody can listen, nobody is heard: why.
    pub(crate) fn listen(user: Option<(Uid, Gid)>) -> (Self, Option<io::Error>) {
        let (server, error) = match Server::start(user) {
            Ok(server) => (Some(server), None),
            Err(error) => (None, Some(error)),
        };
        (Self { server, scopes: Scopes::default() }, error)
    }

    /// Nobody is asked.
    pub(crate) fn nobody() -> Self {
        Self { server: None, scopes: Scopes::default() }
    }

    /// The socket's path.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.server.as_ref().map(Server::path)
    }

    /// Nobody is heard any more.
    pub(crate) fn close(&mut self) {
        self.server = None;
    }

    /// The next that somebody asks.
    pub(crate) async fn next(&mut self) -> Request {
        let next = match &mut self.server {
            Some(server) => server.next().await,
            None => None,
        };
        match next {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }

    /// What is known of all scopes in the end.
    pub(crate) fn found(&mut self, evaluator: &Evaluator, start_ns: u64) -> Vec<ScopeFound> {
        self.scopes.found(evaluator, start_ns)
    }

    /// Answers; all that the asker has done before it asked is taken into account.
    pub(crate) async fn answer(
        &mut self,
        request: Request,
        tracing: &mut Tracing,
        evaluator: &Mutex<Evaluator>,
        policy: &Policy,
    ) -> io::Result<()> {
        let now = monotonic_ns();
        let Request { connection, pid, verb, answer } = request;
        let asked = Asked { tracing, evaluator, policy };
        let said = match verb {
            Verb::Begin(name) => self.begin(&asked, (connection, pid), (&name, false), now).await?,
            Verb::Process(name) => self.begin(&asked, (connection, pid), (&name, true), now).await?,
            Verb::End(name) => self.end(asked, connection, &name, now).await?,
            Verb::Kept(name) => self.kept(asked, connection, &name).await?,
            Verb::Say(name, word) => {
                self.scopes.say(connection, &name, word).map(|()| protocol::done(Some(&name)))
            }
            Verb::Done => self.settle(asked, connection).await?,
        };
        // Whoever asked may have gone.
        drop(answer.send(said.unwrap_or_else(|why| protocol::refused(&why))));
        Ok(())
    }

    async fn begin(
        &mut self,
        asked: &Asked<'_>,
        by: (u64, u32),
        (name, whole): (&str, bool),
        now: u64,
    ) -> Answered {
        if lock(asked.evaluator).process(by.1).is_none() {
            asked.tracing.collector().catch_up().await?;
        }
        let begun = self.scopes.begin(&lock(asked.evaluator), by, (name, whole), now);
        Ok(begun.map(|()| protocol::done(Some(name))))
    }

    async fn end(&mut self, mut asked: Asked<'_>, connection: u64, name: &str, now: u64) -> Answered {
        asked.tracing.collector().catch_up().await?;
        let ended = self.scopes.end(&lock(asked.evaluator), connection, name, now);
        let index = match ended {
            Ok(index) => index,
            Err(why) => return Ok(Err(why)),
        };
        asked.look_for(&self.scopes, &[index]).await?;
        let kept = self.scopes.remember(&lock(asked.evaluator), index);
        Ok(Ok(asked.say(name, &kept)))
    }

    async fn kept(&mut self, mut asked: Asked<'_>, connection: u64, name: &str) -> Answered {
        let index = match self.scopes.ended(connection, name) {
            Ok(index) => index,
            Err(why) => return Ok(Err(why)),
        };
        asked.tracing.collector().catch_up().await?;
        asked.look_for(&self.scopes, &[index]).await?;
        let kept = self.scopes.open(&lock(asked.evaluator), index);
        Ok(Ok(asked.say(name, &kept)))
    }

    async fn settle(&mut self, mut asked: Asked<'_>, connection: u64) -> Answered {
        let ended = self.scopes.of(connection);
        asked.tracing.collector().catch_up().await?;
        asked.look_for(&self.scopes, &ended).await?;
        let evaluator = lock(asked.evaluator);
        ended.iter().for_each(|index| self.scopes.settle(&evaluator, *index));
        Ok(Ok(protocol::done(None)))
    }
}

/// An answer, or why there is none.
type Answered = io::Result<Result<String, String>>;

/// Who knows the answer.
struct Asked<'a> {
    tracing: &'a mut Tracing,
    evaluator: &'a Mutex<Evaluator>,
    policy: &'a Policy,
}

impl Asked<'_> {
    /// Finds out where handles were made, and which have descriptors now. Where there are none, nothing is to be found out.
    async fn look_for(&mut self, scopes: &Scopes, which: &[usize]) -> io::Result<()> {
        if scopes.made_nothing(which) {
            return Ok(());
        }
        self.tracing.collector().settle().await?;
        self.tracing.enrich().await?;
        let handles = scopes.handles(which);
        self.tracing.name(&handles[..handles.len().min(MAX_SOUGHT)])?;
        self.tracing.collector().catch_up().await
    }

    fn say(&self, name: &str, kept: &[crate::model::check::KeptInScope]) -> String {
        protocol::kept(name, kept, |kept| self.policy.excuse_for(&kept.finding().site))
    }
}
