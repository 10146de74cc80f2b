//! Completes stacks that the kernel side began, and tells it how to complete the next ones by itself.

mod libraries;
mod programs;
mod spaces;

use std::{cell::OnceCell, path::Path, sync::Arc};

use fdtrace_common::{
    scripts::Interpreter,
    unwind::{ANONYMOUS, Code, Registers, Rule, VDSO, kind, note, place_key},
    wire::{MAX_FRAMES, Side},
};

pub(super) use self::libraries::{Found, Known, Program, Root};
use self::{programs::Programs, spaces::Spaces};
use super::{modules::Modules, reader::Readers, scripts::merge};
use crate::{
    process::{self, Mapping},
    stream::{ScriptCalls, Stack, StackDump},
};

/// Completes stacks.
pub struct Completer {
    programs: Programs,
    spaces: Spaces,
}

/// A stack as far as it could be followed, and what was learnt on the way.
#[derive(Debug)]
pub struct Completed {
    /// The stack, under the name that it began with.
    pub stack: Stack,
    /// Rules by [`place_key`] of module and offset.
    pub rules: Vec<(u64, Rule)>,
    /// Addresses of this process by [`place_key`] of its address space, where the kernel side could not find their files.
    pub code: Vec<(u64, Code)>,
}

/// One frame on the way.
struct Frame {
    module: u64,
    offset: u64,
    /// `None` where the file cannot be had; another process may be a way to it.
    rule: Option<Rule>,
}

/// A walk through the stack memory of one dump.
struct Walk<'a> {
    dump: &'a StackDump,
    spaces: &'a Spaces,
    /// What the process has mapped now, which takes long to find out: only where the dumps do not tell enough.
    mappings: OnceCell<Vec<Mapping>>,
    at: Registers,
    /// An instruction is there, and not the one behind a call.
    exact: bool,
}

impl Completer {
    /// A completer that says in `modules` which files it met, and has them read by one of `readers`.
    #[must_use]
    pub fn new(modules: Arc<Modules>, readers: &Readers) -> Self {
        Self { programs: Programs::new(modules, readers.reader()), spaces: Spaces::default() }
    }

    /// A process began to run a program, which may be gone when its first stack comes.
    pub fn note_program(&mut self, pid: u32, path: &Path) {
        self.spaces.forget(pid);
        if !self.programs.is_noted(Program::key_of(pid, path)) {
            self.programs.note(Program::of(pid, path));
        }
    }

    /// A program will be run that is at this path.
    pub fn prepare(&mut self, path: &Path) {
        self.programs.note(Program::at(path));
    }

    /// Reads tables of one file that a program will lead through soon, if it does at all; `false` when there is none left.
    pub fn read_ahead(&mut self) -> bool {
        self.programs.read_ahead()
    }

    /// Interpreters that were recognised since this was asked last, by their modules.
    pub fn take_interpreters(&mut self) -> Vec<(u64, Interpreter)> {
        self.programs.take_interpreters()
    }

    /// Follows a stack through the stack memory that came with it; the calls of scripts come among its frames.
    pub fn complete(&mut self, partial: Stack, dump: &StackDump, calls: Option<&ScriptCalls>) -> Completed {
        self.spaces.note(dump.tgid, &dump.code);
        let mut walk = Walk {
            dump,
            spaces: &self.spaces,
            mappings: OnceCell::new(),
            at: dump.registers,
            exact: dump.exact,
        };
        let Stack { hash, side, tgid, frames, submitter, .. } = partial;
        let mut frames = frames.into_vec();
        let (mut rules, mut code) = (Vec::new(), Vec::new());
        let mut stacks = calls.map(|calls| calls.stacks.clone()).unwrap_or_default();
        let (mut complete, mut guessed, mut made) = (false, false, false);
        let compiles = calls.is_some_and(|calls| self.programs.compiles(calls.module));
        while frames.len() < MAX_FRAMES * Side::Code.words() {
            let Some(frame) = walk.frame(&mut self.programs) else { break };
            frames.extend([frame.module, frame.offset]);
            stacks.push(walk.at.stack);
            let Some(rule) = frame.rule else { break };
            if frame.module != ANONYMOUS {
                rules.push((place_key(frame.module, frame.offset), rule));
            }
            if dump.module == ANONYMOUS {
                let known = Code { module: frame.module, offset: frame.offset, rule };
                code.push((place_key(dump.space, walk.address()), known));
            }
            guessed |= rule.notes & note::GUESSED != 0;
            made |= rule.notes & note::MADE != 0;
            if !walk.goes_to_caller(rule) {
                // What holds of most code that a runtime makes has held of all, if it leads to where a thread begins.
                let begins = rule.begins(walk.at) || walk.at.instruction == 0;
                complete = !guessed && if made { compiles && rule.kind == kind::END } else { begins };
                break;
            }
        }
        // Where the outermost frame ends.
        stacks.push(walk.at.stack);
        let frames = match calls {
            Some(calls) => merge(&frames, &stacks, calls, &self.programs.loops(calls.module)),
            None => frames.into(),
        };
        Completed { stack: Stack { hash, side, tgid, frames, complete, submitter }, rules, code }
    }
}

impl Walk<'_> {
    /// A return address may be another function's first: the call lies before it.
    fn address(&self) -> u64 {
        self.at.instruction.wrapping_sub(u64::from(!self.exact))
    }

    /// What lies at the address; `None` where the process has no code.
    fn frame(&self, programs: &mut Programs) -> Option<Frame> {
        let (dump, address) = (self.dump, self.address());
        if let Some((module, offset)) = self.reported(address) {
            if !programs.is_known(module) {
                // What has come to that address since, in this process or in one with its number, is another file.
                let same = self.mapping(address).filter(|mapping| mapping.offset_of(address) == offset);
                programs.find(dump.tgid, module, same);
            }
            return Some(Frame { module, offset, rule: programs.rule(module, offset, self.exact) });
        }
        let mapping = self.mapping(address)?;
        if mapping.is_vdso() {
            let offset = address - mapping.range.start;
            return Some(Frame { module: VDSO, offset, rule: programs.rule(VDSO, offset, self.exact) });
        }
        if mapping.inode == 0 {
            let rule = Some(Rule { notes: note::MADE, ..Rule::FRAME_POINTER });
            return Some(Frame { module: ANONYMOUS, offset: address, rule });
        }
        let offset = mapping.offset_of(address);
        let module = programs.meet(dump.tgid, mapping, None)?;
        Some(Frame { module, offset, rule: programs.rule(module, offset, self.exact) })
    }

    fn mapping(&self, address: u64) -> Option<&Mapping> {
        let mappings = self.mappings.get_or_init(|| process::mappings(self.dump.tgid));
        mappings.iter().find(|mapping| mapping.range.contains(&address) && mapping.executable)
    }

    /// The module and the offset as the kernel side has them.
    fn reported(&self, address: u64) -> Option<(u64, u64)> {
        let dump = self.dump;
        if dump.module != ANONYMOUS && self.at == dump.registers {
            return Some((dump.module, dump.offset));
        }
        let code = self.spaces.find(dump.tgid, address)?;
        Some((code.module, address - code.start + code.offset))
    }

    /// Goes on; `false` when the stack ends here.
    fn goes_to_caller(&mut self, rule: Rule) -> bool {
        let Some(caller) = rule.caller(self.at, |address| self.word(address)) else { return false };
        (self.at, self.exact) = (caller, rule.kind == kind::SIGNAL);
        caller.instruction != 0
    }

    fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.dump.registers.stack)?).ok()?;
        let bytes = self.dump.stack.get(offset..offset.checked_add(8)?)?;
        bytes.try_into().map(u64::from_ne_bytes).ok()
    }
}
