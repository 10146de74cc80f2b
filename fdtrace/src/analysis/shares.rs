//! A site's handles by the processes that made them.

use crate::model::{Process, Site};

/// A part of a site's handles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share<'a> {
    /// Who made them; none for what cannot be distinguished by process.
    pub(crate) process: Option<&'a Process>,
    /// Alive, and as old as was asked for.
    pub(crate) live: u64,
    /// Made.
    pub(crate) allocated: u64,
}

/// The shares of a site: their sums are the site's own numbers.
pub(crate) fn shares(site: &Site) -> Vec<Share<'_>> {
    // A process counts its live handles of any age.
    let alone = site.processes.len() == 1;
    let all_old = site.aged == site.live;
    let mut rest = Share { process: None, live: site.aged, allocated: site.allocated };
    let mut shares = Vec::with_capacity(site.processes.len() + 1);
    for process in &site.processes {
        let live = if alone { site.aged } else { process.live * u64::from(all_old) };
        let share = Share {
            process: Some(process),
            live: live.min(rest.live),
            allocated: allocated(site, process).unwrap_or_default().min(rest.allocated),
        };
        rest.live -= share.live;
        rest.allocated -= share.allocated;
        shares.push(share);
    }
    shares.push(rest);
    shares.retain(|share| share.live > 0 || share.allocated > 0);
    shares
}

/// How many of a site's handles a process made, if that is known.
pub(crate) fn allocated(site: &Site, process: &Process) -> Option<u64> {
    process.allocated.or_else(|| (site.processes.len() == 1).then_some(site.allocated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

    fn numbers(site: &Site) -> Vec<(Option<u32>, u64, u64)> {
        shares(site)
            .iter()
            .map(|share| (share.process.map(|process| process.pid), share.live, share.allocated))
            .collect()
    }

    #[test]
    fn a_process_alone_has_all() {
        assert_eq!(numbers(&site("a", 3)), [(Some(7), 3, 8)]);
        assert_eq!(numbers(&Site { aged: 2, ..site("a", 3) }), [(Some(7), 2, 8)]);
        assert_eq!(numbers(&Site { processes: Vec::new(), ..site("a", 3) }), [(None, 3, 8)]);
    }

    #[test]
    fn nothing_is_invented_for_several() {
        let two = vec![process(7, "a", 2), process(8, "b", 1)];
        let site = Site { processes: two, ..site("a", 3) };
        assert_eq!(numbers(&site), [(Some(7), 2, 0), (Some(8), 1, 0), (None, 0, 8)]);
        assert_eq!(numbers(&Site { aged: 1, ..site.clone() }), [(None, 1, 8)]);
        let mut counted = site;
        counted.processes[0].allocated = Some(6);
        counted.processes[1].allocated = Some(1);
        assert_eq!(numbers(&counted), [(Some(7), 2, 6), (Some(8), 1, 1), (None, 0, 1)]);
    }
}
