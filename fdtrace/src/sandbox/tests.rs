use std::{
    fs::{self, File},
    io::Read as _,
    ptr,
    time::{Duration, Instant},
};

use super::*;

const MEMORY: u64 = 64 << 20;
const SOON: Duration = Duration::from_millis(300);
/// More than any machine needs.
const LONG: Duration = Duration::from_secs(60);

/// A child that follows orders.
fn obey(channel: &mut Channel) {
    while let Some(message) = channel.next() {
        let answer = match &message.bytes[..] {
            b"hang" => loop {
                std::thread::yield_now();
            },
            b"die" => return,
            b"panic" => panic!("as told"),
            b"read" => read(message.files),
            b"open" => yes(File::open("/dev/null").is_ok()),
            b"write" => yes(fs::write("/tmp/fdtrace-sandbox", "x").is_ok()),
            b"run" => yes(std::process::Command::new("/bin/true").status().is_ok()),
            b"code" => yes(maps_code()),
            b"signal" => yes(nix::sys::signal::kill(nix::unistd::Pid::this(), None).is_ok()),
            b"eat" => yes(std::hint::black_box(vec![1u8; 1 << 30])[77] == 1),
            other => other.to_vec(),
        };
        if channel.answer(&answer).is_err() {
            return;
        }
    }
}

fn yes(did: bool) -> Vec<u8> {
    vec![u8::from(did)]
}

fn read(mut files: Vec<File>) -> Vec<u8> {
    let mut bytes = Vec::new();
    files.iter_mut().for_each(|file| drop(file.read_to_end(&mut bytes)));
    bytes
}

fn maps_code() -> bool {
    let (flags, rights) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_EXEC);
    // SAFETY: a new mapping disturbs nothing.
    let map = unsafe { libc::mmap(ptr::null_mut(), 4096, rights, flags, -1, 0) };
    map != libc::MAP_FAILED
}

fn child() -> Child {
    Child::new(Spawner::start(obey, Limits { memory: MEMORY }).expect("a process"))
}

fn ask(child: &mut Child, what: &str) -> Result<Vec<u8>, Unanswered> {
    child.ask(what.as_bytes(), &[], LONG)
}

/// A process that nobody has waited for yet has ended as well.
fn wait_for_end(pid: u32) {
    let runs = || {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(|byte| *byte == b')').next().and_then(|rest| rest.get(1)).copied();
        !stat.is_empty() && state != Some(b'Z')
    };
    while runs() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn it_reads_what_it_is_handed() {
    let file = File::open(std::env::current_exe().expect("this test")).expect("its file");
    let path = std::env::temp_dir().join(format!("fdtrace-handed-{}", std::process::id()));
    fs::write(&path, "handed over").expect("a file");
    let text = File::open(&path).expect("it");
    fs::remove_file(&path).expect("it was there");
    let mut child = child();
    assert_eq!(child.ask(b"read", &[&text], LONG).as_deref(), Ok(&b"handed over"[..]));
    let long = vec![b'x'; 1 << 20];
    assert!(child.ask(&long, &[&file, &text], LONG) == Ok(long.clone()));
}

#[test]
fn it_can_do_nothing_else() {
    let mut child = child();
    for what in ["open", "write", "run", "code", "signal"] {
        assert_eq!(ask(&mut child, what), Ok(yes(false)), "{what}");
    }
    assert_eq!(ask(&mut child, "still there").as_deref(), Ok(&b"still there"[..]));
    assert_eq!(child.generation, 0, "nothing of that ended it");
}

#[test]
fn it_has_no_privileges_and_few_files() {
    let mut child = child();
    ask(&mut child, "here").expect("an answer");
    let pid = child.pid().expect("a process");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("Name:"), ["fdtrace-reader"]);
    assert_eq!(line("NoNewPrivs:"), ["1"]);
    assert_eq!(line("Seccomp:"), ["2"]);
    for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(line(set), ["0000000000000000"], "{set}");
    }
    // Only root can become somebody else, and see what a stranger has open.
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        assert_eq!(line("Uid:"), ["65534"; 4]);
        assert_eq!(line("Groups:"), Vec::<String>::new());
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
        assert_eq!(open.count(), 4, "three that lead nowhere, and its channel");
    }
}

#[test]
fn one_that_is_late_is_replaced() {
    let mut child = child();
    assert_eq!(ask(&mut child, "one").as_deref(), Ok(&b"one"[..]));
    let pid = child.pid().expect("a process");
    let begun = Instant::now();
    assert_eq!(child.ask(b"hang", &[], SOON), Err(Unanswered::Late));
    assert!(begun.elapsed() >= SOON);
    assert_eq!(ask(&mut child, "two").as_deref(), Ok(&b"two"[..]));
    assert_eq!(child.generation, 1);
    wait_for_end(pid);
}

#[test]
fn one_that_dies_is_replaced() {
    let mut child = child();
    for what in ["die", "panic", "eat"] {
        assert_eq!(ask(&mut child, what), Err(Unanswered::Died), "{what}");
        assert_eq!(ask(&mut child, "next").as_deref(), Ok(&b"next"[..]), "after {what}");
    }
}

#[test]
fn it_goes_with_whoever_asks() {
    let mut child = child();
    ask(&mut child, "here").expect("an answer");
    let pid = child.pid().expect("a process");
    drop(child);
    wait_for_end(pid);
}
