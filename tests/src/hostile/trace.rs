//! Trace files, byte by byte as docs/trace-format.md has them.

use serde_json::{Value, json};

const COLUMNS: usize = 9;
const TAGS: usize = 0;
const ALLOC_TIMES: usize = 1;
const GROUPS: usize = 3;
const ADDRESSES: usize = 7;
const RECORDS: usize = 8;

/// A block of events in the making. Tables are empty at its start.
#[derive(Default)]
pub struct Block([Vec<u8>; COLUMNS]);

fn num(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A difference that is no less than nothing.
const fn up(difference: u64) -> u64 {
    difference << 1
}

/// Numbers one behind another.
fn nums(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| num(&mut out, *value));
    out
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&nums(&[bytes.len() as u64])[..], bytes].concat()
}

impl Block {
    fn record(&mut self, tag: u8, body: &[u8]) {
        self.0[TAGS].push(tag);
        self.0[RECORDS].extend(with_length(body));
    }

    fn string(&mut self, text: &str) {
        self.record(3, text.as_bytes());
    }

    /// A frame of the string with number 0, in all its parts.
    fn user_frame(&mut self, offset: u64) {
        self.record(4, &[&[0][..], &nums(&[1, 1, 1, 1, offset, 2])].concat());
    }

    fn kernel_frame(&mut self) {
        self.record(5, &nums(&[0, 7]));
    }

    /// A site with as many frames as may be, all of them the frame with number 0.
    fn site(&mut self, number: u64, id: u64, kernel: u64, user: u64) {
        self.record(6, &id.to_le_bytes());
        let mut body = nums(&[number, 1]);
        body.push(1);
        for frames in [kernel, user] {
            num(&mut body, frames);
            body.extend((0..frames).map(|_| 0));
        }
        self.record(26, &body);
    }

    /// A call and a group of a process.
    fn group(&mut self, number: u64) {
        self.record(1, &[&[0][..], &nums(&[0, number])].concat());
        self.record(2, &nums(&[up(1), 0]));
    }

    /// A handle at another address than all others.
    fn handle(&mut self, group: u64, further: u64) {
        self.0[TAGS].push(0x84);
        num(&mut self.0[GROUPS], group);
        num(&mut self.0[ALLOC_TIMES], up(1));
        num(&mut self.0[ADDRESSES], up(further));
    }

    fn raw(&self) -> Vec<u8> {
        let mut raw = nums(&[COLUMNS as u64]);
        self.0.iter().for_each(|column| num(&mut raw, column.len() as u64));
        self.0.iter().for_each(|column| raw.extend(column));
        raw
    }

    fn events(&self) -> u32 {
        u32::try_from(self.0[TAGS].len()).unwrap_or(u32::MAX)
    }
}

/// A block with its frame.
fn framed(kind: u8, flags: u8, raw_length: u32, events: u32, stored: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, flags, 0, 0];
    let length = u32::try_from(stored.len()).unwrap_or(u32::MAX);
    for word in [length, raw_length, events, crc32fast::hash(stored)] {
        frame.extend(word.to_le_bytes());
    }
    frame.extend(crc32fast::hash(&frame).to_le_bytes());
    frame.extend(stored);
    frame
}

fn packed(kind: u8, raw: &[u8], events: u32) -> Vec<u8> {
    let stored = zstd::bulk::compress(raw, 3).unwrap_or_default();
    framed(kind, 1, u32::try_from(raw.len()).unwrap_or(u32::MAX), events, &stored)
}

/// A file that is larger may cost more, so it gets no more blocks.
const LARGE: usize = 200_000;

/// A file with this header and these blocks, as far as it stays small.
#[must_use]
pub fn file(header: &Value, blocks: impl IntoIterator<Item = Block>) -> Vec<u8> {
    let mut out = beginning(header);
    for block in blocks {
        out.extend(packed(2, &block.raw(), block.events()));
        if out.len() > LARGE {
            break;
        }
    }
    out.extend(packed(3, &[0], 0));
    out
}

fn beginning(header: &Value) -> Vec<u8> {
    let mut out = b"\x89FDT\r\n\x1a\n\x01\0\0\0".to_vec();
    out.extend(packed(1, header.to_string().as_bytes(), 0));
    out
}

/// A header that says nothing wrong.
#[must_use]
pub fn header() -> Value {
    json!({"backend": "tracepoint", "kernel": "6.1.0", "start": "2026-01-01T00:00:00Z"})
}

/// The longest text that a file may have.
fn long() -> String {
    "x".repeat(4096)
}

fn sites(index: u64, kernel: u64, user: u64) -> Block {
    let mut block = Block::default();
    block.string(&long());
    block.kernel_frame();
    block.user_frame(1);
    block.group(0);
    for number in 0..30 {
        let id = index * 1000 + number + 1;
        block.site(number, id, kernel, user);
        // That its group belongs there.
        block.record(27, &nums(&[0, 0, 0, number]));
    }
    block.handle(0, (index + 1) << 32);
    block
}

fn handles(index: u64) -> Block {
    let mut block = Block::default();
    block.group(0);
    block.handle(0, (index + 1) << 40);
    (0..800_000).for_each(|_| block.handle(0, 64));
    block
}

/// Processes, each with a handle; of as long a name as may be.
fn processes(index: u64) -> Block {
    let mut block = Block::default();
    block.string(&long());
    block.handle_base(index);
    for number in 0..4000 {
        block.group(0);
        block.handle(number + 1, 64);
        block.record(25, &nums(&[0, 0, 0, 0, 0]));
    }
    block
}

impl Block {
    fn handle_base(&mut self, index: u64) {
        // Processes of other blocks have other numbers.
        self.record(1, &nums(&[0, 0, 0]));
        self.record(2, &nums(&[up(index * 5000 + 5), 0]));
        self.handle(0, (index + 1) << 40);
    }
}

fn descriptions(index: u64) -> Block {
    let mut block = Block::default();
    block.group(0);
    block.handle(0, (index + 1) << 40);
    for number in 0..4000_u64 {
        block.handle(0, 64);
        let mut body = nums(&[number + 2]);
        body.extend([1, 1]);
        body.extend(with_length(long().as_bytes()));
        block.record(28, &body);
    }
    block
}

/// Handles that one process opened and as many sites mapped, whose stacks are long.
fn mappings(index: u64) -> Block {
    let mut block = sites(index, 0, 512);
    for number in 1..2000_u64 {
        block.record(1, &[&[1][..], &nums(&[0, number])].concat());
        block.record(2, &nums(&[up(1), 0]));
        block.record(27, &nums(&[0, 0, number, number % 30]));
        block.handle(0, 64);
        block.record(17, &nums(&[up(1), number + 1, number, 0, up(4096), 4096]));
    }
    block
}

fn execs(index: u64) -> Block {
    let mut block = Block::default();
    let path = vec![b'/'; if index.is_multiple_of(2) { 4096 } else { 1 << 20 }];
    for _ in 0..12 {
        block.record(19, &[&nums(&[up(1), up(1), 0])[..], &with_length(&path)].concat());
        block.record(18, &nums(&[up(1), 0, up(1), 0]));
    }
    block
}

fn looks(index: u64) -> Block {
    let mut block = processes(index);
    (0..100_000).for_each(|_| block.record(30, &nums(&[up(1)])));
    block
}

fn failures(index: u64) -> Block {
    let mut block = Block::default();
    (0..200_000).for_each(|number| block.record(21, &nums(&[up(1), 0, up(index * 200_000 + number)])));
    block
}

fn texts(index: u64) -> Block {
    let mut block = Block::default();
    (0..2000).for_each(|number| block.string(&format!("{index}-{number}-{}", long().split_at(64).1)));
    block
}

fn short_texts(_: u64) -> Block {
    let mut block = Block::default();
    (0..900_000).for_each(|_| block.string(""));
    block
}

fn existing(index: u64) -> Block {
    let mut block = Block::default();
    block.record(29, &nums(&[up((index + 1) << 40), 0, 0]));
    (0..400_000).for_each(|_| block.record(29, &nums(&[up(64), up(1), 0])));
    block
}

fn nowhere(_: u64) -> Block {
    let mut block = Block::default();
    (0..1000).for_each(|_| block.record(29, &nums(&[0, 0, 0])));
    block
}

fn short_lived(index: u64) -> Block {
    let mut block = Block::default();
    for number in 0..40_000_u64 {
        block.record(6, &(index * 40_000 + number).to_le_bytes());
        block.record(24, &nums(&[number + 1, 1, 0]));
    }
    block
}

fn empty_groups(_: u64) -> Block {
    let mut block = Block::default();
    block.record(1, &nums(&[0, 0, 0]));
    (0..900_000).for_each(|_| block.record(2, &nums(&[up(1), 0])));
    block
}

fn frames_of_frames(index: u64) -> Block {
    let mut block = Block::default();
    block.string(&long());
    (0..3000).for_each(|number| block.user_frame(index * 3000 + number));
    block
}

/// Files of a few kilobytes that ask for gigabytes, or for minutes; each with what it is about.
#[must_use]
pub fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let of = |count: u64, block: fn(u64) -> Block| file(&header(), (0..count).map(block));
    vec![
        ("kernel frames of long names", of(80, |index| sites(index, 512, 0))),
        ("user frames of long names", of(80, |index| sites(index, 0, 512))),
        ("handles", of(12, handles)),
        ("processes of long names", of(40, processes)),
        ("handles of long names", of(8, descriptions)),
        ("mappings by long stacks", of(12, mappings)),
        ("paths that forks copy", of(12, execs)),
        ("looks at many groups", of(6, looks)),
        ("errors of all numbers", of(2, failures)),
        ("texts that nobody names", of(12, texts)),
        ("texts without a letter", of(6, short_texts)),
        ("handles that were there before", of(6, existing)),
        ("a handle at no address", of(1, nowhere)),
        ("sites without a stack", of(6, short_lived)),
        ("groups without a handle", of(6, empty_groups)),
        ("frames that no site has", of(20, frames_of_frames)),
        ("a block that unpacks to less than it says", claims(16 << 20, &[0; 64])),
        ("a block that unpacks to more than it says", claims(64, &[0; 1 << 20])),
        ("columns beyond all bytes", columns()),
        ("a header of a hundred thousand remarks", file(&remarks(), [])),
        ("a header of arrays in arrays", nested()),
    ]
}

fn claims(says: u32, has: &[u8]) -> Vec<u8> {
    let stored = zstd::bulk::compress(has, 3).unwrap_or_default();
    let block = framed(2, 1, says, u32::MAX, &stored);
    [beginning(&header()), block.repeat(200)].concat()
}

fn columns() -> Vec<u8> {
    let raw = nums(&[9, u64::MAX, u64::MAX, 1 << 40, 1, 1, 1, 1, 1, 1]);
    [beginning(&header()), packed(2, &raw, u32::MAX)].concat()
}

fn remarks() -> Value {
    let mut header = header();
    header["remarks"] = vec![""; 100_000].into();
    header
}

fn nested() -> Vec<u8> {
    let mut out = b"\x89FDT\r\n\x1a\n\x01\0\0\0".to_vec();
    let json = format!("{{\"hooks\":{}", "[".repeat(500_000));
    out.extend(packed(1, json.as_bytes(), 0));
    out
}

/// A trace in which everything that has a name has this one.
#[must_use]
pub fn named(name: &str) -> Vec<u8> {
    let header = json!({
        "fdtrace": name, "kernel": name, "machine": name, "host": name, "backend": name,
        "boot_id": name, "hooks": [{"role": name, "state": name, "target": name, "lost": name}],
        "remarks": [name], "offsets": {name: 1}, "start": name, "filters": [name], "command": [name],
    });
    let mut block = Block::default();
    block.string(name);
    block.kernel_frame();
    block.user_frame(1);
    block.group(0);
    block.site(0, 7, 2, 3);
    block.record(27, &nums(&[up(0), 0, 0, 0]));
    block.record(25, &nums(&[0, 0, 0, 0, 0]));
    for number in 0..20 {
        block.handle(0, 64);
        let mut body = nums(&[number + 1]);
        body.extend([1, 1]);
        body.extend(with_length(name.as_bytes()));
        block.record(28, &body);
    }
    block.record(19, &[&nums(&[up(1), up(9), 0])[..], &with_length(name.as_bytes())].concat());
    file(&header, [block])
}
