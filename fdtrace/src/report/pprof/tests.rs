//! The profile is read back by a reader of the wire format that knows nothing of the writer's messages.

use std::{collections::BTreeMap, io::Read as _};

use super::*;
use crate::model::{Example, Kind, UserFrame, fixture::*};

/// A field of a message, as the wire has it.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A message: its fields by number.
#[derive(Clone, Debug, Default)]
struct Wire(BTreeMap<u64, Vec<Field>>);

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than ten bytes");
}

impl Wire {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields: BTreeMap<u64, Vec<Field>> = BTreeMap::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let field = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).expect("a length");
                    let (field, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Bytes(field.to_vec())
                }
                other => panic!("wire type {other} is not in this format"),
            };
            fields.entry(tag >> 3).or_default().push(field);
        }
        Self(fields)
    }

    fn fields(&self, number: u64) -> &[Field] {
        self.0.get(&number).map_or(&[], Vec::as_slice)
    }

    fn number(&self, number: u64) -> u64 {
        match self.fields(number) {
            [] => 0,
            [Field::Number(value)] => *value,
            other => panic!("field {number} is {other:?}"),
        }
    }

    /// Numbers, packed or not.
    fn numbers(&self, number: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        for field in self.fields(number) {
            match field {
                Field::Number(value) => numbers.push(*value),
                Field::Bytes(packed) => {
                    let mut rest = packed.as_slice();
                    while !rest.is_empty() {
                        numbers.push(varint(&mut rest));
                    }
                }
            }
        }
        numbers
    }

    fn bytes<'a>(&'a self, number: u64) -> Vec<&'a [u8]> {
        let bytes = |field: &'a Field| match field {
            Field::Bytes(bytes) => bytes.as_slice(),
            other => panic!("field {number} is {other:?}"),
        };
        self.fields(number).iter().map(bytes).collect()
    }

    fn messages(&self, number: u64) -> Vec<Self> {
        self.bytes(number).into_iter().map(Self::read).collect()
    }

    /// The message with this id.
    fn by_id(&self, number: u64, id: u64) -> Self {
        let mut found = self.messages(number).into_iter().filter(|message| message.number(1) == id);
        let message = found.next().expect("every id that is used is there");
        assert!(found.next().is_none(), "an id is there once");
        message
    }
}

/// A profile, by the numbers of the published description.
struct Read {
    profile: Wire,
    strings: Vec<String>,
}

impl Read {
    fn of(document: &Document) -> Self {
        let mut packed = Vec::new();
        write(&mut packed, document).expect("a vector takes everything");
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).expect("it is gzip");
        let profile = Wire::read(&bytes);
        let strings = profile.bytes(6).into_iter();
        let strings = strings.map(|text| String::from_utf8(text.to_vec()).expect("it is UTF-8")).collect();
        Self { profile, strings }
    }

    fn text(&self, index: u64) -> &str {
        &self.strings[usize::try_from(index).expect("an index")]
    }

    fn samples(&self) -> Vec<Wire> {
        self.profile.messages(2)
    }

    /// `mapping:address function file:line, function file:line`, innermost first.
    fn stack(&self, sample: &Wire) -> Vec<String> {
        sample.numbers(1).into_iter().map(|id| self.location(id)).collect()
    }

    fn location(&self, id: u64) -> String {
        let location = self.profile.by_id(4, id);
        let mapping = match location.number(2) {
            0 => String::new(),
            id => self.text(self.profile.by_id(3, id).number(5)).to_owned(),
        };
        let lines: Vec<String> = location.messages(4).iter().map(|line| self.line(line)).collect();
        format!("{mapping}:{:#x} {}", location.number(3), lines.join(", ")).trim_end().to_owned()
    }

    fn line(&self, line: &Wire) -> String {
        let function = self.profile.by_id(5, line.number(1));
        let text = |field| self.text(function.number(field));
        assert_eq!(text(2), text(3));
        match text(4) {
            "" => text(2).to_owned(),
            file => format!("{} {file}:{}", text(2), line.number(2)),
        }
    }

    fn labels(&self, sample: &Wire) -> Vec<String> {
        let label = |label: &Wire| match label.number(2) {
            0 => format!("{}={}", self.text(label.number(1)), label.number(3)),
            text => format!("{}={}", self.text(label.number(1)), self.text(text)),
        };
        sample.messages(3).iter().map(label).collect()
    }
}

#[test]
fn the_whole_of_it() {
    let read = Read::of(&document(vec![site("a", 3)]));
    let pair = |wire: &Wire| format!("{}/{}", read.text(wire.number(1)), read.text(wire.number(2)));
    let types: Vec<String> = read.profile.messages(1).iter().map(pair).collect();
    assert_eq!(types, ["live/count", "allocated/count", "age/nanoseconds"]);
    assert_eq!(read.text(0), "");
    assert_eq!(read.text(read.profile.number(14)), "live");
    assert_eq!(read.profile.number(9), 1_714_979_289_000_000_000);
    assert_eq!(read.profile.number(10), 12_000_000_000);
    let comments: Vec<&str> = read.profile.numbers(13).into_iter().map(|index| read.text(index)).collect();
    assert_eq!(comments, ["open file handles, kprobe backend, Linux 6.1.0"]);
}

#[test]
fn a_sample() {
    let read = Read::of(&document(vec![site("a", 3)]));
    let samples = read.samples();
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].numbers(2), [3, 8, 9_000_000_000]);
    assert_eq!(
        read.stack(&samples[0]),
        [
            "[kernel.kallsyms]:0x0 alloc_empty_file",
            "[kernel.kallsyms]:0x0 path_openat",
            "/usr/lib/libc.so.6:0x100 open64",
            "/opt/app:0x200 leak",
            "/opt/app:0x300 main",
        ]
    );
    assert_eq!(read.labels(&samples[0]), ["origin=open", "kind=regular", "pid=7", "comm=app"]);
}

#[test]
fn mappings() {
    let mut big = site("a", 1);
    big.user_stack[1].offset = 0x1fff;
    let read = Read::of(&document(vec![site("b", 1), big]));
    let row = |mapping: &Wire| {
        let (file, build_id) = (read.text(mapping.number(5)), read.text(mapping.number(6)));
        (mapping.number(1), file.to_owned(), build_id.to_owned(), mapping.number(3), mapping.number(7))
    };
    let expected =
        |id, file: &str, build_id: &str, limit| (id, file.to_owned(), build_id.to_owned(), limit, 1);
    let rows: Vec<_> = read.profile.messages(3).iter().map(row).collect();
    assert_eq!(
        rows,
        [
            expected(1, "/opt/app", "b1d08", 0x2000),
            expected(2, "[kernel.kallsyms]", "", 0),
            expected(3, "/usr/lib/libc.so.6", "b1d12", 0x1000),
        ]
    );
}

#[test]
fn inlined_functions_share_a_location() {
    let source = |symbol, inlined, line| UserFrame {
        file: Some("src/app.c".to_owned()),
        line: Some(line),
        inlined,
        ..frame(symbol, "/opt/app", 0x200)
    };
    let user_stack = vec![source("inner", true, 3), source("middle", true, 5), source("outer", false, 8)];
    let mut site = Site { kernel_stack: Vec::new(), user_stack, ..site("a", 1) };
    site.user_stack.push(frame("main", "/opt/app", 0x300));
    let read = Read::of(&document(vec![site]));
    assert_eq!(
        read.stack(&read.samples()[0]),
        ["/opt/app:0x200 inner src/app.c:3, middle src/app.c:5, outer src/app.c:8", "/opt/app:0x300 main"]
    );
    let mapping = &read.profile.messages(3)[0];
    assert_eq!([7, 8, 9, 10].map(|field| mapping.number(field)), [1, 1, 1, 1]);
}

#[test]
fn scripts_are_functions_with_lines_in_no_mapping() {
    let user_stack = vec![
        frame("open64", "/usr/lib/libc.so.6", 0x100),
        frame("_io_open", "/usr/bin/python3.11", 0x200),
        script("load", "/srv/app/\x1b.py", 12),
        script("main", "/srv/app/db.py", 30),
    ];
    let site = Site { kernel_stack: Vec::new(), user_stack, ..site("a", 1) };
    let read = Read::of(&document(vec![site]));
    assert_eq!(
        read.stack(&read.samples()[0]),
        [
            "/usr/lib/libc.so.6:0x100 open64",
            ":0x0 load /srv/app/\\u{1b}.py:12",
            ":0x0 main /srv/app/db.py:30"
        ]
    );
}

#[test]
fn frames_without_a_name_or_a_file() {
    let stripped = UserFrame { symbol: None, ..frame("", "/opt/app", 0x2a) };
    let lost = UserFrame { symbol: None, module: None, build_id: None, ..frame("", "", u64::MAX) };
    let site = Site { kernel_stack: Vec::new(), user_stack: vec![stripped, lost], ..site("a", 1) };
    let read = Read::of(&document(vec![site]));
    assert_eq!(read.stack(&read.samples()[0]), ["/opt/app:0x2a", ":0xffffffffffffffff"]);
    assert_eq!(read.profile.messages(3)[0].number(7), 0, "pprof may look for names itself");
}

#[test]
fn one_sample_for_each_process() {
    let mut shared = site("a", 5);
    shared.processes = vec![process(7, "app", 3), process(8, "", 2)];
    shared.examples = vec![Example {
        name: String::new(),
        kind: Kind::Regular,
        pid: 8,
        fd: None,
        hidden: false,
        age_ns: 9_000_000_000,
    }];
    let read = Read::of(&document(vec![shared]));
    let samples = read.samples();
    let values: Vec<_> = samples.iter().map(|sample| sample.numbers(2)).collect();
    assert_eq!(values, [vec![3, 0, 0], vec![2, 0, 9_000_000_000], vec![0, 10, 0]]);
    assert_eq!(samples[0].numbers(1), samples[2].numbers(1));
    assert_eq!(read.labels(&samples[1]), ["origin=open", "kind=regular", "pid=8"]);
    assert_eq!(read.labels(&samples[2]), ["origin=open", "kind=regular"]);
}

#[test]
fn nothing_at_all() {
    let mut nothing = document(Vec::new());
    nothing.trace.start = "no date".to_owned();
    nothing.trace.duration_ns = u64::MAX;
    nothing.trace.complete = false;
    nothing.trace.incomplete = vec!["records could not be read".to_owned()];
    let read = Read::of(&nothing);
    assert!(read.samples().is_empty());
    assert_eq!(read.profile.number(9), 0);
    assert_eq!(i64::try_from(read.profile.number(10)), Ok(i64::MAX));
    assert_eq!(read.text(read.profile.numbers(13)[1]), "NOT COMPLETE: records could not be read");
}

#[test]
fn hostile_names_do_no_harm() {
    let mut hostile = Site { kernel_stack: kernel(&["k\x07"]), ..site("a", 2) };
    hostile.processes[0].comm = "x\r\x1b]0;".to_owned();
    hostile.user_stack[1].symbol = Some("f\0\n".to_owned());
    hostile.user_stack[1].module = Some("/opt/\u{202e}x".to_owned());
    hostile.user_stack[2].file = Some("/src/\x1b[2J.c".to_owned());
    let read = Read::of(&document(vec![hostile]));
    assert!(!read.strings.iter().any(|text| text.contains(|c: char| c.is_control() || c == '\u{202e}')));
    assert!(read.stack(&read.samples()[0]).contains(&"/opt/\\u{202e}x:0x200 f\\u{0}\\n".to_owned()));
}
