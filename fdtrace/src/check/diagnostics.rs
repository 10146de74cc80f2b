//! What else is worth a word, leak or not.

use std::collections::{BTreeMap, HashSet};

use super::{
    evaluate::{AllocErrors, Evaluator, Image, LeftOpen, OpenAt},
    places::{Place, Places},
    rule::{Evaluated, example},
};
use crate::{
    model::{
        Example,
        check::{Class, Diagnostic, DiagnosticKind, TopHolder},
    },
    stream::ImageKey,
};

/// `TCP_CLOSE_WAIT` (include/net/tcp_states.h)
const CLOSE_WAIT: u8 = 8;
/// Handles that are named.
const MAX_EXAMPLES: usize = 3;
/// Call sites that are named when there is nothing left.
const MAX_HOLDERS: usize = 5;
/// Entries of a kind that are listed.
const MAX: usize = 10;

/// Where a site is, in a few words, and its id, for whoever knows the document.
pub(super) type Name<'a> = &'a dyn Fn(Place) -> (String, String);

/// All that was noticed besides.
pub(super) fn noticed(
    evaluator: &Evaluator,
    places: &Places,
    evaluated: &[Evaluated],
    start_ns: u64,
    close_wait_ms: u32,
    name: Name<'_>,
) -> Vec<Diagnostic> {
    let alloc_errors = evaluator.alloc_errors().iter();
    let mut all: Vec<Diagnostic> =
        alloc_errors.filter_map(|alloc_error| of_alloc_error(evaluator, places, alloc_error, name)).collect();
    all.extend(
        evaluated.iter().filter(|site| site.class == Class::Exec).map(|site| of_exec(evaluator, site)),
    );
    let with_peers = evaluated.iter().filter(|site| site.class == Class::GrowingWithPeers);
    all.extend(with_peers.map(|site| of_peers(evaluator, site, name)));
    all.extend(of_ends(evaluator, evaluated, name));
    all.extend(of_handles(evaluator, places, close_wait_ms, name));
    all.extend(peaks(evaluator));
    for diagnostic in &mut all {
        diagnostic.at_ns = diagnostic.at_ns.saturating_sub(start_ns);
    }
    all.sort_by_key(|diagnostic| (diagnostic.kind, std::cmp::Reverse(diagnostic.count), diagnostic.pid));
    let mut listed: BTreeMap<DiagnosticKind, usize> = BTreeMap::new();
    all.retain(|diagnostic| {
        let listed = listed.entry(diagnostic.kind).or_default();
        *listed += 1;
        *listed <= MAX
    });
    all
}

fn diagnostic(evaluator: &Evaluator, kind: DiagnosticKind, image: ImageKey, count: u64) -> Diagnostic {
    let found = evaluator.image(image);
    Diagnostic {
        kind,
        pid: image.tgid,
        comm: found.map(Image::name).unwrap_or_default(),
        count,
        limit: found.map(|image| image.limit).filter(|limit| *limit > 0),
        at_ns: evaluator.end_of(image),
        examples: Vec::new(),
        processes: 1,
        top: Vec::new(),
        from: None,
        fatal: false,
    }
}

fn of_alloc_error(
    evaluator: &Evaluator,
    places: &Places,
    alloc_error: &AllocErrors,
    name: Name<'_>,
) -> Option<Diagnostic> {
    let kind = match alloc_error.errno {
        libc::EMFILE => DiagnosticKind::Emfile,
        libc::ENFILE => DiagnosticKind::Enfile,
        _ => return None,
    };
    let mut by_place: BTreeMap<Place, u64> = BTreeMap::new();
    for (index, live) in &alloc_error.top {
        *by_place.entry(places.place(evaluator.group_at(*index))).or_default() += live;
    }
    let mut top: Vec<TopHolder> = by_place
        .into_iter()
        .map(|(place, live)| {
            let (site, place) = name(place);
            TopHolder { site, place, live }
        })
        .collect();
    top.sort_by_key(|holder| std::cmp::Reverse(holder.live));
    top.truncate(MAX_HOLDERS);
    let own = diagnostic(evaluator, kind, alloc_error.image, alloc_error.times);
    // ENFILE is about the limit of the system.
    let limit = Some(alloc_error.limit).filter(|limit| *limit > 0 && kind == DiagnosticKind::Emfile);
    Some(Diagnostic { limit, at_ns: alloc_error.time, top, ..own })
}

fn of_exec(evaluator: &Evaluator, site: &Evaluated) -> Diagnostic {
    let examples = site.examples.iter().take(MAX_EXAMPLES).cloned().collect();
    Diagnostic { examples, ..diagnostic(evaluator, DiagnosticKind::Exec, site.worst, site.leaked) }
}

fn of_peers(evaluator: &Evaluator, site: &Evaluated, name: Name<'_>) -> Diagnostic {
    let examples = site.examples.iter().take(MAX_EXAMPLES).cloned().collect();
    let (id, place) = name(site.place);
    Diagnostic {
        examples,
        processes: site.images_in_all,
        top: vec![TopHolder { site: id, place, live: site.leaked }],
        ..diagnostic(evaluator, DiagnosticKind::GrowingWithPeers, site.worst, site.leaked)
    }
}

/// What lived until a program's end is one remark: a line of a script may have several call sites.
fn of_ends(evaluator: &Evaluator, evaluated: &[Evaluated], name: Name<'_>) -> Vec<Diagnostic> {
    let mut by_image: BTreeMap<ImageKey, Vec<TopHolder>> = BTreeMap::new();
    for site in evaluated.iter().filter(|site| site.class == Class::Teardown) {
        let (id, place) = name(site.place);
        by_image.entry(site.worst).or_default().push(TopHolder { site: id, place, live: site.leaked });
    }
    let remark = |(image, mut top): (ImageKey, Vec<TopHolder>)| {
        top.sort_by_key(|holder| std::cmp::Reverse(holder.live));
        let count = top.iter().map(|holder| holder.live).sum();
        Diagnostic { top, ..diagnostic(evaluator, DiagnosticKind::Teardown, image, count) }
    };
    by_image.into_iter().map(remark).collect()
}

/// Whose a remark is: sockets that wait are one remark for each site, whatever process held them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Image(ImageKey),
    Site(Place),
}

/// What handles were, in whose hands, when a program ended.
#[derive(Default)]
struct Found {
    count: u64,
    holders: BTreeMap<ImageKey, u64>,
    examples: Vec<Example>,
    from: Option<String>,
}

fn of_handles(evaluator: &Evaluator, places: &Places, close_wait_ms: u32, name: Name<'_>) -> Vec<Diagnostic> {
    let mut found: BTreeMap<(DiagnosticKind, Whose), Found> = BTreeMap::new();
    let alive: Vec<(usize, LeftOpen)> = evaluator.still_held().collect();
    let gone = evaluator.groups().flat_map(|(index, group)| group.left.iter().map(move |left| (index, left)));
    let all: Vec<(usize, &LeftOpen)> = gone.chain(alive.iter().map(|(index, left)| (*index, left))).collect();
    let acquired = acquired(&all);
    // The handle that a duplicate points to says the same.
    for (index, left) in all.into_iter().filter(|(_, left)| left.of == 0) {
        let group = evaluator.group_at(index);
        let maker = group.image;
        for (kind, holder) in remarks(evaluator, maker, left, close_wait_ms) {
            let count = if kind == DiagnosticKind::Inherit { inherited(left, holder, &acquired) } else { 1 };
            if count == 0 {
                continue;
            }
            let whose = match kind {
                DiagnosticKind::CloseWait => Whose::Site(places.place(group)),
                _ => Whose::Image(holder),
            };
            let entry = found.entry((kind, whose)).or_default();
            entry.count += count;
            *entry.holders.entry(holder).or_default() += count;
            if kind == DiagnosticKind::Inherit {
                entry.from = evaluator.image(maker).map(Image::name);
            }
            if entry.examples.len() < MAX_EXAMPLES && left.held.name.is_some() {
                let end = evaluator.end_of(holder);
                entry.examples.push(example(left, maker, end));
            }
        }
    }
    found
        .into_iter()
        .filter_map(|((kind, whose), found)| of_found(evaluator, kind, whose, found, name))
        .collect()
}

fn of_found(
    evaluator: &Evaluator,
    kind: DiagnosticKind,
    whose: Whose,
    found: Found,
    name: Name<'_>,
) -> Option<Diagnostic> {
    let (holder, _) = found.holders.iter().max_by_key(|(key, count)| (**count, std::cmp::Reverse(**key)))?;
    let top = match whose {
        Whose::Image(_) => Vec::new(),
        Whose::Site(place) => {
            let (site, place) = name(place);
            vec![TopHolder { site, place, live: found.count }]
        }
    };
    Some(Diagnostic {
        processes: found.holders.len() as u64,
        top,
        examples: found.examples,
        from: found.from,
        ..diagnostic(evaluator, kind, *holder, found.count)
    })
}

/// Descriptors that programs had installed themselves, whoever made what they point to.
fn acquired(all: &[(usize, &LeftOpen)]) -> HashSet<(ImageKey, u32)> {
    let own = all.iter().filter(|(_, left)| left.of != 0);
    own.flat_map(|(_, left)| &left.held.at).map(|open| (open.image, open.fd)).collect()
}

/// How many descriptors of a handle a program had at its end and had not installed itself.
fn inherited(left: &LeftOpen, holder: ImageKey, acquired: &HashSet<(ImageKey, u32)>) -> u64 {
    let inherited = |open: &&OpenAt| open.image == holder && !acquired.contains(&(open.image, open.fd));
    left.at_exit().filter(inherited).count() as u64
}

/// What is to be said of one handle, and of whom.
fn remarks(
    evaluator: &Evaluator,
    maker: ImageKey,
    left: &LeftOpen,
    close_wait_ms: u32,
) -> Vec<(DiagnosticKind, ImageKey)> {
    let mut remarks = Vec::new();
    let Some(open) = left.at_exit().rfind(|open| open.fd > 2) else {
        return remarks;
    };
    if open.socket_state == CLOSE_WAIT && open.waiting >= close_wait_ms {
        remarks.push((DiagnosticKind::CloseWait, open.image));
    }
    if open.deleted {
        remarks.push((DiagnosticKind::Deleted, open.image));
    }
    // A descriptor for standard input, output or error is meant to be passed on.
    let is_standard = left.held.at.iter().any(|open| open.fd <= 2);
    let executed = evaluator.image(open.image).is_some_and(|image| image.executed);
    if !is_standard && executed && open.image != maker && !evaluator.is_forked_from(open.image, maker) {
        remarks.push((DiagnosticKind::Inherit, open.image));
    }
    remarks
}

/// Programs that had more than half of what they may have.
fn peaks(evaluator: &Evaluator) -> impl Iterator<Item = Diagnostic> {
    let near = |(key, image): (&ImageKey, &Image)| {
        let (most, when) = image.peak;
        let is_near = image.limit > 0 && most > image.limit / 2;
        is_near.then(|| Diagnostic { at_ns: when, ..diagnostic(evaluator, DiagnosticKind::Peak, *key, most) })
    };
    evaluator.images().filter_map(near)
}
