//! The rule on streams that are written down here.

use std::sync::Arc;

use super::{
    Evaluator,
    evaluate::Group,
    places::Places,
    rule::{Evaluated, Rule},
};
use crate::{
    model::{Kind, Origin, Trend as Growth, UserFrame, check::Class, fixture},
    stream::{
        Alloc, Call, Cause, ClosedBy, Cut, Described, Event, Fact, FdLookup, Leaving, Mapped, Moment, Open,
        Release, Site, UserStack,
    },
};

/// A stream in the making; the clock ticks with each event.
struct Stream {
    evaluator: Evaluator,
    time: u64,
    next: u64,
    /// The state of the sockets that are open at the next end.
    socket_state: u8,
    /// What the next calls are told to do.
    flags: libc::c_int,
}

const PID: u32 = 100;
const OPENAT: libc::c_long = libc::SYS_openat;

impl Stream {
    fn new() -> Self {
        let mut stream =
            Self { evaluator: Evaluator::default(), time: 1000, next: 0, socket_state: 0, flags: 0 };
        stream.fork(1, PID);
        stream.exec(PID);
        stream
    }

    fn apply(&mut self, event: &Event) {
        self.evaluator.apply(event);
        self.time += 1;
    }

    fn fork(&mut self, parent: u32, child: u32) {
        self.clone(parent, child, false);
    }

    /// A fork whose child may have its parent's table of descriptors.
    fn clone(&mut self, parent: u32, child: u32, shares: bool) {
        let comm = *b"program\0\0\0\0\0\0\0\0\0";
        self.apply(&Event::Fork { time: self.time, parent, child, shares, comm });
    }

    fn exec(&mut self, tgid: u32) {
        let comm = *b"program\0\0\0\0\0\0\0\0\0";
        self.apply(&Event::Exec { time: self.time, tgid, comm, path: b"/bin/program".to_vec() });
    }

    /// Makes a handle at a site; says which.
    fn make(&mut self, tgid: u32, site: u64, syscall: libc::c_long) -> (u64, u64) {
        self.make_by(tgid, tgid, site, syscall)
    }

    fn make_by(&mut self, tgid: u32, tid: u32, site: u64, syscall: libc::c_long) -> (u64, u64) {
        self.next += 8;
        let (syscall, detail) = (u16::try_from(syscall).ok(), self.flags.cast_unsigned());
        let call = Call { user_stack: site, syscall, detail, ..Call::default() };
        let (handle, generation) = (self.next, self.time);
        self.apply(&Event::Alloc(Alloc { handle, generation, tgid, tid, call }));
        (handle, generation)
    }

    fn close(&mut self, handle: (u64, u64), cause: Cause) {
        self.release(handle, cause, false);
    }

    fn release(&mut self, (handle, generation): (u64, u64), cause: Cause, never_opened: bool) {
        self.apply(&Event::Release(Release {
            handle,
            generation,
            time: self.time,
            tgid: PID,
            cause,
            never_opened,
            unaccounted: false,
        }));
    }

    fn open_at(&mut self, tgid: u32, handle: (u64, u64), fd: u32, moment: Moment) {
        self.open_in(tgid, handle, fd, moment, None);
    }

    fn open_in(
        &mut self,
        tgid: u32,
        (handle, generation): (u64, u64),
        fd: u32,
        moment: Moment,
        of_thread: Option<u32>,
    ) {
        self.apply(&Event::Open(Open {
            handle,
            generation,
            time: self.time,
            tgid,
            fd,
            moment,
            close_on_exec: true,
            socket_state: self.socket_state,
            deleted: false,
            waiting: 0,
            of_thread,
        }));
    }

    /// Whatever stack was followed, it led to one site.
    fn all_of_one_site(&mut self) {
        let groups: Vec<_> = self.evaluator.groups().map(|(_, group)| (group.image, group.call)).collect();
        for (image, call) in groups {
            self.apply(&Event::Fact(Box::new(Fact::Belongs { image, call, site: 1 })));
        }
    }

    /// It is found out which functions, by name and module, led to a call.
    fn site(&mut self, id: u64, functions: &[(&str, &str)], complete: bool) {
        let frame = |(symbol, module): &(&str, &str)| {
            let (symbol, module) = (Some((*symbol).to_owned()), Some((*module).to_owned()));
            UserFrame { symbol, module, offset: id, ..UserFrame::default() }
        };
        self.stack(id, functions.iter().map(frame).collect(), complete);
    }

    /// A call came from this line of a script.
    fn script(&mut self, id: u64, line: u32) {
        let frames = [
            fixture::frame("open64", "/usr/lib/libc.so.6", 1),
            fixture::frame("_PyEval_EvalFrameDefault", "/usr/bin/python3.11", id),
            fixture::script("load", "/app/db.py", line),
            fixture::frame("Py_RunMain", "/usr/bin/python3.11", 1),
        ];
        self.stack(id, frames.to_vec(), true);
    }

    fn stack(&mut self, id: u64, frames: Vec<UserFrame>, complete: bool) {
        let user = UserStack { frames: frames.into_iter().map(Arc::new).collect(), complete };
        let site = Site { id, origin: Origin::Open, kernel: Vec::new(), user };
        self.apply(&Event::Fact(Box::new(Fact::Site(Arc::new(site)))));
        let of_site = |(_, group): &(usize, &Group)| group.call.user_stack == id;
        let groups = self.evaluator.groups().filter(of_site).map(|(_, group)| (group.image, group.call));
        for (image, call) in groups.collect::<Vec<_>>() {
            self.apply(&Event::Fact(Box::new(Fact::Belongs { image, call, site: id })));
        }
    }

    /// Opens and closes, again and again.
    fn loop_in(&mut self, tid: u32, times: u32) {
        for _ in 0..times {
            let handle = self.make_by(PID, tid, 7, OPENAT);
            self.close(handle, Cause::Close);
        }
    }

    fn cut(&mut self, tid: u32, syscall: Option<libc::c_long>) {
        let syscall = syscall.and_then(|number| u16::try_from(number).ok());
        self.apply(&Event::Cut(Cut { time: self.time, tid, began: 1, syscall }));
    }

    /// A process ends by what is no thread's own decision but one's: the cut ones are reported afterwards, as it happens.
    fn exit_all(
        &mut self,
        threads: std::ops::Range<u32>,
        open: &[(u64, u64)],
        syscall: Option<libc::c_long>,
    ) {
        self.exit(PID, open, 0);
        threads.for_each(|tid| self.cut(tid, syscall));
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

    fn name(&mut self, (handle, generation): (u64, u64), kind: Kind, name: &str) {
        let (name, descriptor) = (Some(name.into()), FdLookup::NotYet);
        self.apply(&Event::Fact(Box::new(Fact::Described(Described {
            handle,
            generation,
            kind,
            name,
            descriptor,
        }))));
    }

    /// Sockets with these names, which one site got by this system call.
    fn sockets(&mut self, syscall: libc::c_long, count: u64, name: &str) -> Vec<(u64, u64)> {
        let sockets: Vec<_> = (0..count).map(|_| self.make(PID, 7, syscall)).collect();
        sockets.iter().for_each(|socket| self.name(*socket, Kind::Socket, name));
        sockets
    }

    /// A process ends with these open, from descriptor 3 on; nobody else has them.
    fn exit(&mut self, tgid: u32, open: &[(u64, u64)], signal: u8) {
        for (fd, handle) in (3..).zip(open) {
            self.open_at(tgid, *handle, fd, Moment::Exit);
        }
        self.apply(&Event::Exit { time: self.time, tgid, how: Leaving { signal, status: 0, limit: 1024 } });
        open.iter().for_each(|handle| self.close(*handle, Cause::Exit));
    }

    /// The process closes these by a stack of these functions.
    fn close_by(&mut self, functions: &[&str], handles: &[(u64, u64)]) {
        const CLOSER: u64 = 901;
        let syscall = u16::try_from(libc::SYS_close).ok();
        let call = Call { user_stack: CLOSER, syscall, ..Call::default() };
        for handle in handles {
            let since = self.time;
            self.close(*handle, Cause::Close);
            self.apply(&Event::ClosedBy(ClosedBy { since, time: self.time, tgid: PID, tid: PID, call }));
        }
        let frame =
            |name: &&str| Arc::new(UserFrame { symbol: Some((*name).to_owned()), ..UserFrame::default() });
        let user = UserStack { frames: functions.iter().map(frame).collect(), complete: true };
        let site = Site { id: CLOSER, origin: Origin::Open, kernel: Vec::new(), user };
        self.apply(&Event::Fact(Box::new(Fact::Site(Arc::new(site)))));
        let image = self.evaluator.groups().next().map(|(_, group)| group.image).expect("a group");
        self.apply(&Event::Fact(Box::new(Fact::Belongs { image, call, site: CLOSER })));
    }

    fn rule() -> Rule<'static> {
        Rule {
            max_per_site: None,
            growth: &|_, _| Growth::Unknown,
            close_wait_ms: 1000,
            services: false,
            holds_code: &|path| path.ends_with(".jar"),
        }
    }

    /// It is found out where a site is.
    fn name_site(&mut self, id: u64) {
        let call = Call { user_stack: id, syscall: u16::try_from(libc::SYS_accept4).ok(), ..Call::default() };
        let image = self.evaluator.groups().next().map(|(_, group)| group.image).expect("a group");
        self.apply(&Event::Fact(Box::new(Fact::Belongs { image, call, site: id })));
    }

    fn evaluated(&self) -> Vec<Evaluated> {
        Self::rule().apply(&self.evaluator, &Places::of(&self.evaluator), false)
    }

    /// The class and the number of the only site of which something is to be said.
    fn only(&self) -> Option<(Class, u64)> {
        let evaluated = self.evaluated();
        assert!(evaluated.len() <= 1, "{evaluated:?}");
        evaluated.first().map(|site| (site.class, site.leaked))
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

const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;

#[test]
fn accepted_sockets_grow_with_their_peers() {
    let evaluated = |syscall, name: &str, state| {
        let mut stream = Stream::new();
        let open = stream.sockets(syscall, 60, name);
        stream.socket_state = state;
        stream.exit(PID, &open, 0);
        stream.only()
    };
    let tcp = "tcp 127.0.0.1:80 to 127.0.0.1:5000 ESTABLISHED";
    assert_eq!(evaluated(libc::SYS_accept4, tcp, ESTABLISHED), Some((Class::GrowingWithPeers, 60)));
    assert_eq!(evaluated(libc::SYS_accept4, tcp, CLOSE_WAIT), Some((Class::Leak, 60)), "they have hung up");
    assert_eq!(evaluated(libc::SYS_socket, tcp, ESTABLISHED), Some((Class::Leak, 60)), "its own doing");
    let unix = "unix stream /run/x.sock";
    assert_eq!(
        evaluated(libc::SYS_accept4, unix, ESTABLISHED),
        Some((Class::Leak, 60)),
        "as after a hang-up"
    );
}

#[test]
fn peers_that_have_gone_leak_when_they_are_more_than_a_site_may_keep() {
    let evaluated = |gone: usize| {
        let mut stream = Stream::new();
        let open = stream.sockets(libc::SYS_accept4, 60, "unix stream /run/x.sock");
        stream.evaluator.connected(&open[gone..]);
        let rule = Rule { services: true, growth: &|_, _| Growth::Growing, ..Stream::rule() };
        stream.name_site(7);
        rule.apply(&stream.evaluator, &Places::of(&stream.evaluator), false)[0].class
    };
    assert_eq!([0, 1, 2].map(evaluated), [Class::GrowingWithPeers, Class::GrowingWithPeers, Class::Leak]);
}

#[test]
fn archives_of_code_are_loaded_when_each_is_another_file() {
    let evaluated = |name: &dyn Fn(u64) -> String| {
        let mut stream = Stream::new();
        let open: Vec<_> = (0..30).map(|_| stream.make(PID, 7, OPENAT)).collect();
        for (number, file) in (0..).zip(&open) {
            stream.name(*file, Kind::Regular, &name(number));
        }
        stream.exit(PID, &open, 0);
        stream.only()
    };
    assert_eq!(evaluated(&|number| format!("/lib/{number}.jar")), Some((Class::Loaded, 30)));
    assert_eq!(
        evaluated(&|number| format!("/lib/{}.jar", number.max(1))),
        Some((Class::Loaded, 30)),
        "a link"
    );
    assert_eq!(evaluated(&|number| format!("/lib/{}.jar", number.max(2))), Some((Class::Leak, 30)));
    assert_eq!(evaluated(&|number| format!("/var/log/{number}.log")), Some((Class::Leak, 30)));
    let one_log = |number| if number == 7 { "/var/log/a".to_owned() } else { format!("/lib/{number}.jar") };
    assert_eq!(evaluated(&one_log), Some((Class::Leak, 30)));
}

const AT_EXIT: [&str; 4] = ["close", "tidy", "__run_exit_handlers", "exit"];

#[test]
fn what_the_end_alone_closes_lived_until_then() {
    let evaluated = |functions: &[&str], count: u64| {
        let mut stream = Stream::new();
        let open: Vec<_> = (0..count).map(|_| stream.make(PID, 7, OPENAT)).collect();
        stream.close_by(functions, &open);
        stream.exit(PID, &[], 0);
        stream.only()
    };
    assert_eq!(evaluated(&AT_EXIT, 20), Some((Class::Teardown, 20)));
    assert_eq!(evaluated(&AT_EXIT, 1), None, "a site may keep one");
    assert_eq!(evaluated(&["close", "tidy", "main"], 20), None);
}

#[test]
fn who_goes_on_was_not_at_its_end() {
    let mut stream = Stream::new();
    let open: Vec<_> = (0..20).map(|_| stream.make(PID, 7, OPENAT)).collect();
    stream.close_by(&AT_EXIT, &open);
    let last = stream.make(PID, 7, OPENAT);
    stream.close(last, Cause::Close);
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), None);
}

#[test]
fn what_grew_until_the_end_is_a_leak() {
    let mut stream = Stream::new();
    let open: Vec<_> = (0..20).map(|_| stream.make(PID, 7, OPENAT)).collect();
    let image = stream.evaluator.groups().next().map(|(_, group)| group.image).expect("a group");
    let call = Call { user_stack: 7, syscall: u16::try_from(OPENAT).ok(), ..Call::default() };
    stream.apply(&Event::Fact(Box::new(Fact::Belongs { image, call, site: 7 })));
    stream.close_by(&AT_EXIT, &open);
    stream.exit(PID, &[], 0);
    let rule = Rule { growth: &|_, _| Growth::Growing, ..Stream::rule() };
    let evaluated = rule.apply(&stream.evaluator, &Places::of(&stream.evaluator), false);
    assert_eq!((evaluated[0].class, evaluated[0].leaked, evaluated[0].closed_by_end), (Class::Leak, 20, 20));
}

#[test]
fn data_files_are_a_cache_when_their_opener_closes_others() {
    let evaluated_at = |name: &dyn Fn(&mut Stream, u64), flags: libc::c_int, files: u64, closes: bool| {
        let mut stream = Stream::new();
        stream.flags = flags;
        if closes {
            let other = stream.make(PID, 8, OPENAT);
            stream.close(other, Cause::Close);
        }
        let open: Vec<_> = (0..32).map(|_| stream.make(PID, 7, OPENAT)).collect();
        for (number, file) in (0..).zip(&open) {
            stream.name(*file, Kind::Regular, &format!("/db/{}", number % files));
        }
        stream.exit(PID, &open, 0);
        [7, 8].into_iter().for_each(|id| name(&mut stream, id));
        stream.only()
    };
    let evaluated = |flags, files, closes| {
        let stack = [("open64", "/lib/libc.so.6"), ("BasicOpenFile", "/bin/program")];
        evaluated_at(&|stream, id| stream.site(id, &stack, true), flags, files, closes)
    };
    assert_eq!(evaluated(libc::O_RDWR, 32, true), Some((Class::Steady, 32)));
    assert_eq!(evaluated(libc::O_RDWR, 31, true), Some((Class::Leak, 32)), "a file comes twice");
    assert_eq!(evaluated(libc::O_RDWR, 32, false), Some((Class::Leak, 32)), "nothing is ever closed");
    assert_eq!(evaluated(libc::O_RDONLY, 32, true), Some((Class::Leak, 32)));
    assert_eq!(evaluated(libc::O_RDWR | libc::O_CREAT, 32, true), Some((Class::Leak, 32)));
    let lines_of_a_function = |stream: &mut Stream, id: u64| stream.script(id, if id == 7 { 12 } else { 40 });
    assert_eq!(evaluated_at(&lines_of_a_function, libc::O_RDWR, 32, true), Some((Class::Steady, 32)));
}

#[test]
fn lines_of_a_script_are_evaluated_apart() {
    let kept = |lines: [u32; 9]| {
        let mut stream = Stream::new();
        let open = (7..16).map(|site| stream.make(PID, site, OPENAT)).collect::<Vec<_>>();
        (7..).zip(lines).for_each(|(site, line)| stream.script(site, line));
        stream.exit(PID, &open, 0);
        stream.evaluated().iter().map(|site| (site.class, site.leaked)).collect::<Vec<_>>()
    };
    assert_eq!(kept([1, 2, 3, 4, 5, 6, 7, 8, 9]), [(Class::Allowed, 1); 9], "nine lines that keep one each");
    let found = kept([1, 1, 1, 4, 5, 6, 7, 8, 9]);
    assert_eq!(found[..2], [(Class::Leak, 3), (Class::Allowed, 1)], "one line that keeps three");
}

#[test]
fn a_script_without_lines_may_keep_more_and_is_said_to() {
    let kept = |count: usize| {
        let mut stream = Stream::new();
        let open = (0..count).map(|_| stream.make(PID, 7, OPENAT)).collect::<Vec<_>>();
        stream.site(7, &[("_PyEval_EvalFrameDefault", "/usr/bin/python3.11")], true);
        stream.exit(PID, &open, 0);
        let found = stream.evaluated().remove(0);
        (found.class, found.because.is_some())
    };
    let expected = [(Class::Allowed, false), (Class::Allowed, true), (Class::Leak, true)];
    assert_eq!([1, 8, 9].map(kept), expected);
}

#[test]
fn a_stack_that_ends_in_the_library_stands_for_all_lines_of_the_program() {
    for (kept, expected) in [(8, Class::Allowed), (9, Class::Leak)] {
        let mut stream = Stream::new();
        let open: Vec<_> = (0..kept).map(|_| stream.make(PID, 7, OPENAT)).collect();
        stream.exit(PID, &open, 0);
        stream.site(7, &[("open64", "/lib/libc.so.6")], false);
        assert_eq!(stream.only(), Some((expected, kept)));
    }
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

/// Stacks of one site differ where one was cut off, or the kernel came another way.
#[test]
fn a_leak_by_another_way_to_the_same_site_is_as_old_as_all_that_was_made_since() {
    let mut stream = Stream::new();
    stream.loop_in(PID, 60);
    let mut open = Vec::new();
    for other in 0..6 {
        open.push(stream.make(PID, 8 + other % 2, OPENAT));
        stream.loop_in(PID, 20);
    }
    stream.loop_in(PID, 200);
    stream.exit(PID, &open, 0);
    stream.all_of_one_site();
    assert_eq!(stream.only(), Some((Class::Leak, 6)));
}

#[test]
fn a_cache_is_steady_by_however_many_ways_it_is_filled() {
    let mut stream = Stream::new();
    let mut cache = std::collections::VecDeque::new();
    for turn in 0..2000 {
        if cache.len() == 100
            && let Some(oldest) = cache.pop_front()
        {
            stream.close(oldest, Cause::Close);
        }
        cache.push_back(stream.make(PID, 7 + turn % 40, OPENAT));
    }
    let open: Vec<_> = cache.into_iter().collect();
    stream.exit(PID, &open, 0);
    stream.all_of_one_site();
    assert_eq!(stream.only(), Some((Class::Steady, 100)));
}

#[test]
fn a_program_that_is_killed_is_evaluated_by_growth() {
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
fn two_sites_are_evaluated_apart() {
    let mut stream = Stream::new();
    let mut open: Vec<_> = (0..3).map(|_| stream.make(PID, 7, OPENAT)).collect();
    open.push(stream.make(PID, 8, OPENAT));
    stream.exit(PID, &open, 0);
    let evaluated: Vec<_> = stream.evaluated().iter().map(|site| (site.class, site.leaked)).collect();
    assert_eq!(evaluated, [(Class::Leak, 3), (Class::Allowed, 1)]);
}

#[test]
fn what_nobody_allocated_is_counted_as_unknown() {
    let mut stream = Stream::new();
    stream.open_at(PID, (8, 2000), 3, Moment::Exit);
    stream.open_at(PID, (16, 1), 4, Moment::Exit);
    stream.exit(PID, &[], 0);
    assert_eq!(stream.evaluator.unknown(), 1, "one is pre-existing");
}

#[test]
fn a_table_that_two_processes_have_ends_with_the_last_of_them() {
    for (closed, expected) in [(12, None), (0, Some((Class::Leak, 12)))] {
        for maker in [PID, 200] {
            let mut stream = Stream::new();
            stream.clone(PID, 200, true);
            let open: Vec<_> = (0..12).map(|_| stream.make(maker, 7, OPENAT)).collect();
            let last = PID + 200 - maker;
            stream.exit(maker, &[], 0);
            open.iter().take(closed).for_each(|handle| stream.close(*handle, Cause::OtherProcess));
            stream.exit(last, &open[closed..], 0);
            assert_eq!(stream.only(), expected, "made by {maker}");
        }
    }
}

#[test]
fn an_exec_closes_a_copy_of_a_shared_table() {
    let mut stream = Stream::new();
    stream.clone(PID, 200, true);
    let open: Vec<_> = (0..12).map(|_| stream.make(200, 7, OPENAT)).collect();
    (3..).zip(&open).for_each(|(fd, handle)| stream.open_at(200, *handle, fd, Moment::Exec));
    stream.exec(200);
    stream.exit(200, &[], 0);
    open.iter().for_each(|handle| stream.close(*handle, Cause::OtherProcess));
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), None);
}

/// The child has nothing of its own, and is what decides.
#[test]
fn a_fork_of_what_was_replaced_keeps_in_its_place() {
    let mut stream = Stream::new();
    let open: Vec<_> = (0..5).map(|_| stream.make(PID, 7, OPENAT)).collect();
    stream.fork(PID, 200);
    stream.exec(PID);
    stream.exit(200, &open, 0);
    stream.exit(PID, &[], 0);
    assert_eq!(stream.only(), Some((Class::Leak, 5)));
}

#[test]
fn what_a_thread_has_in_a_table_of_its_own_is_kept_when_it_ends() {
    const THREAD: u32 = 101;
    for (maker, cause, expected) in [
        (THREAD, Cause::Exit, Some((Class::Leak, 12))),
        // Copies of what its process had, which has closed its own.
        (PID, Cause::Exit, None),
        // And which closes its own afterwards.
        (PID, Cause::Close, None),
    ] {
        let mut stream = Stream::new();
        let open: Vec<_> = (0..12).map(|_| stream.make_by(PID, maker, 7, OPENAT)).collect();
        for (fd, handle) in (3..).zip(&open) {
            stream.open_in(PID, *handle, fd, Moment::Exit, Some(THREAD));
        }
        open.iter().for_each(|handle| stream.close(*handle, cause));
        stream.exit(PID, &[], 0);
        assert_eq!(stream.only(), expected, "{maker} {cause:?}");
    }
}

#[test]
fn a_copy_in_a_threads_table_says_nothing_of_what_lives_on() {
    let mut stream = Stream::new();
    let open: Vec<_> = (0..12).map(|_| stream.make_by(PID, 101, 7, OPENAT)).collect();
    for (fd, handle) in (3..).zip(&open) {
        stream.open_in(PID, *handle, fd, Moment::Exit, Some(101));
    }
    assert_eq!(stream.only(), None);
}

#[test]
fn what_a_thread_had_in_hand_when_it_was_cut_off_is_no_leak() {
    for threads in [1, 20] {
        let mut stream = Stream::new();
        (0..threads).for_each(|tid| stream.loop_in(300 + tid, 20));
        let open: Vec<_> = (0..threads).map(|tid| stream.make_by(PID, 300 + tid, 7, OPENAT)).collect();
        stream.exit_all(300..300 + threads, &open, None);
        assert_eq!(stream.only(), None, "{threads} threads");
    }
}

/// The same with threads that ended themselves.
#[test]
fn what_a_thread_forgot_before_it_ended_is_a_leak() {
    let mut stream = Stream::new();
    (300..320).for_each(|tid| stream.loop_in(tid, 20));
    let open: Vec<_> = (300..320).map(|tid| stream.make_by(PID, tid, 7, OPENAT)).collect();
    stream.exit(PID, &open, 0);
    assert_eq!(stream.only(), Some((Class::Leak, 20)));
}

#[test]
fn what_was_forgotten_on_the_way_is_a_leak_although_the_thread_was_cut_off() {
    let mut stream = Stream::new();
    let mut open = Vec::new();
    for tid in 300..320 {
        for _ in 0..3 {
            open.push(stream.make_by(PID, tid, 7, OPENAT));
            stream.loop_in(tid, 20);
        }
        open.push(stream.make_by(PID, tid, 7, OPENAT));
    }
    stream.exit_all(300..320, &open, None);
    assert_eq!(stream.only(), Some((Class::Leak, 60)), "the last of each is in flight");
}

/// It forgot its last one and waits for more to do.
#[test]
fn whoever_waits_has_nothing_in_hand_for_longer_than_usual() {
    // As many were open at once before: a pool, as far as anybody can tell.
    for (pause, expected) in [(0, None), (1_000_000, Some((Class::Steady, 20)))] {
        let mut stream = Stream::new();
        let threads: Vec<u32> = (300..320).collect();
        let mut open = Vec::new();
        for _ in 0..20 {
            let made: Vec<_> = threads.iter().map(|tid| stream.make_by(PID, *tid, 7, OPENAT)).collect();
            made.into_iter().for_each(|handle| stream.close(handle, Cause::Close));
        }
        open.extend(threads.iter().map(|tid| stream.make_by(PID, *tid, 7, OPENAT)));
        stream.time += pause;
        stream.exit_all(300..320, &open, Some(libc::SYS_futex));
        assert_eq!(stream.only(), expected, "{pause} ns");
    }
}

#[test]
fn a_site_that_closes_nothing_has_nothing_in_flight() {
    let mut stream = Stream::new();
    let open: Vec<_> = (300..320).map(|tid| stream.make_by(PID, tid, 7, OPENAT)).collect();
    stream.exit_all(300..320, &open, None);
    assert_eq!(stream.only(), Some((Class::Leak, 20)));
}

/// An accept that fails has made a socket before: nobody had that.
#[test]
fn what_nobody_ever_had_was_not_made() {
    let mut stream = Stream::new();
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(stream.make(PID, 7, libc::SYS_accept4));
        let failed = stream.make(PID, 7, libc::SYS_accept4);
        stream.release(failed, Cause::Close, true);
    }
    stream.exit(PID, &open, 0);
    let evaluated = stream.evaluated();
    assert_eq!(stream.only(), Some((Class::Leak, 10)));
    assert_eq!((evaluated[0].images[0].allocated, evaluated[0].images[0].released), (10, 0));
}
