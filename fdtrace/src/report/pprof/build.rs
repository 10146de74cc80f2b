//! A profile in the making: texts, mappings, functions and locations are kept once each.

use std::collections::HashMap;

use super::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use crate::{
    model::{KernelFrame, UserFrame},
    stacks::telling,
    text::fmt::escape_control,
};

/// The kernel, as profilers call it.
const KERNEL: &str = "[kernel.kallsyms]";

/// A mapping ends where a page ends.
const PAGE: u64 = 4096;

#[derive(Default)]
pub(super) struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    /// By file name and build-id.
    mappings: HashMap<(i64, i64), u64>,
    /// By name and source file.
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<(u64, u64, Vec<Line>), u64>,
}

impl Builder {
    pub(super) fn new() -> Self {
        let mut builder = Self::default();
        builder.string("");
        builder
    }

    pub(super) fn finish(mut self, default_type: &str) -> Profile {
        self.profile.default_sample_type = self.string(default_type);
        self.profile
    }

    pub(super) fn sample_type(&mut self, name: &str, unit: &str) {
        let sample_type = ValueType { r#type: self.string(name), unit: self.string(unit) };
        self.profile.sample_type.push(sample_type);
    }

    pub(super) fn comment(&mut self, text: &str) {
        let text = self.string(text);
        self.profile.comment.push(text);
    }

    pub(super) fn sample(&mut self, sample: Sample) {
        self.profile.sample.push(sample);
    }

    pub(super) fn label(&mut self, key: &str, text: &str) -> Label {
        Label { key: self.string(key), str: self.string(text), num: 0 }
    }

    pub(super) fn number_label(&mut self, key: &str, number: i64) -> Label {
        Label { key: self.string(key), str: 0, num: number }
    }

    /// pprof prints texts as they are, so they are made harmless here.
    fn string(&mut self, text: &str) -> i64 {
        let text = escape_control(text);
        if let Some(known) = self.strings.get(&text) {
            return *known;
        }
        let index = signed(self.profile.string_table.len() as u64);
        self.profile.string_table.push(text.clone());
        self.strings.insert(text, index);
        index
    }

    pub(super) fn kernel_locations(&mut self, frames: &[KernelFrame]) -> Vec<u64> {
        frames
            .iter()
            .map(|frame| {
                let mapping = self.mapping_of(KERNEL, "");
                self.tell(mapping, |mapping| mapping.has_functions = true);
                let line = Line { function_id: self.function(&frame.symbol, ""), line: 0 };
                // Where the kernel is in memory is a secret, and no part of a document.
                self.location(mapping, 0, vec![line])
            })
            .collect()
    }

    /// Frames that were inlined share the location of the frame that holds their code.
    pub(super) fn user_locations(&mut self, frames: &[UserFrame]) -> Vec<u64> {
        let frames: Vec<&UserFrame> = telling(frames).collect();
        frames.chunk_by(|frame, _| frame.inlined).map(|frames| self.user_location(frames)).collect()
    }

    fn user_location(&mut self, frames: &[&UserFrame]) -> u64 {
        let outermost = frames.last().copied();
        let mapping = self.mapping(outermost);
        let lines = frames.iter().filter_map(|frame| self.line(mapping, frame)).collect();
        if frames.len() > 1 {
            self.tell(mapping, |mapping| mapping.has_inline_frames = true);
        }
        self.location(mapping, outermost.map_or(0, |frame| frame.offset), lines)
    }

    fn line(&mut self, mapping: u64, frame: &UserFrame) -> Option<Line> {
        let symbol = frame.symbol.as_deref()?;
        self.tell(mapping, |mapping| {
            mapping.has_functions = true;
            mapping.has_filenames |= frame.file.is_some();
            mapping.has_line_numbers |= frame.line.is_some();
        });
        let function_id = self.function(symbol, frame.file.as_deref().unwrap_or_default());
        Some(Line { function_id, line: frame.line.unwrap_or_default().into() })
    }

    /// The mapping of a frame; it is zero for code that is in no file.
    pub(super) fn mapping(&mut self, frame: Option<&UserFrame>) -> u64 {
        let Some((frame, module)) = frame.and_then(|frame| Some((frame, frame.module.as_deref()?))) else {
            return 0;
        };
        let id = self.mapping_of(module, frame.build_id.as_deref().unwrap_or_default());
        // Addresses are offsets in the file, as if the file were mapped as a whole from address zero on.
        let end = (frame.offset / PAGE + 1).saturating_mul(PAGE);
        self.tell(id, |mapping| mapping.memory_limit = mapping.memory_limit.max(end));
        id
    }

    fn mapping_of(&mut self, file: &str, build_id: &str) -> u64 {
        let (filename, build_id) = (self.string(file), self.string(build_id));
        let next = self.mappings.len() as u64 + 1;
        let id = *self.mappings.entry((filename, build_id)).or_insert(next);
        if id == next {
            self.profile.mapping.push(Mapping { id, filename, build_id, ..Mapping::default() });
        }
        id
    }

    /// Completes what a mapping says of itself.
    fn tell(&mut self, mapping: u64, change: impl FnOnce(&mut Mapping)) {
        if let Some(mapping) = self.profile.mapping.iter_mut().find(|known| known.id == mapping) {
            change(mapping);
        }
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let (name, filename) = (self.string(name), self.string(file));
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function { id, name, system_name: name, filename });
        }
        id
    }

    fn location(&mut self, mapping_id: u64, address: u64, line: Vec<Line>) -> u64 {
        let next = self.locations.len() as u64 + 1;
        let id = *self.locations.entry((mapping_id, address, line.clone())).or_insert(next);
        if id == next {
            self.profile.location.push(Location { id, mapping_id, address, line });
        }
        id
    }
}

/// The format has no unsigned numbers for counts and times.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
