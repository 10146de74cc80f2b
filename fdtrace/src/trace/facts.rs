//! What is found out beside the stream: the half that writes and the half that reads.

use std::sync::Arc;

use super::{
    bytes::{Bytes, Damage, put, put_bytes, put_from},
    decode::Tables,
    encode::{Out, put_address, put_handle, put_process},
    format::{Bases, MAX_ENTRIES, MAX_FRAMES, MAX_SPOKEN, MAX_STRINGS, MAX_TEXT, record},
    tables::{Groups, Handles, Numbers},
};
use crate::{
    model::{Identity, KernelFrame, Kind, Origin, Runtime, UserFrame},
    stream::{Call, Described, Existing, Fact, FdLookup, ImageKey, Site, UserStack},
};

/// Bits of a description's flags.
const NAMED: u8 = 1;
const HELD: u8 = 2;
const SOUGHT: u8 = 4;
/// Bits of a frame's flags.
const INLINED: u8 = 1;
const PERF_MAP: u8 = 2;
/// Bits of a site's flags.
const COMPLETE: u8 = 1;

/// A frame of a process in numbers; texts that are not there are 0, others one more than their number.
#[derive(Default, PartialEq, Eq, Hash)]
struct FrameKey {
    texts: [u64; 4],
    offset: u64,
    line: u64,
    flags: u8,
    runtime: Option<Runtime>,
    column: u64,
}

/// Texts, frames and sites that the reader knows already.
#[derive(Default)]
pub(super) struct Words {
    strings: Numbers<Box<str>>,
    user: Numbers<FrameKey>,
    kernel: Numbers<(u32, u64)>,
    sites: Numbers<u64>,
    text: usize,
}

impl Words {
    pub(super) fn clear(&mut self) {
        self.strings.clear();
        self.user.clear();
        self.kernel.clear();
        self.sites.clear();
        self.text = 0;
    }

    /// Entries of the largest table.
    pub(super) fn entries(&self) -> usize {
        self.strings.len().max(self.user.len()).max(self.kernel.len()).max(self.sites.len())
    }

    /// Bytes of all texts.
    pub(super) const fn text(&self) -> usize {
        self.text
    }

    pub(super) fn fact(&mut self, fact: &Fact, out: &mut Out, groups: &mut Groups, handles: &Handles) {
        match fact {
            Fact::Identity(image, identity) => self.identity(*image, identity, out),
            Fact::Site(site) => self.whole_site(site, out),
            Fact::Belongs { image, call, site } => self.belongs(*image, call, *site, out, groups),
            Fact::Described(described) => put_described(described, out, handles),
            Fact::Existing(existing) => put_existing(existing, out),
        }
    }

    fn identity(&mut self, image: ImageKey, identity: &Identity, out: &mut Out) {
        let texts = [&identity.comm, &identity.exe, &identity.cgroup].map(|text| self.string(text, out));
        out.record(record::IDENTITY, |bytes, bases| {
            put_image(bytes, bases, image);
            texts.iter().for_each(|text| put(bytes, (*text).into()));
        });
    }

    fn belongs(&mut self, image: ImageKey, call: &Call, site: u64, out: &mut Out, groups: &mut Groups) {
        let call = groups.call(call, out);
        let site = self.site(site, out);
        out.record(record::BELONGS, |bytes, bases| {
            put_image(bytes, bases, image);
            put(bytes, call.into());
            put(bytes, site.into());
        });
    }

    fn whole_site(&mut self, site: &Site, out: &mut Out) {
        let id = self.site(site.id, out);
        let origin = Origin::ALL.iter().position(|origin| *origin == site.origin).unwrap_or(0);
        let kernel: Vec<u32> = site.kernel.iter().take(MAX_FRAMES).map(|at| self.kernel(at, out)).collect();
        let user: Vec<u32> = site.user.frames.iter().take(MAX_FRAMES).map(|at| self.user(at, out)).collect();
        out.record(record::SITE, |bytes, _| {
            put(bytes, id.into());
            put(bytes, origin as u64);
            // A stack that is cut here does not end where a thread begins.
            let complete = site.user.complete && site.user.frames.len() <= MAX_FRAMES;
            bytes.push(if complete { COMPLETE } else { 0 });
            for frames in [kernel, user] {
                put(bytes, frames.len() as u64);
                frames.iter().for_each(|frame| put(bytes, (*frame).into()));
            }
        });
    }

    /// The number of a site's id.
    pub(super) fn site(&mut self, id: u64, out: &mut Out) -> u32 {
        self.sites.get(&id).unwrap_or_else(|| {
            out.record(record::SITE_ID, |bytes, _| bytes.extend(id.to_le_bytes()));
            self.sites.add(id)
        })
    }

    fn string(&mut self, text: &str, out: &mut Out) -> u32 {
        let text = &text[..text.floor_char_boundary(MAX_TEXT)];
        self.strings.get(text).unwrap_or_else(|| {
            out.record(record::STRING, |bytes, _| bytes.extend_from_slice(text.as_bytes()));
            self.text += text.len();
            self.strings.add(text.into())
        })
    }

    /// 0 for none.
    fn maybe(&mut self, text: Option<&String>, out: &mut Out) -> u64 {
        text.map_or(0, |text| u64::from(self.string(text, out)) + 1)
    }

    fn kernel(&mut self, frame: &KernelFrame, out: &mut Out) -> u32 {
        let key = (self.string(&frame.symbol, out), frame.offset);
        self.kernel.get(&key).unwrap_or_else(|| {
            out.record(record::KERNEL_FRAME, |bytes, _| {
                put(bytes, key.0.into());
                put(bytes, key.1);
            });
            self.kernel.add(key)
        })
    }

    fn user(&mut self, frame: &UserFrame, out: &mut Out) -> u32 {
        let texts = [&frame.symbol, &frame.module, &frame.build_id, &frame.file]
            .map(|text| self.maybe(text.as_ref(), out));
        let key = FrameKey {
            texts,
            offset: frame.offset,
            line: frame.line.map_or(0, |line| u64::from(line) + 1),
            flags: if frame.inlined { INLINED } else { 0 } | if frame.perf_map { PERF_MAP } else { 0 },
            runtime: frame.runtime,
            column: frame.column.map_or(0, |column| u64::from(column) + 1),
        };
        self.user.get(&key).unwrap_or_else(|| {
            out.record(record::USER_FRAME, |bytes, _| {
                bytes.push(key.flags);
                key.texts.iter().for_each(|text| put(bytes, *text));
                put(bytes, key.offset);
                put(bytes, key.line);
                // Native frames end here, as in files of earlier builds.
                if let Some(runtime) = key.runtime {
                    bytes.push(runtime_number(runtime));
                    put(bytes, key.column);
                }
            });
            self.user.add(key)
        })
    }
}

/// A runtime's number in a file; 0 is none.
const fn runtime_number(runtime: Runtime) -> u8 {
    match runtime {
        Runtime::Cpython => 1,
        Runtime::Php => 2,
        Runtime::Perl => 4,
        Runtime::Ruby => 3,
        Runtime::V8 => 5,
        Runtime::Hotspot => 6,
    }
}

fn put_image(bytes: &mut Vec<u8>, bases: &mut Bases, image: ImageKey) {
    put_process(bytes, bases, image.tgid);
    put_from(bytes, bases.since, image.since);
    bases.since = image.since;
}

fn put_described(described: &Described, out: &mut Out, handles: &Handles) {
    out.record(record::DESCRIBED, |bytes, bases| {
        put_handle(bytes, bases, handles, described.handle, described.generation);
        bytes.push(described.kind as u8);
        let named = if described.name.is_some() { NAMED } else { 0 };
        let fd_lookup = match described.descriptor {
            FdLookup::NotYet => 0,
            FdLookup::Nothing => SOUGHT,
            FdLookup::Found(..) => SOUGHT | HELD,
        };
        bytes.push(named | fd_lookup);
        if let Some(name) = &described.name {
            put_bytes(bytes, &name.as_bytes()[..name.floor_char_boundary(MAX_TEXT)]);
        }
        if let FdLookup::Found(tgid, fd) = described.descriptor {
            put_process(bytes, bases, tgid);
            put(bytes, fd.into());
        }
    });
}

fn put_existing(existing: &Existing, out: &mut Out) {
    out.record(record::EXISTING, |bytes, bases| {
        put_address(bytes, bases, existing.handle);
        put_process(bytes, bases, existing.tgid);
        put(bytes, existing.fd.map_or(0, |fd| u64::from(fd) + 1));
    });
}

/// Texts, frames and sites that records have defined.
#[derive(Default)]
pub(super) struct Dictionary {
    strings: Vec<Box<str>>,
    user: Vec<Arc<UserFrame>>,
    kernel: Vec<KernelFrame>,
    sites: Vec<u64>,
    /// Bytes in the tables.
    text: usize,
    /// Bytes of text that facts were made of, since the beginning of the block.
    pub(super) spoken: usize,
}

impl Dictionary {
    pub(super) fn clear(&mut self) {
        self.strings.clear();
        self.user.clear();
        self.kernel.clear();
        self.sites.clear();
        self.text = 0;
    }

    pub(super) const fn weight(&self) -> usize {
        self.text
    }

    pub(super) fn define_string(&mut self, bytes: Bytes<'_>) -> Result<(), Damage> {
        let text = std::str::from_utf8(bytes.0).map_err(|_| Damage::Text)?;
        if text.len() > MAX_TEXT {
            return Err(Damage::TooLong);
        }
        self.keep(text.len() + size_of::<Box<str>>())?;
        self.strings.push(text.into());
        Ok(())
    }

    pub(super) fn define_site(&mut self, mut bytes: Bytes<'_>) -> Result<(), Damage> {
        let id = bytes.word()?;
        self.keep(size_of::<u64>())?;
        self.sites.push(id);
        Ok(())
    }

    pub(super) fn define_kernel_frame(&mut self, mut bytes: Bytes<'_>) -> Result<(), Damage> {
        let symbol = self.string(&mut bytes)?;
        let frame = KernelFrame { symbol, offset: bytes.number()? };
        self.keep(size_of::<KernelFrame>() + frame.symbol.len())?;
        self.kernel.push(frame);
        Ok(())
    }

    pub(super) fn define_user_frame(&mut self, mut bytes: Bytes<'_>) -> Result<(), Damage> {
        let flags = bytes.byte()?;
        let (inlined, perf_map) = (flags & INLINED != 0, flags & PERF_MAP != 0);
        let symbol = self.maybe(&mut bytes)?;
        let module = self.maybe(&mut bytes)?;
        let build_id = self.maybe(&mut bytes)?;
        let file = self.maybe(&mut bytes)?;
        let offset = bytes.number()?;
        let line = maybe_short(&mut bytes)?;
        let runtime = bytes.byte().ok().and_then(runtime_of);
        // Earlier builds wrote none.
        let column = maybe_short(&mut bytes).unwrap_or_default();
        let frame =
            UserFrame { runtime, symbol, module, build_id, offset, file, line, column, inlined, perf_map };
        self.keep(frame.weight())?;
        self.user.push(Arc::new(frame));
        Ok(())
    }

    /// Accounts for memory of a table.
    fn keep(&mut self, bytes: usize) -> Result<(), Damage> {
        self.text += bytes;
        let tables = [self.strings.len(), self.user.len(), self.kernel.len(), self.sites.len()];
        if self.text > 4 * MAX_STRINGS || tables.into_iter().any(|entries| entries >= MAX_ENTRIES) {
            return Err(Damage::TooMany("texts"));
        }
        Ok(())
    }

    /// Accounts for memory of a fact. Few bytes can name much text, over and over.
    fn speak(&mut self, bytes: usize) -> Result<(), Damage> {
        self.spoken += bytes;
        if self.spoken > MAX_SPOKEN { Err(Damage::TooMany("texts")) } else { Ok(()) }
    }

    fn string(&mut self, bytes: &mut Bytes<'_>) -> Result<String, Damage> {
        let number = bytes.count()?;
        let text = self.strings.get(number).ok_or(Damage::Undefined("text"))?;
        let text = String::from(&**text);
        self.speak(text.len())?;
        Ok(text)
    }

    fn maybe(&mut self, bytes: &mut Bytes<'_>) -> Result<Option<String>, Damage> {
        let Some(number) = bytes.count()?.checked_sub(1) else { return Ok(None) };
        let text = self.strings.get(number).ok_or(Damage::Undefined("text"))?;
        let text = String::from(&**text);
        self.speak(text.len())?;
        Ok(Some(text))
    }

    pub(super) fn site_id(&self, number: usize) -> Result<u64, Damage> {
        self.sites.get(number).copied().ok_or(Damage::Undefined("site"))
    }

    pub(super) fn identity(&mut self, mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Fact, Damage> {
        let image = image(&mut bytes, bases)?;
        let comm = self.string(&mut bytes)?;
        let exe = self.string(&mut bytes)?;
        let cgroup = self.string(&mut bytes)?;
        Ok(Fact::Identity(image, Arc::new(Identity { comm, exe, cgroup })))
    }

    pub(super) fn user_frame(&self, number: usize) -> Result<&Arc<UserFrame>, Damage> {
        self.user.get(number).ok_or(Damage::Undefined("frame"))
    }

    pub(super) fn site(&mut self, mut bytes: Bytes<'_>) -> Result<Fact, Damage> {
        let id = self.site_id(bytes.count()?)?;
        let origin = Origin::ALL.get(bytes.count()?).copied().unwrap_or(Origin::Unknown);
        let complete = bytes.byte()? & COMPLETE != 0;
        let mut kernel = Vec::new();
        for _ in 0..frame_count(&mut bytes)? {
            let frame = self.kernel.get(bytes.count()?).ok_or(Damage::Undefined("frame"))?.clone();
            self.speak(size_of::<KernelFrame>() + frame.symbol.len())?;
            kernel.push(frame);
        }
        let mut frames = Vec::new();
        for _ in 0..frame_count(&mut bytes)? {
            frames.push(Arc::clone(self.user_frame(bytes.count()?)?));
        }
        self.speak(frames.len() * size_of::<Arc<UserFrame>>())?;
        Ok(Fact::Site(Arc::new(Site { id, origin, kernel, user: UserStack { frames, complete } })))
    }

    pub(super) fn described(
        &mut self,
        mut bytes: Bytes<'_>,
        tables: &Tables,
        bases: &mut Bases,
    ) -> Result<Fact, Damage> {
        let (handle, generation) = tables.handle(&mut bytes, bases)?;
        let kind = Kind::from_number(bytes.byte()?);
        let flags = bytes.byte()?;
        let name = (flags & NAMED != 0).then(|| bytes.text()).transpose()?;
        if name.is_some_and(|name| name.len() > MAX_TEXT) {
            return Err(Damage::TooLong);
        }
        self.speak(name.map_or(0, str::len))?;
        let descriptor = match (flags & SOUGHT != 0, flags & HELD != 0) {
            (_, true) => FdLookup::Found(process(&mut bytes, bases)?, bytes.short()?),
            (true, false) => FdLookup::Nothing,
            (false, false) => FdLookup::NotYet,
        };
        Ok(Fact::Described(Described { handle, generation, kind, name: name.map(Arc::from), descriptor }))
    }

    pub(super) fn belongs(
        &self,
        mut bytes: Bytes<'_>,
        tables: &Tables,
        bases: &mut Bases,
    ) -> Result<Fact, Damage> {
        let image = image(&mut bytes, bases)?;
        let call = tables.call(bytes.number()?)?;
        Ok(Fact::Belongs { image, call, site: self.site_id(bytes.count()?)? })
    }
}

pub(super) fn existing(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Fact, Damage> {
    let handle = address(&mut bytes, bases)?;
    let tgid = process(&mut bytes, bases)?;
    Ok(Fact::Existing(Existing { handle, tgid, fd: maybe_short(&mut bytes)? }))
}

pub(super) fn process(bytes: &mut Bytes<'_>, bases: &mut Bases) -> Result<u32, Damage> {
    bases.process = bytes.short_from(bases.process)?;
    Ok(bases.process)
}

pub(super) fn address(bytes: &mut Bytes<'_>, bases: &mut Bases) -> Result<u64, Damage> {
    bases.address = bytes.number_from(bases.address)?;
    Ok(bases.address)
}

fn image(bytes: &mut Bytes<'_>, bases: &mut Bases) -> Result<ImageKey, Damage> {
    let tgid = process(bytes, bases)?;
    bases.since = bytes.number_from(bases.since)?;
    Ok(ImageKey { tgid, since: bases.since })
}

/// The runtime with this number; none for those of later builds.
fn runtime_of(number: u8) -> Option<Runtime> {
    Runtime::ALL.into_iter().find(|runtime| runtime_number(*runtime) == number)
}

fn maybe_short(bytes: &mut Bytes<'_>) -> Result<Option<u32>, Damage> {
    let Some(value) = bytes.number()?.checked_sub(1) else { return Ok(None) };
    u32::try_from(value).map(Some).map_err(|_| Damage::Range)
}

fn frame_count(bytes: &mut Bytes<'_>) -> Result<usize, Damage> {
    let count = bytes.count()?;
    if count > MAX_FRAMES { Err(Damage::Range) } else { Ok(count) }
}
