//! What a process and its children have made in a time, and what is open of it.

use std::ops::RangeInclusive;

use super::{Evaluator, Group, LeftOpen, Life};
use crate::stream::{FdLookup, ImageKey};

/// A handle, or a descriptor that was acquired, that was made in that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its address, or the descriptor's key.
    pub(crate) handle: u64,
    pub(crate) generation: u64,
    pub(crate) group: usize,
    /// Which call made it: handles of one have the same number.
    pub(crate) call: u64,
    /// It is a descriptor for a handle that was there before.
    pub(crate) acquired: bool,
}

impl Made {
    fn of(handle: u64, life: &Life) -> Self {
        let Life { generation, group, call, of, .. } = *life;
        Self { handle, generation, group, call, acquired: of != 0 }
    }
}

impl Evaluator {
    /// The process that has this number now, by the image that it began with, and its name; none that is not followed.
    pub(crate) fn process(&self, tgid: u32) -> Option<(ImageKey, String)> {
        let image = self.images.running_in(tgid)?;
        Some((*image.line.first()?, image.name()))
    }

    /// What a process and its children have made in a time and is alive, oldest first.
    pub(crate) fn made(&self, process: ImageKey, time: &RangeInclusive<u64>) -> Vec<Made> {
        let is_its = |life: &Life| {
            time.contains(&life.generation) && self.comes_from(self.groups[life.group].image, process)
        };
        let alive = self.handles.iter().filter(|(_, life)| is_its(life));
        let mut made: Vec<Made> = alive.map(|(handle, life)| Made::of(*handle, life)).collect();
        made.sort_unstable_by_key(|made| (made.generation, made.handle));
        made
    }

    /// It, if it has a descriptor; not as standard input, output or error. Where nobody has looked, what is mapped has none.
    pub(crate) fn open_now(&self, made: &Made) -> Option<LeftOpen> {
        let life = self.handles.get(&made.handle).filter(|life| life.generation == made.generation)?;
        let held = self.held_by_number(made.handle, life).or_else(|| life.held.clone()).unwrap_or_default();
        let is_open = match held.descriptor {
            FdLookup::Found(_, fd) => fd > 2,
            FdLookup::Nothing => false,
            FdLookup::NotYet => life.inode == 0,
        };
        let Life { call, of_thread, generation, of, .. } = *life;
        is_open.then_some(LeftOpen { call, of_thread, generation, alive: true, of, held })
    }

    /// It, if it was open when its process ended.
    pub(crate) fn open_at_the_end(&self, made: &Made) -> Option<LeftOpen> {
        Self::left_in(self.groups.get(made.group)?).find(|left| left.generation == made.generation).cloned()
    }

    /// What a process and its children have made in a time and had open when they ended, with the group that it is of.
    pub(crate) fn left(
        &self,
        process: ImageKey,
        time: &RangeInclusive<u64>,
    ) -> impl Iterator<Item = (usize, &LeftOpen)> {
        let its = self.groups().filter(move |(_, group)| self.comes_from(group.image, process));
        its.flat_map(|(index, group)| Self::left_in(group).map(move |left| (index, left)))
            .filter(|(_, left)| time.contains(&left.generation))
    }

    fn left_in(group: &Group) -> impl Iterator<Item = &LeftOpen> {
        let is_stream = |left: &LeftOpen| left.held.at.iter().any(|open| open.fd <= 2);
        group.left.iter().filter(move |left| left.at_exit().next().is_some() && !is_stream(left))
    }

    fn comes_from(&self, image: ImageKey, process: ImageKey) -> bool {
        self.images.get(image).is_some_and(|image| image.line.contains(&process))
    }
}
