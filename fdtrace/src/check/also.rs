//! What else is worth a word, leak or not.

use std::collections::{BTreeMap, HashSet};

use super::{
    Also, AlsoKind, TopHolder,
    judge::{Image, Judge, LeftOpen, OpenAt, Shortages},
    places::{Place, Places},
    rule::{Judged, example},
};
use crate::{check::Class, report::Example, stream::ImageKey};

/// `TCP_CLOSE_WAIT` (include/net/tcp_states.h)
const CLOSE_WAIT: u8 = 8;
/// Handles that are named.
const MOST_EXAMPLES: usize = 3;
/// Call sites that are named when there is nothing left.
const MOST_HOLDERS: usize = 5;
/// Entries of a kind that are listed.
const MOST: usize = 10;

/// Where a site is, in a few words, and its id, for whoever knows the document.
pub(super) type Name<'a> = &'a dyn Fn(Place) -> (String, String);

/// All that was noticed besides.
pub(super) fn noticed(
    judge: &Judge,
    places: &Places,
    judged: &[Judged],
    start_ns: u64,
    close_wait_ms: u32,
    name: Name<'_>,
) -> Vec<Also> {
    let shortages = judge.shortages().iter();
    let mut all: Vec<Also> =
        shortages.filter_map(|shortage| of_shortage(judge, places, shortage, name)).collect();
    all.extend(judged.iter().filter(|site| site.class == Class::Exec).map(|site| of_exec(judge, site)));
    let with_peers = judged.iter().filter(|site| site.class == Class::GrowingWithPeers);
    all.extend(with_peers.map(|site| of_peers(judge, site, name)));
    all.extend(of_ends(judge, judged, name));
    all.extend(of_handles(judge, places, close_wait_ms, name));
    all.extend(peaks(judge));
    for also in &mut all {
        also.at_ns = also.at_ns.saturating_sub(start_ns);
    }
    all.sort_by_key(|also| (also.kind, std::cmp::Reverse(also.count), also.pid));
    let mut listed: BTreeMap<AlsoKind, usize> = BTreeMap::new();
    all.retain(|also| {
        let listed = listed.entry(also.kind).or_default();
        *listed += 1;
        *listed <= MOST
    });
    all
}

fn also(judge: &Judge, kind: AlsoKind, image: ImageKey, count: u64) -> Also {
    let found = judge.image(image);
    Also {
        kind,
        pid: image.tgid,
        comm: found.map(Image::name).unwrap_or_default(),
        count,
        limit: found.map(|image| image.limit).filter(|limit| *limit > 0),
        at_ns: judge.end_of(image),
        examples: Vec::new(),
        processes: 1,
        top: Vec::new(),
        from: None,
        fatal: false,
    }
}

fn of_shortage(judge: &Judge, places: &Places, shortage: &Shortages, name: Name<'_>) -> Option<Also> {
    let kind = match shortage.errno {
        libc::EMFILE => AlsoKind::Emfile,
        libc::ENFILE => AlsoKind::Enfile,
        _ => return None,
    };
    let mut by_place: BTreeMap<Place, u64> = BTreeMap::new();
    for (index, live) in &shortage.top {
        *by_place.entry(places.place(judge.group_at(*index))).or_default() += live;
    }
    let mut top: Vec<TopHolder> = by_place
        .into_iter()
        .map(|(place, live)| {
            let (site, place) = name(place);
            TopHolder { site, place, live }
        })
        .collect();
    top.sort_by_key(|holder| std::cmp::Reverse(holder.live));
    top.truncate(MOST_HOLDERS);
    let own = also(judge, kind, shortage.image, shortage.times);
    // ENFILE is about the limit of the system.
    let limit = Some(shortage.limit).filter(|limit| *limit > 0 && kind == AlsoKind::Emfile);
    Some(Also { limit, at_ns: shortage.time, top, ..own })
}

fn of_exec(judge: &Judge, site: &Judged) -> Also {
    let examples = site.examples.iter().take(MOST_EXAMPLES).cloned().collect();
    Also { examples, ..also(judge, AlsoKind::Exec, site.worst, site.leaked) }
}

fn of_peers(judge: &Judge, site: &Judged, name: Name<'_>) -> Also {
    let examples = site.examples.iter().take(MOST_EXAMPLES).cloned().collect();
    let (id, place) = name(site.place);
    Also {
        examples,
        processes: site.images_in_all,
        top: vec![TopHolder { site: id, place, live: site.leaked }],
        ..also(judge, AlsoKind::GrowingWithPeers, site.worst, site.leaked)
    }
}

/// What lived until a program's end is one remark: a line of a script may have several call sites.
fn of_ends(judge: &Judge, judged: &[Judged], name: Name<'_>) -> Vec<Also> {
    let mut by_image: BTreeMap<ImageKey, Vec<TopHolder>> = BTreeMap::new();
    for site in judged.iter().filter(|site| site.class == Class::Teardown) {
        let (id, place) = name(site.place);
        by_image.entry(site.worst).or_default().push(TopHolder { site: id, place, live: site.leaked });
    }
    let remark = |(image, mut top): (ImageKey, Vec<TopHolder>)| {
        top.sort_by_key(|holder| std::cmp::Reverse(holder.live));
        let count = top.iter().map(|holder| holder.live).sum();
        Also { top, ..also(judge, AlsoKind::Teardown, image, count) }
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

fn of_handles(judge: &Judge, places: &Places, close_wait_ms: u32, name: Name<'_>) -> Vec<Also> {
    let mut found: BTreeMap<(AlsoKind, Whose), Found> = BTreeMap::new();
    let alive: Vec<(usize, LeftOpen)> = judge.still_held().collect();
    let gone = judge.groups().flat_map(|(index, group)| group.left.iter().map(move |left| (index, left)));
    let all: Vec<(usize, &LeftOpen)> = gone.chain(alive.iter().map(|(index, left)| (*index, left))).collect();
    let acquired = acquired(&all);
    // The handle that a duplicate points to says the same.
    for (index, left) in all.into_iter().filter(|(_, left)| left.of == 0) {
        let group = judge.group_at(index);
        let maker = group.image;
        for (kind, holder) in remarks(judge, maker, left, close_wait_ms) {
            let count = if kind == AlsoKind::Inherit { inherited(left, holder, &acquired) } else { 1 };
            if count == 0 {
                continue;
            }
            let whose = match kind {
                AlsoKind::CloseWait => Whose::Site(places.place(group)),
                _ => Whose::Image(holder),
            };
            let entry = found.entry((kind, whose)).or_default();
            entry.count += count;
            *entry.holders.entry(holder).or_default() += count;
            if kind == AlsoKind::Inherit {
                entry.from = judge.image(maker).map(Image::name);
            }
            if entry.examples.len() < MOST_EXAMPLES && left.held.name.is_some() {
                let end = judge.end_of(holder);
                entry.examples.push(example(left, maker, end));
            }
        }
    }
    found.into_iter().filter_map(|((kind, whose), found)| of_found(judge, kind, whose, found, name)).collect()
}

fn of_found(judge: &Judge, kind: AlsoKind, whose: Whose, found: Found, name: Name<'_>) -> Option<Also> {
    let (holder, _) = found.holders.iter().max_by_key(|(key, count)| (**count, std::cmp::Reverse(**key)))?;
    let top = match whose {
        Whose::Image(_) => Vec::new(),
        Whose::Site(place) => {
            let (site, place) = name(place);
            vec![TopHolder { site, place, live: found.count }]
        }
    };
    Some(Also {
        processes: found.holders.len() as u64,
        top,
        examples: found.examples,
        from: found.from,
        ..also(judge, kind, *holder, found.count)
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
fn remarks(judge: &Judge, maker: ImageKey, left: &LeftOpen, close_wait_ms: u32) -> Vec<(AlsoKind, ImageKey)> {
    let mut remarks = Vec::new();
    let Some(open) = left.at_exit().rfind(|open| open.fd > 2) else {
        return remarks;
    };
    if open.socket_state == CLOSE_WAIT && open.waiting >= close_wait_ms {
        remarks.push((AlsoKind::CloseWait, open.image));
    }
    if open.deleted {
        remarks.push((AlsoKind::Deleted, open.image));
    }
    // A descriptor for standard input, output or error is meant to be passed on.
    let is_standard = left.held.at.iter().any(|open| open.fd <= 2);
    let executed = judge.image(open.image).is_some_and(|image| image.executed);
    if !is_standard && executed && open.image != maker && !judge.is_forked_from(open.image, maker) {
        remarks.push((AlsoKind::Inherit, open.image));
    }
    remarks
}

/// Programs that had more than half of what they may have.
fn peaks(judge: &Judge) -> impl Iterator<Item = Also> {
    let near = |(key, image): (&ImageKey, &Image)| {
        let (most, when) = image.peak;
        let is_near = image.limit > 0 && most > image.limit / 2;
        is_near.then(|| Also { at_ns: when, ..also(judge, AlsoKind::Peak, *key, most) })
    };
    judge.images().filter_map(near)
}
