//! A document summed up by something else than the call site.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    slice,
};

use super::allocated;
use crate::{
    model::{
        Document, Process, Site,
        groups::{By, Row, SCHEMA, Table, UNKNOWN},
    },
    stacks::place,
};

/// What a site contributes to a row.
struct Part<'a> {
    key: String,
    site: &'a Site,
    live: u64,
    allocated: Option<u64>,
    processes: &'a [Process],
}

/// A row in the making.
struct Sum<'a> {
    first: Part<'a>,
    live: u64,
    allocated: Option<u64>,
    sites: HashSet<&'a str>,
    processes: HashSet<(u32, &'a str)>,
    top: (u64, &'a Site),
}

/// Sums up a document.
#[must_use]
pub(crate) fn table(document: &Document, by: By) -> Table {
    let mut sums: BTreeMap<String, Sum<'_>> = BTreeMap::new();
    // What makes no handles has no share in sums of them.
    let counted = |site: &&Site| !site.acquired || matches!(by, By::Site | By::Origin);
    for part in document.sites.iter().filter(counted).flat_map(|site| parts(site, by)) {
        match sums.get_mut(&part.key) {
            Some(sum) => sum.add(&part),
            None => drop(sums.insert(part.key.clone(), Sum::new(part))),
        }
    }
    let mut rows: Vec<Row> = sums.into_values().map(|sum| sum.row(by)).collect();
    rows.sort_by_key(|row| (Reverse(row.live), Reverse(row.allocated)));
    Table {
        schema: SCHEMA.to_owned(),
        by,
        trace: document.trace.clone(),
        handles: document.handles.clone(),
        rows,
    }
}

fn parts(site: &Site, by: By) -> Vec<Part<'_>> {
    let whole = |key: &str| Part {
        key: key.to_owned(),
        site,
        live: site.live,
        allocated: Some(site.allocated),
        processes: &site.processes,
    };
    match by {
        By::Site => vec![whole(&site.id)],
        By::Origin => vec![whole(site.origin.name())],
        By::Process => site.processes.iter().map(|process| process_part(site, process)).collect(),
        By::Kind => live_parts(site, &site.kinds),
        By::Holder => live_parts(site, &site.holders),
    }
}

fn process_part<'a>(site: &'a Site, process: &'a Process) -> Part<'a> {
    Part {
        key: format!("{} ({})", process.comm, process.pid),
        site,
        live: process.live,
        allocated: allocated(site, process),
        processes: slice::from_ref(process),
    }
}

/// Live handles by a word; those that the map does not tell are unknown.
fn live_parts<'a>(site: &'a Site, counts: &BTreeMap<impl Copy + Into<&'static str>, u64>) -> Vec<Part<'a>> {
    let reported: u64 = counts.values().sum();
    let rest = (UNKNOWN, site.live.saturating_sub(reported));
    let counts = counts.iter().map(|(word, count)| ((*word).into(), *count)).chain([rest]);
    let part = |(word, live): (&str, u64)| Part {
        key: word.to_owned(),
        site,
        live,
        allocated: None,
        processes: &site.processes,
    };
    counts.filter(|(_, count)| *count > 0).map(part).collect()
}

impl<'a> Sum<'a> {
    fn new(part: Part<'a>) -> Self {
        let mut sum = Self {
            live: 0,
            allocated: Some(0),
            sites: HashSet::new(),
            processes: HashSet::new(),
            top: (part.live, part.site),
            first: part,
        };
        let Part { site, live, allocated, processes, .. } = sum.first;
        sum.add(&Part { key: String::new(), site, live, allocated, processes });
        sum
    }

    fn add(&mut self, part: &Part<'a>) {
        self.live += part.live;
        self.allocated = self.allocated.zip(part.allocated).map(|(sum, more)| sum + more);
        self.sites.insert(&part.site.id);
        self.processes.extend(part.processes.iter().map(|process| (process.pid, process.comm.as_str())));
        if part.live > self.top.0 {
            self.top = (part.live, part.site);
        }
    }

    fn row(self, by: By) -> Row {
        let process = self.first.processes.first().filter(|_| by == By::Process);
        let site = self.top.1;
        Row {
            key: self.first.key,
            live: self.live,
            allocated: self.allocated,
            sites: self.sites.len() as u64,
            processes: self.processes.len() as u64,
            pid: process.map(|process| process.pid),
            comm: process.map(|process| process.comm.clone()),
            exe: process.map(|process| process.exe.clone()),
            top_site: site.id.clone(),
            place: place(&site.user_stack, &site.kernel_stack),
        }
    }
}
