//! The rule on streams that are written down here.

use super::{
    Class, Judge,
    places::Places,
    rule::{Judged, Rule},
};
use crate::{
    report::Verdict as Growth,
    stream::{Alloc, Call, Cause, Event, Leaving, Mapped, Moment, Open, Release},
};

/// A stream in the making; the clock ticks with each event.
struct Stream {
    judge: Judge,
    time: u64,
    next: u64,
}

const PID: u32 = 100;
const OPENAT: libc::c_long = libc::SYS_openat;

impl Stream {
    fn new() -> Self {
        let mut stream = Self { judge: Judge::default(), time: 1000, next: 0 };
        stream.fork(1, PID);
        stream.exec(PID);
        stream
    }

    fn apply(&mut self, event: &Event) {
        self.judge.apply(event);
        self.time += 1;
    }

    fn fork(&mut self, parent: u32, child: u32) {
        let comm = *b"program\0\0\0\0\0\0\0\0\0";
        self.apply(&Event::Fork { time: self.time, parent, child, comm });
    }

    fn exec(&mut self, tgid: u32) {
        let comm = *b"program\0\0\0\0\0\0\0\0\0";
        self.apply(&Event::Exec { time: self.time, tgid, comm, path: b"/bin/program".to_vec() });
    }

    /// Makes a handle at a site; says which.
    fn make(&mut self, tgid: u32, site: u64, syscall: libc::c_long) -> (u64, u64) {
        self.next += 8;
        let call = Call { user_stack: site, syscall: u16::try_from(syscall).ok(), ..Call::default() };
        let (handle, generation) = (self.next, self.time);
        self.apply(&Event::Alloc(Alloc { handle, generation, tgid, tid: tgid, call }));
        (handle, generation)
    }

    fn close(&mut self, (handle, generation): (u64, u64), cause: Cause) {
        self.apply(&Event::Release(Release {
            handle,
            generation,
            time: self.time,
            tgid: PID,
            cause,
            never_opened: false,
            unaccounted: false,
        }));
    }

    fn open_at(&mut self, tgid: u32, (handle, generation): (u64, u64), fd: u32, moment: Moment) {
        self.apply(&Event::Open(Open {
            handle,
            generation,
            time: self.time,
            tgid,
            fd,
            moment,
            close_on_exec: true,
            socket_state: 0,
            deleted: false,
        }));
    }

    fn map(&mut self, (handle, generation): (u64, u64), inode: u64) {
        self.apply(&Event::Mapped(Mapped {
            handle,
            generation,
            time: self.time,
            tgid: PID,
            tid: PID,
            address: 4096,
            length: 4096,
            inode,
            call: Call { user_stack: 900, ..Call::default() },
        }));
    }

    /// A process ends with these open, from descriptor 3 on; nobody else has them.
    fn exit(&mut self, tgid: u32, open: &[(u64, u64)], signal: u8) {
        for (fd, handle) in (3..).zip(open) {
            self.open_at(tgid, *handle, fd, Moment::Exit);
        }
        self.apply(&Event::Exit { time: self.time, tgid, how: Leaving { signal, status: 0, limit: 1024 } });
        open.iter().for_each(|handle| self.close(*handle, Cause::Exit));
    }

    fn judged(&self) -> Vec<Judged> {
        let rule = Rule { max_per_site: None, growth: &|_, _| Growth::Unknown, services: false };
        rule.apply(&self.judge, &Places::of(&self.judge))
    }

    /// The class and the number of the only site of which something is to be said.
    fn only(&self) -> Option<(Class, u64)> {
        let judged = self.judged();
        assert!(judged.len() <= 1, "{judged:?}");
        judged.first().map(|site| (site.class, site.leaked))
    }
}

#[test]
fn what_is_open_at_the_end_leaks_from_the_second_call_on() {
    for (kept, expected) in [(1, Class::Allowed), (2, Class::Leak), (50, Class::Leak)] {
        let mut stream = Stream::new();
        let open: Vec<_> = (0..kept).map(|_| stream.make(PID, 7, OPENAT)).collect();
        stream.exit(PID, &open, 0);
        assert_eq!(stream.only(), Some((expected, kept)));
    }
}

#[test]
fn what_is_closed_is_not_spoken_of() {
    let mut stream = Stream::new();
    for _ in 0..50 {
        let handle = stream.make(PID, 7, OPENAT);
        stream.close(handle, Cause::Close);
    }
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), None);
}

#[test]
fn a_pipe_is_one_call() {
    let mut stream = Stream::new();
    let ends = [stream.make(PID, 7, libc::SYS_pipe2), stream.make(PID, 7, libc::SYS_pipe2)];
    stream.exit(PID, &ends, 0);
    assert_eq!(stream.only(), Some((Class::Allowed, 1)));
}

#[test]
fn images_are_not_added_up() {
    let mut stream = Stream::new();
    for child in 200..210 {
        stream.fork(PID, child);
        stream.exec(child);
        let handle = stream.make(child, 7, OPENAT);
        stream.exit(child, &[handle], 0);
    }
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), Some((Class::Allowed, 1)));
}

#[test]
fn standard_streams_do_not_count() {
    let mut stream = Stream::new();
    let both = [stream.make(PID, 7, OPENAT), stream.make(PID, 7, OPENAT)];
    stream.open_at(PID, both[0], 1, Moment::Exit);
    stream.open_at(PID, both[1], 2, Moment::Exit);
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), None);
}

#[test]
fn what_comes_over_an_exec_is_inherited() {
    let mut stream = Stream::new();
    stream.fork(PID, 200);
    let open: Vec<_> = (0..5).map(|_| stream.make(200, 7, OPENAT)).collect();
    stream.exec(200);
    stream.exit(200, &open, 0);
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), Some((Class::Inherited, 5)));
}

#[test]
fn what_a_child_has_of_a_parent_that_closed_its_own_is_inherited() {
    let mut stream = Stream::new();
    let open: Vec<_> = (0..5).map(|_| stream.make(PID, 7, OPENAT)).collect();
    stream.fork(PID, 200);
    stream.exit(200, &open, 0);
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), Some((Class::Inherited, 5)));
}

#[test]
fn what_an_exec_closes_is_told_and_no_leak() {
    let mut stream = Stream::new();
    let open: Vec<_> = (0..5).map(|_| stream.make(PID, 7, OPENAT)).collect();
    for (fd, handle) in (3..).zip(&open) {
        stream.open_at(PID, *handle, fd, Moment::Exec);
    }
    stream.exec(PID);
    open.iter().for_each(|handle| stream.close(*handle, Cause::Exec));
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), Some((Class::Exec, 5)));
}

#[test]
fn only_many_mappings_of_one_file_leak() {
    for (inodes, expected) in [(12, (Class::Mapped, 1)), (1, (Class::Leak, 12))] {
        let mut stream = Stream::new();
        let open: Vec<_> = (0..12).map(|_| stream.make(PID, 7, OPENAT)).collect();
        for (number, handle) in (0..).zip(&open) {
            stream.map(*handle, 1 + number % inodes);
        }
        stream.exit(PID, &[], 0);
        open.iter().for_each(|handle| stream.close(*handle, Cause::Exit));
        assert_eq!(stream.only(), Some(expected));
    }
}

#[test]
fn a_cache_that_pushes_out_the_oldest_is_steady() {
    let mut stream = Stream::new();
    let mut cache = std::collections::VecDeque::new();
    for _ in 0..500 {
        if cache.len() == 8
            && let Some(oldest) = cache.pop_front()
        {
            stream.close(oldest, Cause::Close);
        }
        let handle = stream.make(PID, 7, OPENAT);
        cache.push_back(handle);
    }
    let open: Vec<_> = cache.into_iter().collect();
    stream.exit(PID, &open, 0);
    assert_eq!(stream.only(), Some((Class::Steady, 8)));
}

#[test]
fn a_leak_at_the_start_is_not_excused_by_what_is_closed_later() {
    let mut stream = Stream::new();
    let open: Vec<_> = (0..5).map(|_| stream.make(PID, 7, OPENAT)).collect();
    for _ in 0..500 {
        let handle = stream.make(PID, 7, OPENAT);
        stream.close(handle, Cause::Close);
    }
    stream.exit(PID, &open, 0);
    assert_eq!(stream.only(), Some((Class::Leak, 5)));
}

#[test]
fn a_program_that_is_killed_is_judged_by_growth() {
    for (pause, expected) in [(0, Class::Allowed), (1, Class::Leak)] {
        let mut stream = Stream::new();
        let mut open = Vec::new();
        for _ in 0..40 {
            open.push(stream.make(PID, 7, OPENAT));
            stream.time += pause * 100;
        }
        // All at once and then nothing, or one after the other to the end.
        stream.time += (1 - pause) * 100_000;
        stream.exit(PID, &open, 9);
        assert_eq!(stream.only(), Some((expected, 40)));
    }
}

#[test]
fn two_sites_are_judged_apart() {
    let mut stream = Stream::new();
    let mut open: Vec<_> = (0..3).map(|_| stream.make(PID, 7, OPENAT)).collect();
    open.push(stream.make(PID, 8, OPENAT));
    stream.exit(PID, &open, 0);
    let judged: Vec<_> = stream.judged().iter().map(|site| (site.class, site.leaked)).collect();
    assert_eq!(judged, [(Class::Leak, 3), (Class::Allowed, 1)]);
}

#[test]
fn what_nobody_allocated_is_counted_as_unknown() {
    let mut stream = Stream::new();
    stream.open_at(PID, (8, 2000), 3, Moment::Exit);
    stream.open_at(PID, (16, 1), 4, Moment::Exit);
    stream.exit(PID, &[], 0);
    assert_eq!(stream.judge.unknown(), 1, "one is older than the trace");
}
