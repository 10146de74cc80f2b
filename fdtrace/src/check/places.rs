//! Which call sites are one to a person.
//!
//! A site is known by the offsets of its frames. A compiler that unrolls a loop makes several of one line; and a stack that
//! could not be followed to its end has fewer frames than the others that came the same way.

use std::collections::{BTreeSet, HashMap};

use super::evaluate::{Evaluator, Group};
use crate::{
    model::UserFrame,
    stream::{ImageKey, Site},
};
use fdtrace_common::hash;

/// A call site, or a call of which no site was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    Site(u64),
    /// The name of the user stack.
    Stack(u64),
}

/// Where a group was allocated, as far as is known.
pub(super) fn place(group: &Group) -> Place {
    group.site.map_or(Place::Stack(group.call.user_stack), Place::Site)
}

/// Sites that stand for others.
#[derive(Default)]
pub(super) struct Places {
    /// The same lines, by site.
    lines: HashMap<u64, u64>,
    /// The only one that a stack which was cut can be of, by image and site.
    whole: HashMap<(ImageKey, u64), u64>,
}

impl Places {
    pub(super) fn of(evaluator: &Evaluator) -> Self {
        let mut by_image: HashMap<ImageKey, BTreeSet<u64>> = HashMap::new();
        for (_, group) in evaluator.groups() {
            if let Some(site) = group.site {
                by_image.entry(group.image).or_default().insert(site);
            }
        }
        let mut places =
            Self { lines: same_lines(evaluator, by_image.values().flatten()), ..Self::default() };
        for (image, sites) in &by_image {
            for cut in sites {
                if let Some(whole) = places.only_whole(evaluator, *cut, sites) {
                    places.whole.insert((*image, *cut), whole);
                }
            }
        }
        places
    }

    /// Where a group was allocated, in a person's eyes.
    pub(super) fn place(&self, group: &Group) -> Place {
        group.site.map_or_else(|| place(group), |site| self.of_site(group.image, site))
    }

    /// The place of a site, in a program.
    pub(super) fn of_site(&self, image: ImageKey, site: u64) -> Place {
        let whole = self.whole.get(&(image, site)).copied();
        Place::Site(whole.unwrap_or_else(|| self.line(site)))
    }

    fn line(&self, site: u64) -> u64 {
        self.lines.get(&site).copied().unwrap_or(site)
    }

    /// For a stack that was cut: the one whole stack of the same program that begins like it, if there is but one.
    fn only_whole(&self, evaluator: &Evaluator, cut: u64, sites: &BTreeSet<u64>) -> Option<u64> {
        let short = evaluator.site(cut).filter(|site| !site.user.complete && !site.user.frames.is_empty())?;
        let longer = sites.iter().filter(|id| {
            evaluator.site(**id).is_some_and(|site| site.user.complete && begins_like(site, short))
        });
        let candidates: BTreeSet<u64> = longer.map(|id| self.line(*id)).collect();
        candidates.first().copied().filter(|_| candidates.len() == 1)
    }
}

/// For each site the least of those that have the same lines.
fn same_lines<'a>(evaluator: &Evaluator, sites: impl Iterator<Item = &'a u64>) -> HashMap<u64, u64> {
    let keys: HashMap<u64, u64> =
        sites.filter_map(|id| Some((*id, line_key(evaluator.site(*id)?)))).collect();
    let mut least: HashMap<u64, u64> = HashMap::new();
    for (site, key) in &keys {
        let known = least.entry(*key).or_insert(*site);
        *known = (*known).min(*site);
    }
    keys.into_iter().map(|(site, key)| (site, least[&key])).collect()
}

/// What a stack is by its lines; by its offsets where no line is known.
fn line_key(site: &Site) -> u64 {
    let text =
        |hash, text: &str| text.bytes().fold(hash::mix(hash, 1), |hash, byte| hash::mix(hash, byte.into()));
    let frame = |hash, frame: &UserFrame| {
        let hash = text(hash, frame.symbol.as_deref().unwrap_or_default());
        match (&frame.file, frame.line) {
            (Some(file), Some(line)) => hash::mix(text(hash, file), line.into()),
            _ => hash::mix(text(hash, frame.build_id.as_deref().unwrap_or_default()), frame.offset),
        }
    };
    let begin = text(hash::SEED, site.origin.name());
    let stack = site.user.frames.iter().fold(begin, |hash, found| frame(hash, found));
    hash::finish(hash::mix(stack, u64::from(site.user.complete)))
}

/// Whether a whole stack has the frames of a short one, innermost first. A frame whose module was gone when somebody looked
/// is known by its offset alone.
fn begins_like(whole: &Site, short: &Site) -> bool {
    let addresses = |site: &Site| -> Vec<(Option<String>, u64)> {
        let frames = site.user.frames.iter().filter(|frame| !frame.inlined);
        frames.map(|frame| (frame.build_id.clone(), frame.offset)).collect()
    };
    let (whole_at, short_at) = (addresses(whole), addresses(short));
    let alike = |one: &(Option<String>, u64), other: &(Option<String>, u64)| {
        one.1 == other.1 && (one.0 == other.0 || other.0.is_none())
    };
    whole.origin == short.origin
        && short_at.len() < whole_at.len()
        && whole_at.iter().zip(&short_at).all(|(one, other)| alike(one, other))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::Origin,
        stream::{Alloc, Call, Event, Fact, UserStack},
    };

    fn site(id: u64, frames: &[(Option<&str>, u64, Option<u32>)], complete: bool) -> Event {
        let frame = |(build_id, offset, line): &(Option<&str>, u64, Option<u32>)| {
            Arc::new(UserFrame {
                symbol: Some("f".to_owned()),
                build_id: build_id.map(str::to_owned),
                offset: *offset,
                file: line.map(|_| "f.c".to_owned()),
                line: *line,
                ..UserFrame::default()
            })
        };
        let user = UserStack { frames: frames.iter().map(frame).collect(), complete };
        Event::Fact(Box::new(Fact::Site(Arc::new(Site {
            id,
            origin: Origin::Open,
            kernel: Vec::new(),
            user,
        }))))
    }

    fn evaluator(sites: &[Event]) -> Evaluator {
        let mut evaluator = Evaluator::default();
        for n in 1..=sites.len() as u64 {
            let call = Call { user_stack: n, ..Call::default() };
            evaluator.apply(&Event::Alloc(Alloc {
                handle: n * 8,
                generation: n + 10,
                tgid: 5,
                tid: 5,
                call,
            }));
            let image = ImageKey { tgid: 5, since: 0 };
            evaluator.apply(&Event::Fact(Box::new(Fact::Belongs { image, call, site: n })));
        }
        sites.iter().for_each(|site| evaluator.apply(site));
        evaluator
    }

    fn places(evaluator: &Evaluator) -> Vec<Place> {
        let same = Places::of(evaluator);
        evaluator.groups().map(|(_, group)| same.place(group)).collect()
    }

    #[test]
    fn an_unrolled_loop_is_one_site_where_lines_are_known() {
        let of_line = |id, offset, line| site(id, &[(Some("a"), offset, line)], true);
        let unrolled =
            evaluator(&[of_line(1, 16, Some(7)), of_line(2, 32, Some(7)), of_line(3, 48, Some(8))]);
        assert_eq!(places(&unrolled), [Place::Site(1), Place::Site(1), Place::Site(3)]);
        let stripped = evaluator(&[of_line(1, 16, None), of_line(2, 32, None)]);
        assert_eq!(places(&stripped), [Place::Site(1), Place::Site(2)]);
    }

    #[test]
    fn a_stack_that_was_cut_is_of_the_only_one_that_begins_like_it() {
        let whole = site(1, &[(Some("libc"), 16, None), (Some("a"), 32, None)], true);
        let cut = site(2, &[(None, 16, None)], false);
        assert_eq!(places(&evaluator(&[whole.clone(), cut.clone()])), [Place::Site(1), Place::Site(1)]);
        let other = site(3, &[(Some("libc"), 16, None), (Some("a"), 48, None)], true);
        assert_eq!(
            places(&evaluator(&[whole, cut, other])),
            [Place::Site(1), Place::Site(2), Place::Site(3)]
        );
    }
}
