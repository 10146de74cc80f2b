//! What a reader does, in a process of its own: it takes questions and files, and gives answers.

use std::{collections::HashMap, fs::File, hash::Hash, os::unix::fs::MetadataExt as _};

use serde::Serialize;

use super::{
    bytes::Bytes,
    code::Code,
    identity, needed,
    object::Object,
    perf_map::PerfMap,
    program,
    request::{Name, PlainRule, Request},
    tables::Tables,
};
use crate::{
    runtimes::{self, Map, Place, Sighting},
    sandbox::Channel,
};

/// The most files of which something is kept; whoever asks is limited before by what memory there is.
const MAX_FILES: usize = 32;
/// The same of unwind tables, which are small: they are mapped, not copied.
const MAX_TABLES: usize = 1024;

/// Answers until nobody asks any more.
pub(super) fn serve(channel: &mut Channel) {
    let mut service = Service::default();
    while let Some(message) = channel.next() {
        let Ok(request) = serde_json::from_slice(&message.bytes) else { return };
        let Some(answer) = service.answer(request, &message.files) else { return };
        if channel.answer(&answer).is_err() {
            return;
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Service {
    codes: Recent<(Key, bool), Option<Code>>,
    maps: Recent<Key, PerfMap>,
    sources: Recent<Key, Option<Map>>,
    tables: HashMap<u64, Option<Tables>>,
}

impl Service {
    /// `None` for what is no question.
    fn answer(&mut self, request: Request, files: &[File]) -> Option<Vec<u8>> {
        match request {
            Request::Identify { sum } => {
                let file = files.first()?;
                encode(&object(file).map(|object| identity::of(&object, sum.then_some(file))))
            }
            Request::Needed => encode(&object(files.first()?).and_then(|object| needed::of(&object))),
            Request::Names { offsets, lines } => encode(&self.names(&offsets, files, lines)),
            Request::PerfMap { addresses } => encode(&self.perf_map(&addresses, files.first()?)),
            Request::Tables { module } => encode(&self.read_tables(module, files.first()?)),
            Request::Runtime { path, start, offset } => {
                let [file, memory] = files else { return None };
                encode(&runtime(file, memory, path, (start, offset)))
            }
            Request::Program { path } => {
                encode(&object(files.first()?).and_then(|object| program::of(object, path)))
            }
            Request::Scripts { interpreter, most } => encode(&interpreter.threads(files.first()?, most)),
            Request::Place { unplaced } => {
                encode(&Bytes::map(files.first()?).ok().and_then(|text| unplaced.place(&text)))
            }
            Request::Source { place, inside } => encode(&self.source(place, inside, files.first()?)),
            Request::Rule { module, offset, exact } => {
                let tables = self.tables.get(&module);
                let rule = |tables: &Option<Tables>| match tables {
                    Some(tables) => tables.rule(offset, exact),
                    None => fdtrace_common::unwind::Rule::UNKNOWN,
                };
                encode(&tables.map(rule).map(PlainRule::from))
            }
        }
    }

    fn names(&mut self, offsets: &[u64], files: &[File], lines: bool) -> Vec<Vec<Name>> {
        let mut keys = Vec::new();
        for file in files {
            let Some(key) = Key::of(file) else { continue };
            self.codes.get((key, lines), || object(file).map(|object| Code::of(object, lines)));
            keys.push((key, lines));
        }
        let codes: Vec<&Code> = keys.iter().filter_map(|key| self.codes.known(*key)?.as_ref()).collect();
        let names = |offset: &u64| {
            let address = codes.first()?.address(*offset)?;
            // The file that was made for it knows more.
            codes.iter().rev().map(|code| code.names(address)).find(|names| !names.is_empty())
        };
        let found = offsets.iter().map(|offset| names(offset).unwrap_or_default()).collect();
        codes.into_iter().for_each(Code::forget_pages);
        found
    }

    fn perf_map(&mut self, addresses: &[u64], file: &File) -> Vec<Option<String>> {
        let Some(key) = Key::of_growing(file) else { return Vec::new() };
        let map = self.maps.get(key, PerfMap::default);
        // What could be read so far is better than nothing.
        let _ = map.update(file);
        addresses.iter().map(|address| map.name(file, *address)).collect()
    }

    fn source(&mut self, place: Place, inside: bool, file: &File) -> Option<(String, Place)> {
        let map = self.sources.get(Key::of(file)?, || {
            let bytes = Bytes::map(file).ok()?;
            if inside { Map::inside(&bytes) } else { Map::parse(&bytes) }
        });
        map.as_ref()?.source(place)
    }

    fn read_tables(&mut self, module: u64, file: &File) -> bool {
        if self.tables.len() >= MAX_TABLES {
            self.tables.clear();
        }
        let tables = object(file).and_then(Tables::of);
        let are_there = tables.is_some();
        self.tables.insert(module, tables);
        are_there
    }
}

/// What a file is which begins at this address with this offset.
fn runtime(file: &File, memory: &File, path: String, (start, offset): (u64, u64)) -> Option<Sighting> {
    let object = object(file)?;
    let bias = start.wrapping_sub(object.page_address(offset)?);
    let mut image = program::image(&object, path);
    image.symbols.values_mut().for_each(|address| *address = address.wrapping_add(bias));
    runtimes::recognise(&image, memory)
}

fn object(file: &File) -> Option<Object> {
    Object::parse(Bytes::map(file).ok()?)
}

fn encode(answer: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(answer).ok()
}

/// A file as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    device: u64,
    inode: u64,
    size: u64,
    written: (i64, i64),
}

impl Key {
    fn of(file: &File) -> Option<Self> {
        let found = file.metadata().ok()?;
        let written = (found.mtime(), found.mtime_nsec());
        Some(Self { device: found.dev(), inode: found.ino(), size: found.size(), written })
    }

    /// The same while it is written to.
    fn of_growing(file: &File) -> Option<Self> {
        Some(Self { size: 0, written: (0, 0), ..Self::of(file)? })
    }
}

/// What was read of the files that were asked for last.
struct Recent<K, T> {
    known: HashMap<K, (u64, T)>,
    /// Counts requests.
    clock: u64,
}

impl<K, T> Default for Recent<K, T> {
    fn default() -> Self {
        Self { known: HashMap::new(), clock: 0 }
    }
}

impl<K: Copy + Eq + Hash, T> Recent<K, T> {
    fn get(&mut self, key: K, read: impl FnOnce() -> T) -> &mut T {
        if !self.known.contains_key(&key) && self.known.len() >= MAX_FILES {
            let oldest = self.known.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
        self.clock += 1;
        let (used, known) = self.known.entry(key).or_insert_with(|| (0, read()));
        *used = self.clock;
        known
    }

    fn known(&self, key: K) -> Option<&T> {
        self.known.get(&key).map(|(_, known)| known)
    }
}
