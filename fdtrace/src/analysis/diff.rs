//! Two documents compared: what lives at the end of the second trace and did not in the first.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use crate::{
    model::{
        Document, Site, UserFrame,
        diff::{Difference, MatchedBy, SCHEMA, Side, SiteDifference},
    },
    stacks::{name_id, telling},
};

/// Compares two documents site by site.
#[must_use]
pub(crate) fn diff(before: &Document, after: &Document) -> Difference {
    let mut sites = matched(&before.sites, &after.sites);
    sites.sort_by_key(|site| (site.change <= 0, Reverse(site.change.unsigned_abs()), site.id.clone()));
    Difference { schema: SCHEMA.to_owned(), before: side(before), after: side(after), sites }
}

fn side(document: &Document) -> Side {
    Side { trace: document.trace.clone(), handles: document.handles.clone() }
}

fn matched(before: &[Site], after: &[Site]) -> Vec<SiteDifference> {
    let by_id: HashMap<&str, &Site> = before.iter().map(|site| (site.id.as_str(), site)).collect();
    let known: HashSet<&str> = after.iter().map(|site| site.id.as_str()).collect();
    let (same, new): (Vec<&Site>, Vec<&Site>) =
        after.iter().partition(|site| by_id.contains_key(site.id.as_str()));
    let old = before.iter().filter(|site| !known.contains(site.id.as_str()));
    let mut rows: Vec<SiteDifference> = same
        .into_iter()
        .map(|site| compared(by_id.get(site.id.as_str()).copied(), site, MatchedBy::Id))
        .collect();
    rows.extend(by_names(old, new).into_values().flat_map(Namesakes::rows));
    rows
}

/// Sites of one name that are in one of the traces only.
#[derive(Default)]
struct Namesakes<'a> {
    old: Vec<&'a Site>,
    new: Vec<&'a Site>,
}

/// A site without a name is a namesake of nobody.
fn by_names<'a>(
    old: impl Iterator<Item = &'a Site>,
    new: Vec<&'a Site>,
) -> HashMap<(Option<String>, &'a str), Namesakes<'a>> {
    let key = |site: &'a Site| {
        let name = name_id(site.origin, &site.user_stack, &site.kernel_stack);
        let id = if name.is_some() { "" } else { site.id.as_str() };
        (name, id)
    };
    let mut map: HashMap<_, Namesakes<'_>> = HashMap::new();
    old.for_each(|site| map.entry(key(site)).or_default().old.push(site));
    new.into_iter().for_each(|site| map.entry(key(site)).or_default().new.push(site));
    map
}

impl Namesakes<'_> {
    /// As many before as after are paired in the order of their offsets or lines, which a rebuild seldom changes. Where their
    /// number has changed, nobody can tell which is which: they are one row.
    fn rows(mut self) -> Vec<SiteDifference> {
        for sites in [&mut self.old, &mut self.new] {
            sites.sort_by_key(|site| order(site));
        }
        match (self.old.len(), self.new.len()) {
            (_, 0) => self.old.into_iter().map(gone_row).collect(),
            (0, _) => self.new.into_iter().map(|site| compared(None, site, MatchedBy::Functions)).collect(),
            (old, new) if old == new => {
                let pairs = self.old.into_iter().zip(self.new);
                pairs.map(|(old, new)| compared(Some(old), new, MatchedBy::Functions)).collect()
            }
            _ => self.together().into_iter().collect(),
        }
    }

    /// One row, which bears the id of the site that has most.
    fn together(&self) -> Option<SiteDifference> {
        let sum = |sites: &[&Site]| sites.iter().map(|site| site.aged).sum();
        let most = self.new.iter().max_by_key(|site| (site.aged, Reverse(site.id.as_str())))?;
        let mut row = row(most, Some(MatchedBy::Functions), sum(&self.old), sum(&self.new));
        row.merged = self.old.len().max(self.new.len()) as u64;
        Some(row)
    }
}

/// Offsets of native frames, lines of a script's.
fn order(site: &Site) -> (Vec<u64>, Vec<u64>) {
    let place = |frame: &UserFrame| match frame.runtime {
        Some(_) => frame.line.unwrap_or_default().into(),
        None => frame.offset,
    };
    let user = telling(&site.user_stack).map(place).collect();
    let kernel = site.kernel_stack.iter().map(|frame| frame.offset).collect();
    (user, kernel)
}

fn compared(before: Option<&Site>, after: &Site, matched_by: MatchedBy) -> SiteDifference {
    let matched_by = before.map(|_| matched_by);
    row(after, matched_by, before.map_or(0, |site| site.aged), after.aged)
}

fn gone_row(before: &Site) -> SiteDifference {
    row(before, None, before.aged, 0)
}

fn row(site: &Site, matched_by: Option<MatchedBy>, before: u64, after: u64) -> SiteDifference {
    SiteDifference {
        id: site.id.clone(),
        name_id: name_id(site.origin, &site.user_stack, &site.kernel_stack),
        matched_by,
        merged: 1,
        origin: site.origin,
        before,
        after,
        change: signed(after).saturating_sub(signed(before)),
        processes: site.processes.clone(),
        kernel_stack: site.kernel_stack.clone(),
        user_stack: site.user_stack.clone(),
        user_stack_complete: site.user_stack_complete,
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
