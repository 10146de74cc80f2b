//! Which handles are asked for.

use super::{holders::Attribution, processes::Processes, references::Held};
use crate::{
    holders::HolderSnapshot,
    model::{Holder, Kind},
};

/// A state of a connection (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketState(pub u8);

impl SocketState {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        crate::kinds::tcp_state(self.0)
    }

    /// The state with this name, as `ss` has it, in any case, with `-` or `_`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.replace('-', "_").to_uppercase();
        (1..=12).find(|state| crate::kinds::tcp_state(*state) == name).map(Self)
    }
}

/// Narrows what is shown. The sums of the whole system stay what they are.
#[derive(Clone, Debug, Default)]
pub struct Focus {
    /// Only what these processes hold.
    pub pids: Vec<u32>,
    /// The name by which `pids` were found.
    pub comm: Option<String>,
    /// Only handles of these kinds.
    pub kinds: Vec<Kind>,
    /// Only handles that are held so.
    pub holders: Vec<Holder>,
    /// Only handles to which no descriptor points.
    pub hidden: bool,
    /// Only handles of files that have no name any more.
    pub deleted: bool,
    /// Only sockets in this state.
    pub sockets: Option<SocketState>,
    /// Only handles that share their inode with another.
    pub same_inode: bool,
    /// Only descriptors that came over exec and that the program did not ask for.
    pub inherited: bool,
    /// The most groups of files that a process shows.
    pub groups: usize,
    /// Groups remember which handles they have: [`super::Group::places`], [`super::HiddenGroup::places`].
    pub places: bool,
    /// Groups say who is at the other ends of their handles: [`super::Group::peers`].
    pub peers: bool,
}

impl Focus {
    /// Whether everything is asked for.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let Self {
            pids,
            comm,
            kinds,
            holders,
            hidden,
            deleted,
            sockets,
            same_inode,
            inherited,
            groups: _,
            places: _,
            peers: _,
        } = self;
        pids.is_empty()
            && comm.is_none()
            && kinds.is_empty()
            && holders.is_empty()
            && !(*hidden || *deleted || *same_inode || *inherited)
            && sockets.is_none()
    }

    pub(super) fn admits_process(&self, pid: u32) -> bool {
        (self.pids.is_empty() && self.comm.is_none()) || self.pids.contains(&pid)
    }

    pub(super) const fn is_inherited_only(&self) -> bool {
        self.inherited
    }

    /// Which handles are asked for.
    pub(super) fn places(
        &self,
        snapshot: &HolderSnapshot,
        attribution: &Attribution,
        processes: &Processes,
    ) -> impl Fn(u32) -> bool + use<> {
        let all = self.is_everything();
        let inside = if all { Vec::new() } else { self.chosen(snapshot, attribution, processes) };
        move |place| all || inside.get(place as usize).copied().unwrap_or(false)
    }

    fn chosen(
        &self,
        snapshot: &HolderSnapshot,
        attribution: &Attribution,
        processes: &Processes,
    ) -> Vec<bool> {
        let mut inside: Vec<bool> = (0..)
            .zip(&snapshot.handles)
            .map(|(place, _)| self.admits(snapshot, attribution, place))
            .collect();
        if self.same_inode {
            keep_shared_inodes(snapshot, &mut inside);
        }
        if !self.pids.is_empty() || self.comm.is_some() || self.inherited {
            let mut held = vec![false; inside.len()];
            processes.each_held(snapshot, |index, found: &Held| {
                let pid = processes.pid(index);
                let wanted = !self.inherited || processes.is_inherited(snapshot, index, found);
                if self.admits_process(pid) && wanted {
                    held[found.handle as usize] = true;
                }
            });
            inside.iter_mut().zip(held).for_each(|(inside, held)| *inside &= held);
        }
        inside
    }

    fn admits(&self, snapshot: &HolderSnapshot, attribution: &Attribution, place: u32) -> bool {
        let handle = &snapshot.handles[place as usize];
        (self.kinds.is_empty() || self.kinds.contains(&handle.kind))
            && (self.holders.is_empty()
                || attribution.first(place).is_some_and(|holder| self.holders.contains(&holder)))
            && (!self.hidden || attribution.is_hidden(place))
            && (!self.deleted || handle.is_deleted())
            && self.sockets.is_none_or(|SocketState(state)| handle.has_state(state))
    }
}

fn keep_shared_inodes(snapshot: &HolderSnapshot, inside: &mut [bool]) {
    let mut counts = std::collections::HashMap::new();
    for handle in snapshot.handles.iter().filter(|handle| handle.has_own_inode()) {
        *counts.entry(handle.inode).or_insert(0u64) += 1;
    }
    for (inside, handle) in inside.iter_mut().zip(&snapshot.handles) {
        *inside &= handle.has_own_inode() && counts.get(&handle.inode).is_some_and(|count| *count > 1);
    }
}
