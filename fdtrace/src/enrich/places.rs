//! From stacks to call sites: stacks that name the same code are one site.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use fdtrace_common::hash;

use crate::{
    handles::FreshGroup,
    kernel::Symbols,
    model::{KernelFrame, Origin},
    stacks::{self, FrameRef, Lasting, Modules, Readers, UserStacks, kernel_stack, lasting},
    stream::{Call, Fact, ImageKey, Side, Site, Stack, UserStack},
};

/// So many results are remembered; then the memory is emptied and filled again.
const MAX: usize = 1 << 14;

/// Finds out to which sites groups belong.
pub(super) struct Places {
    symbols: Arc<Symbols>,
    stacks: UserStacks,
    /// Sites by the call, and by whose memory it is where the stack means something else in another process.
    known: HashMap<(Option<ImageKey>, Call), u64>,
    /// Sites that the stream knows.
    defined: HashSet<u64>,
}

impl Places {
    pub(super) fn new(symbols: Arc<Symbols>, modules: Arc<Modules>, readers: &Readers) -> Self {
        let stacks = UserStacks::new(modules, readers);
        Self { symbols, stacks, known: HashMap::new(), defined: HashSet::new() }
    }

    /// To which site each group belongs, and each site that was not spoken of before.
    pub(super) fn find(&mut self, fresh: &[FreshGroup], facts: &mut Vec<Fact>) {
        if self.known.len() > MAX {
            self.known.clear();
        }
        let mut by_image: HashMap<ImageKey, Vec<&FreshGroup>> = HashMap::new();
        for group in fresh.iter().filter(|group| !group.existing) {
            let known = |space| self.known.get(&(space, group.call));
            match known(None).or_else(|| known(Some(group.space))) {
                Some(site) => facts.push(belongs(group, *site)),
                None => by_image.entry(group.image).or_default().push(group),
            }
        }
        for (image, groups) in by_image {
            let stacks = self.stacks(image.tgid, &groups);
            for (group, user) in groups.into_iter().zip(stacks) {
                self.define(group, user, facts);
            }
        }
    }

    pub(super) fn rest(&mut self) {
        self.stacks.rest();
    }

    /// The user stacks of groups of one image, in their order.
    fn stacks(&mut self, tgid: u32, groups: &[&FreshGroup]) -> Vec<UserStack> {
        // An image that has ended leaves addresses that mean nothing any more.
        let is_there = |group: &FreshGroup, stack: &Stack| stack.side == Side::Code || !group.ended;
        let stacks: Vec<Option<&Stack>> =
            groups.iter().map(|group| group.user.as_deref().filter(|stack| is_there(group, stack))).collect();
        self.stacks.resolve(tgid, &stacks)
    }

    fn define(&mut self, group: &FreshGroup, user: UserStack, facts: &mut Vec<Fact>) {
        let kernel =
            kernel_stack(group.kernel.as_ref().map_or(&[][..], |stack| &stack.frames), &self.symbols);
        let origin = stacks::origin(&kernel, &group.call);
        let id = site_id(origin, &user, &kernel);
        if self.defined.insert(id) {
            facts.push(Fact::Site(Arc::new(Site { id, origin, kernel, user })));
        }
        // A machine that starts a thousand processes a second starts the same programs.
        let is_whole = |stack: &Arc<Stack>| stack.complete && self.stacks.is_of_files(stack);
        let is_the_same_everywhere = group.user.as_ref().is_some_and(is_whole);
        let space = if is_the_same_everywhere { None } else { Some(group.space) };
        self.known.insert((space, group.call), id);
        facts.push(belongs(group, id));
    }
}

fn belongs(group: &FreshGroup, site: u64) -> Fact {
    Fact::Belongs { image: group.image, call: group.call, site }
}

/// Origin and user stack, by build-id and offset, as far as the next run has them too; of a script by function, file and line.
/// The kernel's stack counts only where there is no other. What is inlined is at the offset of the function that has the code, and would make a site depend on whether
/// there is debug information.
fn site_id(origin: Origin, user: &UserStack, kernel: &[KernelFrame]) -> u64 {
    let text = |hash: u64, text: &str| {
        text.bytes().fold(hash::mix(hash, 1), |hash, byte| hash::mix(hash, byte.into()))
    };
    let frame = |hash: u64, frame: Lasting<'_>| match frame {
        Lasting::File(code) => hash::mix(text(hash, code.file), code.offset),
        Lasting::Script(code) => {
            let hash = [code.runtime.name(), code.function, code.file].into_iter().fold(hash, text);
            hash::mix(hash, code.line.unwrap_or_default().into())
        }
        Lasting::Made(name) => text(hash, &name),
        Lasting::InPage(offset) => hash::mix(hash, offset),
    };
    let frames = stacks::telling(user.frames.iter().map(Arc::as_ref)).filter(|frame| !frame.inlined);
    let mut id = lasting(frames.map(FrameRef::of)).fold(text(hash::SEED, origin.name()), frame);
    if user.frames.is_empty() {
        id = kernel.iter().fold(id, |hash, frame| hash::mix(text(hash, &frame.symbol), frame.offset));
    }
    hash::finish(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{UserFrame, fixture::*};

    fn stack(build_id: &str, offset: u64) -> UserStack {
        let frame = UserFrame {
            symbol: Some("f".to_owned()),
            module: Some(format!("/path/{offset}/x")),
            build_id: Some(build_id.to_owned()),
            offset,
            ..UserFrame::default()
        };
        UserStack { frames: vec![Arc::new(frame)], complete: true }
    }

    #[test]
    fn a_site_is_its_origin_and_its_code() {
        let id = |origin, stack: &UserStack| site_id(origin, stack, &[]);
        assert_eq!(id(Origin::Open, &stack("aa", 1)), id(Origin::Open, &stack("aa", 1)));
        assert_ne!(id(Origin::Open, &stack("aa", 1)), id(Origin::Open, &stack("ab", 1)));
        assert_ne!(id(Origin::Open, &stack("aa", 1)), id(Origin::Open, &stack("aa", 2)));
        assert_ne!(id(Origin::Open, &stack("aa", 1)), id(Origin::Socket, &stack("aa", 1)));
    }

    #[test]
    fn what_is_inlined_makes_no_other_site() {
        let plain = stack("aa", 1);
        let inner = UserFrame { symbol: Some("g".to_owned()), inlined: true, ..(*plain.frames[0]).clone() };
        let mut inlined = plain.clone();
        inlined.frames.insert(0, Arc::new(inner));
        assert_eq!(site_id(Origin::Open, &plain, &[]), site_id(Origin::Open, &inlined, &[]));
    }

    #[test]
    fn a_line_of_a_script_is_a_site_whatever_way_its_interpreter_took() {
        let of = |native: &str, line| {
            let frames = [frame("open", "/libc.so", 1), frame(native, "/usr/bin/python3.11", 9)];
            let frames = frames.into_iter().chain([script("load", "/app/db.py", line)]).map(Arc::new);
            site_id(Origin::Open, &UserStack { frames: frames.collect(), complete: true }, &[])
        };
        assert_eq!(of("_PyEval_EvalFrameDefault", 12), of("_PyEval_Vector", 12));
        assert_ne!(of("_PyEval_EvalFrameDefault", 12), of("_PyEval_EvalFrameDefault", 13));
    }

    #[test]
    fn another_run_has_the_same_site() {
        let of = |address: u64, outer: u64| {
            let mut stack = stack("aa", 1);
            let frame = |offset| Arc::new(UserFrame { offset, ..UserFrame::default() });
            stack.frames.extend([frame(address), frame(outer)]);
            site_id(Origin::Open, &stack, &[])
        };
        assert_eq!(of(0x7f00_0000_1000, 0x7f00_0000_2000), of(0x7fff_0000_1234, 0x7fff_0000_5678));
    }

    #[test]
    fn the_kernel_stack_counts_only_without_a_user_stack() {
        let kernel = [KernelFrame { symbol: "k".to_owned(), offset: 3 }];
        let user = stack("aa", 1);
        assert_eq!(site_id(Origin::Open, &user, &kernel), site_id(Origin::Open, &user, &[]));
        let none = UserStack::default();
        assert_ne!(site_id(Origin::Kernel, &none, &kernel), site_id(Origin::Kernel, &none, &[]));
    }
}
