//! Images: one program in one process.

use std::collections::HashMap;

use crate::stream::Name;

/// Index of an image in [`Images`].
pub type ImageId = u32;

/// One program in one process.
#[derive(Clone, Debug)]
pub struct Image {
    /// The process.
    pub tgid: u32,
    /// Distinguishes it from every other image of this trace.
    pub serial: u64,
    /// Its name, as the last fork or exec said; `None` when it was there before tracing.
    pub comm: Option<Name>,
    /// The path given to `execve`, when that was seen.
    pub path: Option<Vec<u8>>,
    /// It runs no longer: another program took its place, or the process ended.
    pub ended: bool,
    /// Live handles that it allocated.
    pub live: u64,
    /// Its groups.
    pub(super) groups: Vec<u32>,
}

/// All images that still matter.
#[derive(Default)]
pub(super) struct Images {
    images: Vec<Image>,
    free: Vec<ImageId>,
    current: HashMap<u32, ImageId>,
    serial: u64,
}

impl Images {
    pub(super) fn get(&self, id: ImageId) -> &Image {
        &self.images[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: ImageId) -> &mut Image {
        &mut self.images[id as usize]
    }

    /// The image that a process runs now; a process that was never announced was there before.
    pub(super) fn current(&mut self, tgid: u32) -> ImageId {
        match self.current.get(&tgid) {
            Some(id) => *id,
            None => self.begin(tgid, None, None),
        }
    }

    /// A process runs a new image.
    pub(super) fn begin(&mut self, tgid: u32, comm: Option<Name>, path: Option<Vec<u8>>) -> ImageId {
        self.serial += 1;
        let image =
            Image { tgid, serial: self.serial, comm, path, ended: false, live: 0, groups: Vec::new() };
        let id = if let Some(id) = self.free.pop() {
            self.images[id as usize] = image;
            id
        } else {
            self.images.push(image);
            ImageId::try_from(self.images.len() - 1).unwrap_or(ImageId::MAX)
        };
        self.current.insert(tgid, id);
        id
    }

    /// What a process runs now ends; says which image that was.
    pub(super) fn end(&mut self, tgid: u32) -> Option<ImageId> {
        let id = self.current.remove(&tgid)?;
        self.images[id as usize].ended = true;
        Some(id)
    }

    /// Forgets an image that ended and of which nothing lives.
    pub(super) fn forget(&mut self, id: ImageId) {
        self.free.push(id);
    }
}
