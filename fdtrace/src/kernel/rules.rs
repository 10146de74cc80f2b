//! What the kernel side knows of unwind tables.

use std::os::fd::AsFd as _;

use aya::maps::{HashMap, IterableMap as _, MapData};
use fdtrace_common::unwind::{Code, Rule};

use super::{bpf, tracer::Plain};

/// The maps in which the kernel side looks up how frames lead to their callers.
pub struct RuleBook {
    pub(super) rules: HashMap<MapData, u64, Plain<Rule>>,
    pub(super) code: HashMap<MapData, u64, Plain<Code>>,
}

impl RuleBook {
    /// Takes in rules by module and offset, and addresses by address space.
    pub fn learn(&mut self, rules: &[(u64, Rule)], code: &[(u64, Code)]) {
        for (place, rule) in rules {
            if self.rules.insert(place, Plain(*rule), 0).is_err() {
                // It is full. What is still in use will be asked for again.
                let _ = bpf::clear::<u64, Rule>(self.rules.map().fd().as_fd());
                let _ = self.rules.insert(place, Plain(*rule), 0);
            }
        }
        for (place, code) in code {
            // The oldest make room.
            let _ = self.code.insert(place, Plain(*code), 0);
        }
    }
}
