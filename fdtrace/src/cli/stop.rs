//! SIGINT and SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for somebody who wants the work to end.
pub(super) struct Stop {
    signals: Option<(Signal, Signal)>,
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { signals: Some((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) })
    }

    /// Ends when a signal has come.
    pub(super) async fn wait(&mut self) {
        match &mut self.signals {
            Some(signals) => either(signals).await,
            None => std::future::pending().await,
        }
    }

    /// The work in hand is finished after the first signal; whoever sends a second one has no more patience.
    pub(super) fn at_the_second_signal(&mut self) {
        let Some(mut signals) = self.signals.take() else { return };
        tokio::spawn(async move {
            either(&mut signals).await;
            std::process::exit(130);
        });
    }
}

async fn either((interrupts, terminations): &mut (Signal, Signal)) {
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
}
