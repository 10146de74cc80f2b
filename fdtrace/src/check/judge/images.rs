//! The programs that ran, and which came from which.

use std::{collections::HashMap, sync::Arc};

use crate::{
    check::Ended,
    stream::{Identity, ImageKey, Name, name_text},
};

/// One program in one process.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The image that was there before it: its parent's for one that was forked, its process's own for one that was executed.
    pub(crate) before: Option<ImageKey>,
    /// It was executed: its memory is its own.
    pub(crate) executed: bool,
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
}

impl Image {
    fn new(before: Option<ImageKey>, executed: bool, comm: Name) -> Self {
        Self {
            before,
            executed,
            comm,
            path: Vec::new(),
            identity: None,
            ended: None,
            limit: 0,
            live: 0,
            peak: (0, 0),
            groups: Vec::new(),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        let told =
            self.identity.as_ref().map(|identity| identity.comm.as_str()).filter(|comm| !comm.is_empty());
        told.map_or_else(|| name_text(&self.comm), str::to_owned)
    }

    /// Its program.
    pub(crate) fn program(&self) -> String {
        let told = self.identity.as_ref().map(|identity| identity.exe.as_str()).filter(|exe| !exe.is_empty());
        told.map_or_else(|| String::from_utf8_lossy(&self.path).into_owned(), str::to_owned)
    }
}

/// All of them that still matter.
#[derive(Default)]
pub(crate) struct Images {
    images: HashMap<ImageKey, Image>,
    current: HashMap<u32, ImageKey>,
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
        self.begin(key, Image::new(None, true, Name::default()));
        key
    }

    pub(crate) fn fork(&mut self, parent: u32, child: ImageKey, comm: Name) {
        let before = self.current.get(&parent).copied();
        let mut image = Image::new(before, false, comm);
        if let Some(parent) = before.and_then(|key| self.images.get(&key)) {
            (image.path, image.identity) = (parent.path.clone(), parent.identity.clone());
        }
        self.begin(child, image);
    }

    pub(crate) fn execute(&mut self, key: ImageKey, comm: Name, path: Vec<u8>) {
        let before = self.current.get(&key.tgid).copied();
        self.begin(key, Image { path, ..Image::new(before, true, comm) });
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

    /// Forgets one that has ended and of which nothing is left.
    pub(crate) fn forget(&mut self, key: ImageKey) {
        if self.current.get(&key.tgid) != Some(&key) {
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
