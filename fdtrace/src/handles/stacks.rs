//! Stacks by name, in bounded memory.

use std::{collections::HashMap, hash::BuildHasherDefault, sync::Arc};

use super::hasher::CallHasher;
use crate::stream::Stack;

type Named = HashMap<u64, Arc<Stack>, BuildHasherDefault<CallHasher>>;

/// Stacks by name, in two generations: the kernel side sends each name once until it is told to forget, and what was
/// sent before that may be named by events that are still on their way.
#[derive(Default)]
pub(super) struct Stacks {
    new: Named,
    old: Named,
}

impl Stacks {
    pub(super) fn insert(&mut self, stack: Stack) {
        self.new.insert(stack.hash, Arc::new(stack));
    }

    pub(super) fn get(&self, name: u64) -> Option<Arc<Stack>> {
        self.new.get(&name).or_else(|| self.old.get(&name)).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.new.len()
    }

    pub(super) fn turn(&mut self) {
        self.old = std::mem::take(&mut self.new);
    }
}
