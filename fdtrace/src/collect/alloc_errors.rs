//! Errors of processes. The kernel side says how many there were so far, the stream how many more there are.

use std::collections::HashMap;

use crate::stream::{AllocError, Event};

/// So many processes and errors are remembered. Processes that end are forgotten, so more than that have lost their
/// ends, and are no longer there.
const MAX: usize = 1 << 14;

/// What has been reported of each process and error.
#[derive(Debug, Default)]
pub(super) struct AllocErrors(HashMap<(u32, i32), Reported>);

#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    times: u32,
    limit: u64,
}

impl AllocErrors {
    /// What an event from the ring says that is new; `None` for no event at all.
    pub(super) fn news_of(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Failure(so_far) => self.more(so_far).map(Event::Failure),
            Event::Exec { tgid, .. } | Event::Exit { tgid, .. } => {
                self.0.retain(|(of, _), _| *of != tgid);
                Some(event)
            }
            _ => Some(event),
        }
    }

    /// What the kernel's table says that is new: `(process << 32 | error number, times)`, as of `time`.
    pub(super) fn in_table(&mut self, table: &[(u64, u32)], time: u64) -> Vec<Event> {
        let so_far = table.iter().filter_map(|(key, times)| {
            let tgid = u32::try_from(key >> 32).ok()?;
            let errno = i32::try_from(key & u64::from(u32::MAX)).ok()?;
            let limit = self.0.get(&(tgid, errno)).map_or(0, |reported| reported.limit);
            self.more(AllocError { time, tgid, errno, times: *times, limit })
        });
        so_far.map(Event::Failure).collect()
    }

    /// The table may have been read before an event that was in the ring already: what it says is old then.
    fn more(&mut self, so_far: AllocError) -> Option<AllocError> {
        if self.0.len() > MAX {
            self.0.clear();
        }
        let reported = self.0.entry((so_far.tgid, so_far.errno)).or_default();
        let times = so_far.times.checked_sub(reported.times).filter(|times| *times > 0)?;
        *reported = Reported { times: so_far.times, limit: so_far.limit };
        Some(AllocError { times, ..so_far })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Leaving;

    const EMFILE: i32 = 24;
    const KEY: u64 = 7 << 32 | 24;

    fn so_far(times: u32) -> Event {
        Event::Failure(AllocError { time: 1, tgid: 7, errno: EMFILE, times, limit: 64 })
    }

    fn more(alloc_errors: &mut AllocErrors, times: u32) -> u32 {
        match alloc_errors.news_of(so_far(times)) {
            Some(Event::Failure(alloc_error)) => alloc_error.times,
            _ => 0,
        }
    }

    #[test]
    fn the_stream_says_how_many_more() {
        let mut alloc_errors = AllocErrors::default();
        let news: Vec<_> = [1, 2, 16, 32].map(|times| more(&mut alloc_errors, times)).into();
        assert_eq!(news, [1, 1, 14, 16]);
        let rest = alloc_errors.in_table(&[(KEY, 50)], 9);
        assert_eq!(
            rest,
            [Event::Failure(AllocError { time: 9, tgid: 7, errno: EMFILE, times: 18, limit: 64 })]
        );
        assert_eq!(alloc_errors.in_table(&[(KEY, 50)], 10), []);
    }

    #[test]
    fn an_event_that_the_table_was_ahead_of_says_nothing() {
        let mut alloc_errors = AllocErrors::default();
        assert_eq!(alloc_errors.in_table(&[(KEY, 20)], 9).len(), 1);
        assert_eq!(alloc_errors.news_of(so_far(16)), None);
        assert_eq!(more(&mut alloc_errors, 32), 12);
    }

    #[test]
    fn the_next_process_of_a_number_begins_anew() {
        let mut alloc_errors = AllocErrors::default();
        assert_eq!(more(&mut alloc_errors, 40), 40);
        let exit = Event::Exit { time: 2, tgid: 7, how: Leaving { signal: 0, status: 0, limit: 64 } };
        assert_eq!(alloc_errors.news_of(exit.clone()), Some(exit));
        assert_eq!(more(&mut alloc_errors, 1), 1);
    }
}
