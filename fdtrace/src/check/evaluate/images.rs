//! The programs that ran, and which came from which.

use std::{collections::HashMap, sync::Arc};

use crate::{
    model::{Identity, check::Ended},
    stream::{ImageKey, Name, name_text},
};

/// Ancestors that a process is known to come from.
const MAX_ANCESTORS: usize = 32;

/// One program in one process.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The image that was there before it: its parent's for one that was forked, its process's own for one that was executed.
    pub(crate) before: Option<ImageKey>,
    /// It was executed: its memory is its own.
    pub(crate) executed: bool,
    /// Its process, by the image that it began with, and those that it comes from, the nearest first.
    pub(crate) line: Arc<[ImageKey]>,
    /// The image with which its table of descriptors began: images that share a table have the same.
    pub(crate) table: ImageKey,
    pub(crate) comm: Name,
    pub(crate) path: Vec<u8>,
    pub(crate) identity: Option<Arc<Identity>>,
    /// When it ended (ns), and how.
    pub(crate) ended: Option<(u64, Ended)>,
    /// Its soft limit of descriptors, when it said so; 0 for not known.
    pub(crate) limit: u64,
    /// Handles that it made and that are alive.
    pub(crate) live: u64,
    /// The most of those at once, and when.
    pub(crate) peak: (u64, u64),
    /// Its groups.
    pub(crate) groups: Vec<usize>,
    /// It is not forgotten, although it has nothing of its own.
    remembered: bool,
}

impl Image {
    fn new(key: ImageKey, before: Option<ImageKey>, executed: bool, comm: Name) -> Self {
        Self {
            before,
            executed,
            line: [key].into(),
            table: key,
            comm,
            path: Vec::new(),
            identity: None,
            ended: None,
            limit: 0,
            live: 0,
            peak: (0, 0),
            groups: Vec::new(),
            remembered: false,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        let reported =
            self.identity.as_ref().map(|identity| identity.comm.as_str()).filter(|comm| !comm.is_empty());
        reported.map_or_else(|| name_text(&self.comm), str::to_owned)
    }

    /// Its program.
    pub(crate) fn program(&self) -> String {
        let reported =
            self.identity.as_ref().map(|identity| identity.exe.as_str()).filter(|exe| !exe.is_empty());
        reported.map_or_else(|| String::from_utf8_lossy(&self.path).into_owned(), str::to_owned)
    }
}

/// Who had a table of descriptors.
#[derive(Clone, Default)]
struct Sharers {
    all: Vec<ImageKey>,
    running: usize,
}

/// All of them that still matter.
#[derive(Clone, Default)]
pub(crate) struct Images {
    images: HashMap<ImageKey, Image>,
    current: HashMap<u32, ImageKey>,
    /// What processes are that were there before and have done nothing yet.
    idle: HashMap<ImageKey, Arc<Identity>>,
    /// Tables of descriptors that more than one process had.
    tables: HashMap<ImageKey, Sharers>,
    /// How many there were.
    pub(crate) seen: u64,
}

impl Images {
    pub(crate) fn get(&self, key: ImageKey) -> Option<&Image> {
        self.images.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: ImageKey) -> Option<&mut Image> {
        self.images.get_mut(&key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ImageKey, &Image)> {
        self.images.iter()
    }

    /// The image that a process runs now, if it is one of those that are followed.
    pub(crate) fn running_in(&self, tgid: u32) -> Option<&Image> {
        self.current.get(&tgid).and_then(|key| self.images.get(key))
    }

    /// Processes that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = u32> {
        self.current.keys().copied()
    }

    /// The image that a process runs; one that was never announced was there before.
    pub(crate) fn current(&mut self, tgid: u32) -> ImageKey {
        if let Some(key) = self.current.get(&tgid) {
            return *key;
        }
        let key = ImageKey { tgid, since: 0 };
        let identity = self.idle.remove(&key);
        self.begin(key, Image { identity, ..Image::new(key, None, true, Name::default()) });
        key
    }

    pub(crate) fn identify(&mut self, key: ImageKey, identity: Arc<Identity>) {
        if let Some(image) = self.images.get_mut(&key) {
            image.identity = Some(identity);
        } else if key.since == 0 && !self.current.contains_key(&key.tgid) {
            self.idle.insert(key, identity);
        }
    }

    pub(crate) fn fork(&mut self, parent: u32, child: ImageKey, shares: bool, comm: Name) {
        let before = self.current.get(&parent).copied();
        let mut image = Image::new(child, before, false, comm);
        if let Some(parent) = before.filter(|_| shares) {
            image.table = self.share(parent, child);
        }
        if let Some(parent) = before.and_then(|key| self.images.get(&key)) {
            (image.path, image.identity) = (parent.path.clone(), parent.identity.clone());
            image.line = [child].iter().chain(parent.line.iter().take(MAX_ANCESTORS)).copied().collect();
        }
        self.begin(child, image);
    }

    pub(crate) fn execute(&mut self, key: ImageKey, comm: Name, path: Vec<u8>) {
        let before = self.current.get(&key.tgid).copied();
        let mut image = Image { path, ..Image::new(key, before, true, comm) };
        if let Some(before) = before.and_then(|before| self.images.get(&before)) {
            image.line = Arc::clone(&before.line);
        }
        self.begin(key, image);
    }

    /// One more process has the table of another one; says which that is.
    fn share(&mut self, with: ImageKey, key: ImageKey) -> ImageKey {
        let table = self.images.get(&with).map_or(with, |image| image.table);
        let sharers = self.tables.entry(table).or_insert_with(|| Sharers { all: vec![with], running: 1 });
        sharers.all.push(key);
        sharers.running += 1;
        table
    }

    /// Whether another process that runs has the table of an image.
    pub(crate) fn is_shared(&self, key: ImageKey) -> bool {
        let table = self.images.get(&key).and_then(|image| self.tables.get(&image.table));
        table.is_some_and(|sharers| sharers.running > 1)
    }

    /// Whether two images have, or had, one table.
    pub(crate) fn share_table(&self, one: ImageKey, other: ImageKey) -> bool {
        let table = |key| self.images.get(&key).map(|image: &Image| image.table);
        one == other || table(one).is_some_and(|of_one| table(other) == Some(of_one))
    }

    /// An image that has ended lets go of its table; gives the images whose descriptors are gone by that.
    pub(crate) fn leave_table(&mut self, key: ImageKey) -> Vec<ImageKey> {
        let table = self.images.get(&key).map_or(key, |image| image.table);
        let Some(sharers) = self.tables.get_mut(&table) else { return vec![key] };
        sharers.running = sharers.running.saturating_sub(1);
        if sharers.running > 0 {
            return Vec::new();
        }
        self.tables.remove(&table).unwrap_or_default().all
    }

    fn begin(&mut self, key: ImageKey, image: Image) {
        self.seen += 1;
        self.current.insert(key.tgid, key);
        self.images.insert(key, image);
    }

    /// What a process runs ends; says which image that is.
    pub(crate) fn end(&mut self, tgid: u32, time: u64, ended: Ended) -> Option<ImageKey> {
        let key = match ended {
            // The next one says which was before it.
            Ended::Exec => *self.current.get(&tgid)?,
            _ => self.current.remove(&tgid)?,
        };
        self.images.get_mut(&key)?.ended = Some((time, ended));
        Some(key)
    }

    /// An image had something of another one's open at its end: where it came from decides whose that is.
    pub(crate) fn remember(&mut self, key: ImageKey) {
        if let Some(image) = self.images.get_mut(&key) {
            image.remembered = !image.executed || self.tables.contains_key(&image.table);
        }
    }

    /// Forgets one that has ended and of which nothing is left.
    pub(crate) fn forget(&mut self, key: ImageKey) {
        let is_remembered = self.images.get(&key).is_some_and(|image| image.remembered);
        if !is_remembered && self.current.get(&key.tgid) != Some(&key) {
            self.images.remove(&key);
        }
    }

    /// Whether one is the other, or was forked from it with nothing executed in between.
    pub(crate) fn is_forked_from(&self, mut key: ImageKey, ancestor: ImageKey) -> bool {
        loop {
            if key == ancestor {
                return true;
            }
            match self.images.get(&key) {
                Some(Image { executed: false, before: Some(before), .. }) => key = *before,
                _ => return false,
            }
        }
    }
}
