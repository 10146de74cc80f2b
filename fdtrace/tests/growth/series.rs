//! One series: its handles as events, through fold and view.

use std::time::SystemTime;

use fdtrace::{
    handles::{Fold, Snapshot},
    model::Trend,
    stream::{Alloc, Call, Cause, Event, ImageKey, Release},
    view::{Selection, Session, View, site_id},
};

const TGID: u32 = 100;
const START: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
/// A long series is looked at less often: the verdict needs no more, and the numbers are thinned out anyway.
const MAX_LOOKS: u64 = 60;
const CALL: Call = Call {
    user_stack: 11,
    kernel_stack: 0,
    detail: 0,
    syscall: Some(257),
    kernel_task: false,
    acquired: false,
};

/// One handle: when it is made, in seconds, and how long it lives.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) birth: f64,
    /// Infinite for one that leaks.
    pub(crate) age: f64,
}

/// What became of a series.
pub(crate) struct Outcome {
    pub(crate) verdict: Trend,
    /// Handles that leaked in the first nine tenths of the time.
    pub(crate) leaked_early: u64,
}

/// Watches handles for so many seconds.
pub(crate) fn watch(lives: &[Life], seconds: u64) -> Outcome {
    let session = Session {
        start: SystemTime::UNIX_EPOCH,
        start_ns: START,
        backend: String::new(),
        kernel: String::new(),
        min_age_ns: 0,
    };
    let (mut fold, mut view) = (Fold::default(), View::new(session, Selection::default()));
    let mut events = moments(lives, seconds).into_iter().peekable();
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let early = seconds as f64 * 0.9;
    let looks = seconds.min(MAX_LOOKS);
    for look in 1..=looks {
        let now = START + look * (seconds * SECOND / looks);
        while let Some((time, index)) = events.next_if(|(time, _)| *time <= now) {
            fold.apply(event(lives, time, index));
        }
        view.sample(&Snapshot::of(&fold, now, 0));
    }
    Outcome {
        verdict: view.growth_of(site_id(None, &CALL), ImageKey { tgid: TGID, since: 0 }),
        leaked_early: lives.iter().filter(|life| life.age.is_infinite() && life.birth < early).count() as u64,
    }
}

/// When something happens to which handle.
fn moments(lives: &[Life], seconds: u64) -> Vec<(u64, u64)> {
    let end = START + seconds * SECOND;
    let ends =
        |(index, life): (u64, &Life)| [(time(life.birth), index), (time(life.birth + life.age), index)];
    let mut moments: Vec<(u64, u64)> =
        (0..).zip(lives).flat_map(ends).filter(|(time, _)| *time <= end).collect();
    moments.sort_unstable();
    moments
}

/// A handle's birth, if this is the moment of it, or else its death.
fn event(lives: &[Life], at: u64, index: u64) -> Event {
    let generation = time(lives[usize::try_from(index).unwrap_or(0)].birth);
    let handle = (index + 1) * 64;
    if at == generation {
        return Event::Alloc(Alloc { handle, generation, tgid: TGID, tid: TGID, call: CALL });
    }
    Event::Release(Release {
        handle,
        generation,
        time: at,
        tgid: TGID,
        cause: Cause::Close,
        never_opened: false,
        unaccounted: false,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what never comes is at the end of time"
)]
fn time(seconds: f64) -> u64 {
    START.saturating_add((seconds * 1e9) as u64)
}
