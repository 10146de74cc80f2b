//! Images: one program in one process.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
    sync::Arc,
};

use super::hasher::CallHasher;
use crate::{
    model::Identity,
    stream::{ImageKey, Name},
};

/// Index of an image in [`Images`].
pub type ImageId = u32;

/// One program in one process.
#[derive(Clone, Debug)]
pub struct Image {
    /// The process, and when it began to run this program.
    pub key: ImageKey,
    /// The image whose memory this one has: itself, or the one that it was forked from.
    pub space: ImageKey,
    /// Its name, as the last fork or exec said; `None` when it was there before tracing.
    pub comm: Option<Name>,
    /// The path given to `execve`, when that was seen.
    pub path: Option<Vec<u8>>,
    /// What was found out about it.
    pub identity: Option<Arc<Identity>>,
    /// It runs no longer: another program took its place, or the process ended.
    pub ended: bool,
    /// What keeps it from being forgotten: live handles that it allocated or mapped.
    pub live: u64,
    /// Its groups.
    pub(super) groups: Vec<u32>,
}

impl Image {
    /// Bytes of its names and paths.
    fn text(&self) -> usize {
        let identity = self.identity.as_ref().map_or(0, |identity| identity.weight());
        self.path.as_ref().map_or(0, Vec::len) + identity
    }
}

/// So many processes that have ended are remembered: what they had open is released behind their end.
const MAX_LATE: usize = 4096;

/// All images that still matter.
#[derive(Default)]
pub(super) struct Images {
    /// What processes ran last that have ended, and in which order they ended.
    late: HashMap<u32, Image, BuildHasherDefault<CallHasher>>,
    order: VecDeque<u32>,
    images: Vec<Image>,
    free: Vec<ImageId>,
    current: HashMap<u32, ImageId, BuildHasherDefault<CallHasher>>,
    by_key: HashMap<ImageKey, ImageId, BuildHasherDefault<CallHasher>>,
    /// Bytes of all names and paths.
    text: usize,
}

impl Images {
    pub(super) fn get(&self, id: ImageId) -> &Image {
        &self.images[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: ImageId) -> &mut Image {
        &mut self.images[id as usize]
    }

    pub(super) fn find(&self, key: ImageKey) -> Option<ImageId> {
        self.by_key.get(&key).copied()
    }

    /// The image that a process runs now, or ran last; a process that was never announced was there before.
    pub(super) fn current(&mut self, tgid: u32) -> ImageId {
        if let Some(id) = self.current.get(&tgid) {
            return *id;
        }
        match self.late.get(&tgid) {
            Some(image) => self.find(image.key).unwrap_or_else(|| self.add(self.late[&tgid].clone())),
            None => self.begin(ImageKey { tgid, since: 0 }, None, None),
        }
    }

    /// A process was there before tracing and has done nothing yet; `None` when it runs something else by now.
    pub(super) fn begin_before(&mut self, key: ImageKey) -> Option<ImageId> {
        (key.since == 0 && !self.current.contains_key(&key.tgid)).then(|| self.begin(key, None, None))
    }

    /// A process runs a new image.
    pub(super) fn begin(&mut self, key: ImageKey, comm: Option<Name>, path: Option<Vec<u8>>) -> ImageId {
        // The same image twice: its announcement was lost, and it was taken for one that was there before.
        if let Some(id) = self.find(key) {
            self.images[id as usize].ended = false;
            self.current.insert(key.tgid, id);
            return id;
        }
        let id = self.add(Image {
            key,
            space: key,
            comm,
            path,
            identity: None,
            ended: false,
            live: 0,
            groups: Vec::new(),
        });
        self.current.insert(key.tgid, id);
        id
    }

    fn add(&mut self, image: Image) -> ImageId {
        self.text += image.text();
        let key = image.key;
        let id = if let Some(id) = self.free.pop() {
            self.images[id as usize] = image;
            id
        } else {
            self.images.push(image);
            ImageId::try_from(self.images.len() - 1).unwrap_or(ImageId::MAX)
        };
        self.by_key.insert(key, id);
        id
    }

    /// A process was made, with a copy of its parent's memory.
    pub(super) fn fork(&mut self, parent: u32, child: ImageKey, comm: Name) {
        let space = self.current.get(&parent).map(|id| {
            let parent = self.get(*id);
            (parent.space, parent.path.clone(), parent.identity.clone())
        });
        let id = self.begin(child, Some(comm), None);
        if let Some((space, path, identity)) = space {
            let image = self.get_mut(id);
            let before = image.text();
            (image.space, image.path, image.identity) = (space, path, identity);
            let now = image.text();
            self.text = self.text + now - before;
        }
    }

    /// Says what an image is.
    pub(super) fn identify(&mut self, id: ImageId, identity: Arc<Identity>) {
        let image = self.get_mut(id);
        let before = image.text();
        image.identity = Some(identity);
        let now = image.text();
        self.text = self.text + now - before;
    }

    /// Bytes of memory that it has.
    pub(super) fn weight(&self) -> usize {
        let keys = self.by_key.capacity() + self.current.capacity();
        let late: usize = self.late.values().map(|image| size_of::<Image>() + image.text()).sum();
        late + self.images.capacity() * size_of::<Image>()
            + keys * size_of::<(ImageKey, ImageId)>()
            + self.text
    }

    /// What a process runs now ends; says which image that was.
    pub(super) fn end(&mut self, tgid: u32) -> Option<ImageId> {
        let id = self.current.remove(&tgid)?;
        self.images[id as usize].ended = true;
        Some(id)
    }

    /// A process ends, for good; says which image that was.
    pub(super) fn exit(&mut self, tgid: u32) -> Option<ImageId> {
        let id = self.end(tgid)?;
        let image = Image { live: 0, groups: Vec::new(), ..self.images[id as usize].clone() };
        if self.late.insert(tgid, image).is_none() {
            self.order.push_back(tgid);
        }
        if self.order.len() > MAX_LATE
            && let Some(first) = self.order.pop_front()
        {
            self.late.remove(&first);
        }
        Some(id)
    }

    /// Forgets an image that ended and of which nothing lives.
    pub(super) fn forget(&mut self, id: ImageId) {
        let image = &mut self.images[id as usize];
        self.by_key.remove(&image.key);
        self.text -= image.text();
        (image.path, image.identity) = (None, None);
        self.free.push(id);
    }
}
