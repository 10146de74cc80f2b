//! Which call sites are one to a person.
//!
//! A site is known by the offsets of its frames, and of a script by its lines. A compiler that unrolls a loop makes several of
//! one line; and a stack that could not be followed to its end has fewer frames than the others that came the same way.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::evaluate::{Evaluator, Group};
use crate::{
    model::UserFrame,
    stacks::{is_script, telling},
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
            (Some(file), None) if is_script(frame) => text(hash, file),
            _ => hash::mix(text(hash, frame.build_id.as_deref().unwrap_or_default()), frame.offset),
        }
    };
    let begin = text(hash::SEED, site.origin.name());
    let stack = telling(frames(site)).fold(begin, frame);
    hash::finish(hash::mix(stack, u64::from(site.user.complete)))
}

fn frames(site: &Site) -> impl DoubleEndedIterator<Item = &UserFrame> + Clone {
    site.user.frames.iter().map(Arc::as_ref)
}

/// Whether a whole stack has the frames of a short one, innermost first.
fn begins_like(whole: &Site, short: &Site) -> bool {
    let of = |site| -> Vec<&UserFrame> { telling(frames(site)).filter(|frame| !frame.inlined).collect() };
    let (whole_at, short_at) = (of(whole), of(short));
    whole.origin == short.origin
        && short_at.len() < whole_at.len()
        && whole_at.iter().zip(&short_at).all(|(one, other)| are_alike(one, other))
}

/// Whether two frames are of one place. One whose module was gone when somebody looked is known by its offset alone.
fn are_alike(one: &UserFrame, other: &UserFrame) -> bool {
    if is_script(one) || is_script(other) {
        return one == other;
    }
    one.offset == other.offset && (one.build_id == other.build_id || other.build_id.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Origin, fixture},
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
        stack(id, frames.iter().map(frame).collect(), complete)
    }

    fn stack(id: u64, frames: Vec<Arc<UserFrame>>, complete: bool) -> Event {
        let user = UserStack { frames, complete };
        Event::Fact(Box::new(Fact::Site(Arc::new(Site {
            id,
            origin: Origin::Open,
            kernel: Vec::new(),
            user,
        }))))
    }

    /// A line of a script that comes to the kernel through this function of its interpreter.
    fn line(id: u64, native: &str, line: u32, complete: bool) -> Event {
        let end = complete.then(|| fixture::frame("_start", "/usr/lib/libc.so.6", 1));
        let frames = [
            fixture::frame("open64", "/usr/lib/libc.so.6", 1),
            fixture::frame(native, "/usr/bin/python3.11", id),
            fixture::script("load", "/app/db.py", line),
        ];
        stack(id, frames.into_iter().chain(end).map(Arc::new).collect(), complete)
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
    fn a_line_of_a_script_is_one_site_whatever_way_its_interpreter_took() {
        let lines = [line(1, "a", 7, true), line(2, "b", 7, true), line(3, "a", 8, true)];
        assert_eq!(places(&evaluator(&lines)), [Place::Site(1), Place::Site(1), Place::Site(3)]);
        let cut = [line(1, "a", 7, true), line(2, "b", 7, false), line(3, "a", 8, true)];
        assert_eq!(places(&evaluator(&cut)), [Place::Site(1), Place::Site(1), Place::Site(3)]);
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
