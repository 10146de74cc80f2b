//! What the kernel side knows of unwind tables.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{HashMap, IterableMap as _, Map, MapData};
use fdtrace_common::{
    scripts::Interpreter,
    unwind::{Code, Rule},
};

use super::{
    bpf,
    error::Result,
    tracer::{Plain, object},
};

/// The maps in which the kernel side looks up how frames lead to their callers.
pub struct RuleBook {
    pub(super) rules: HashMap<MapData, u64, Plain<Rule>>,
    pub(super) code: HashMap<MapData, u64, Plain<Code>>,
    pub(super) interpreters: Interpreters,
}

/// The map in which the kernel side looks up how calls of scripts are read.
#[derive(Clone)]
pub struct Interpreters(Arc<Mutex<HashMap<MapData, u64, Plain<Interpreter>>>>);

// SAFETY: `Interpreter` is `repr(C)`, made of integers, and its layout is asserted to have no padding.
unsafe impl aya::Pod for Plain<Interpreter> {}

impl Interpreters {
    pub(super) fn of(map: Map) -> Result<Self> {
        let map = HashMap::try_from(map).map_err(object)?;
        Ok(Self(Arc::new(Mutex::new(map))))
    }

    /// Takes in files that are interpreters.
    pub fn learn(&self, interpreters: &[(u64, Interpreter)]) {
        if interpreters.is_empty() {
            return;
        }
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (module, interpreter) in interpreters {
            // Where there is no room, calls of its scripts are not taken.
            let _ = map.insert(module, Plain(*interpreter), 0);
        }
    }
}

impl RuleBook {
    /// The interpreters, for whoever recognises some.
    #[must_use]
    pub fn interpreters(&self) -> Interpreters {
        self.interpreters.clone()
    }

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
