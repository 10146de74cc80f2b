//! Where processes have their code, as far as dumps have told: a process may be gone before anybody looks, and one dump does
//! not tell of all the code that another one's stack leads through.

use std::collections::HashMap;

use fdtrace_common::wire::CodeMapping;

/// Processes that are remembered.
const MAX_PROCESSES: usize = 4096;
/// Mappings of each.
const MAX_MAPPINGS: usize = 64;

/// Code by process.
#[derive(Default)]
pub(super) struct Spaces(HashMap<u32, Vec<CodeMapping>>);

impl Spaces {
    /// What a dump tells; what was at the same place before is another file's.
    pub(super) fn note(&mut self, pid: u32, reported: &[CodeMapping]) {
        if self.0.len() >= MAX_PROCESSES && !self.0.contains_key(&pid) {
            self.0.clear();
        }
        let known = self.0.entry(pid).or_default();
        for new in reported {
            if known.first() == Some(new) {
                continue;
            }
            known.retain(|old| old.end <= new.start || old.start >= new.end);
            known.insert(0, *new);
        }
        known.truncate(MAX_MAPPINGS);
    }

    /// A process runs another program.
    pub(super) fn forget(&mut self, pid: u32) {
        self.0.remove(&pid);
    }

    /// What lies at an address.
    pub(super) fn find(&self, pid: u32, address: u64) -> Option<&CodeMapping> {
        self.0.get(&pid)?.iter().find(|code| (code.start..code.end).contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(start: u64, module: u64) -> CodeMapping {
        CodeMapping { start, end: start + 16, offset: 0, module }
    }

    #[test]
    fn the_latest_holds() {
        let mut spaces = Spaces::default();
        spaces.note(7, &[code(0, 1), code(32, 2)]);
        spaces.note(7, &[code(8, 3)]);
        assert_eq!(spaces.find(7, 12).map(|code| code.module), Some(3));
        assert_eq!(spaces.find(7, 4), None, "unmapped meanwhile");
        assert_eq!(spaces.find(7, 40).map(|code| code.module), Some(2));
        assert_eq!(spaces.find(8, 40), None);
        spaces.forget(7);
        assert_eq!(spaces.find(7, 40), None);
    }
}
