//! From groups of handles to call sites: groups whose chains name the same code are one site.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use fdtrace_common::hash;

use crate::{
    collect::{GroupSnapshot, OldHandle},
    handles::Counts,
    kernel::Symbols,
    kinds::Kind,
    process,
    stacks::{self, UserStacks, kernel_chain},
    stream::{Identity, KernelFrame, Origin, UserChain, UserFrame},
};

/// Which sites are shown.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only sites with live handles of this kind.
    pub kind: Option<Kind>,
    /// Only sites of this origin.
    pub origin: Option<Origin>,
    /// Only sites with a live handle at least as old, in ns; and only such handles count.
    pub min_age_ns: u64,
}

/// A chain, resolved.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) id: u64,
    pub(super) origin: Origin,
    pub(super) kernel: Arc<[KernelFrame]>,
    pub(super) user: Arc<UserChain>,
}

/// Handles of one site.
pub(super) struct SiteGroups {
    pub(super) place: Place,
    pub(super) counts: Counts,
    pub(super) aged: u64,
    pub(super) kinds: BTreeMap<Kind, u64>,
    pub(super) oldest: Vec<(u32, OldHandle)>,
    /// By image.
    pub(super) processes: HashMap<u64, SiteProcess>,
}

/// A process with handles of a site.
#[derive(Clone)]
pub(super) struct SiteProcess {
    pub(super) pid: u32,
    pub(super) identity: Arc<Identity>,
    pub(super) live: u64,
}

/// Resolves groups, and remembers what it resolved as long as the groups live.
pub(super) struct Resolver {
    symbols: Arc<Symbols>,
    stacks: UserStacks,
    places: HashMap<u64, Place>,
    identities: HashMap<u64, Arc<Identity>>,
    /// Where each process has code, during one look.
    code: HashMap<u32, Option<Vec<Range<u64>>>>,
}

impl Resolver {
    pub(super) fn new(symbols: Arc<Symbols>) -> Self {
        Self {
            symbols,
            stacks: UserStacks::default(),
            places: HashMap::new(),
            identities: HashMap::new(),
            code: HashMap::new(),
        }
    }

    /// The sites of a snapshot's groups.
    pub(super) fn sites(&mut self, groups: &[GroupSnapshot]) -> HashMap<u64, SiteGroups> {
        self.forget_all_but(groups);
        self.code.clear();
        let mut sites: HashMap<u64, SiteGroups> = HashMap::new();
        for group in groups {
            let place = self.place(group);
            let identity = self.identity(group);
            sites.entry(place.id).or_insert_with(|| SiteGroups::new(place)).add(group, identity);
        }
        sites
    }

    fn forget_all_but(&mut self, groups: &[GroupSnapshot]) {
        let serials: HashSet<u64> = groups.iter().map(|group| group.serial).collect();
        let images: HashSet<u64> = groups.iter().map(|group| group.image).collect();
        self.places.retain(|serial, _| serials.contains(serial));
        self.identities.retain(|image, _| images.contains(image));
    }

    fn place(&mut self, group: &GroupSnapshot) -> Place {
        if let Some(known) = self.places.get(&group.serial) {
            return known.clone();
        }
        let kernel: Arc<[KernelFrame]> =
            kernel_chain(group.kernel.as_deref().unwrap_or_default(), &self.symbols).into();
        let origin = stacks::origin(&kernel, &group.call);
        let code = self.code.entry(group.tgid).or_insert_with(|| process::code(group.tgid));
        let addresses = group.user.as_deref().unwrap_or_default();
        let user = self.stacks.resolve(group.tgid, addresses, code.as_deref());
        let place = Place { id: site_id(origin, &user, &kernel), origin, kernel, user };
        self.places.insert(group.serial, place.clone());
        place
    }

    fn identity(&mut self, group: &GroupSnapshot) -> Arc<Identity> {
        if let Some(known) = self.identities.get(&group.image)
            && !known.comm.is_empty()
        {
            return Arc::clone(known);
        }
        let identity = Arc::new(identify(group));
        self.identities.insert(group.image, Arc::clone(&identity));
        identity
    }
}

/// What the events said of the image comes first: the process may run something else by now.
fn identify(group: &GroupSnapshot) -> Identity {
    let mut identity = if group.ended { Identity::default() } else { process::identity(group.tgid) };
    if identity.comm.is_empty()
        && let Some(comm) = &group.comm
    {
        let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
        identity.comm = String::from_utf8_lossy(&comm[..end]).into_owned();
    }
    if identity.exe.is_empty() {
        identity.exe = String::from_utf8_lossy(group.path.as_deref().unwrap_or_default()).into_owned();
    }
    identity
}

/// Origin and user chain, by build-id and offset; the kernel's chain only where there is no other.
fn site_id(origin: Origin, user: &UserChain, kernel: &[KernelFrame]) -> u64 {
    let text = |hash: u64, text: &str| {
        text.bytes().fold(hash::mix(hash, 1), |hash, byte| hash::mix(hash, byte.into()))
    };
    let frame = |hash: u64, frame: &Arc<UserFrame>| {
        let module = frame.build_id.as_deref().or(frame.module.as_deref()).unwrap_or_default();
        hash::mix(text(hash, module), frame.offset)
    };
    let mut id = text(hash::SEED, origin.name());
    id = user.frames.iter().fold(id, frame);
    if user.frames.is_empty() {
        id = kernel.iter().fold(id, |hash, frame| hash::mix(text(hash, &frame.symbol), frame.offset));
    }
    hash::finish(id)
}

impl SiteGroups {
    fn new(place: Place) -> Self {
        Self {
            place,
            counts: Counts::default(),
            aged: 0,
            kinds: BTreeMap::new(),
            oldest: Vec::new(),
            processes: HashMap::new(),
        }
    }

    fn add(&mut self, group: &GroupSnapshot, identity: Arc<Identity>) {
        self.counts.add(&group.counts);
        self.aged += group.aged;
        for (number, count) in (0..).zip(group.kinds).filter(|(_, count)| *count > 0) {
            *self.kinds.entry(Kind::from_number(number)).or_default() += count;
        }
        self.oldest.extend(group.oldest.iter().map(|old| (group.tgid, *old)));
        self.oldest.sort_by_key(|(_, old)| old.generation);
        self.oldest.truncate(3);
        let process =
            self.processes.entry(group.image).or_insert(SiteProcess { pid: group.tgid, identity, live: 0 });
        process.live += group.counts.live();
    }

    /// Whether the site is to be shown.
    pub(super) fn is_selected(&self, selection: &Selection) -> bool {
        selection.origin.is_none_or(|origin| origin == self.place.origin)
            && selection.kind.is_none_or(|kind| self.kinds.contains_key(&kind))
            && self.aged > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(build_id: &str, offset: u64) -> UserChain {
        let frame = UserFrame {
            symbol: Some("f".to_owned()),
            module: Some(format!("/path/{offset}/x")),
            build_id: Some(build_id.to_owned()),
            offset,
            ..UserFrame::default()
        };
        UserChain { frames: vec![Arc::new(frame)], complete: true }
    }

    #[test]
    fn a_site_is_its_origin_and_its_code() {
        let id = |origin, chain: &UserChain| site_id(origin, chain, &[]);
        assert_eq!(id(Origin::Open, &chain("aa", 1)), id(Origin::Open, &chain("aa", 1)));
        assert_ne!(id(Origin::Open, &chain("aa", 1)), id(Origin::Open, &chain("ab", 1)));
        assert_ne!(id(Origin::Open, &chain("aa", 1)), id(Origin::Open, &chain("aa", 2)));
        assert_ne!(id(Origin::Open, &chain("aa", 1)), id(Origin::Socket, &chain("aa", 1)));
    }

    #[test]
    fn the_kernel_chain_counts_only_without_a_user_chain() {
        let kernel = [KernelFrame { symbol: "k".to_owned(), offset: 3 }];
        let user = chain("aa", 1);
        assert_eq!(site_id(Origin::Open, &user, &kernel), site_id(Origin::Open, &user, &[]));
        let none = UserChain::default();
        assert_ne!(site_id(Origin::Kernel, &none, &kernel), site_id(Origin::Kernel, &none, &[]));
    }
}
