//! Groups that nobody has found out about yet.

use std::sync::Arc;

use super::images::Image;
use crate::{
    process::speed::slowness,
    stream::{Call, ImageKey, Name, Stack},
};

/// How often a group is kept back because a stack of it has not come through. One that found no room in the ring is sent
/// again with the next allocation of its kind, and one through unknown code takes its time, also when its process is gone
/// by then. On a usual machine: a slow one gets more.
const MAX_TRIES: u32 = 40;

/// More than this are not remembered: nobody asks.
const MAX: usize = 1 << 18;

/// A group, as somebody needs it who has to find out what it is.
#[derive(Clone, Debug)]
pub struct FreshGroup {
    /// Its image.
    pub image: ImageKey,
    /// The image whose memory it has.
    pub space: ImageKey,
    /// The image's name, when it was seen to begin.
    pub comm: Option<Name>,
    /// The path given to `execve`, when that was seen.
    pub path: Option<Vec<u8>>,
    /// Somebody has found out what the image is.
    pub identified: bool,
    /// The image runs no longer.
    pub ended: bool,
    /// Its handles are pre-existing: there is no call, and no site.
    pub existing: bool,
    /// The call.
    pub call: Call,
    /// Its user stack.
    pub user: Option<Arc<Stack>>,
    /// Its kernel stack.
    pub kernel: Option<Arc<Stack>>,
}

struct Waiting {
    image: ImageKey,
    call: Call,
    existing: bool,
    tries: u32,
}

#[derive(Default)]
pub(super) struct Fresh {
    remember: bool,
    waiting: Vec<Waiting>,
    /// Stacks that never came through.
    pub(super) unknown: u64,
}

impl Fresh {
    pub(super) fn remembered() -> Self {
        Self { remember: true, ..Self::default() }
    }

    pub(super) fn add(&mut self, image: ImageKey, call: Call, existing: bool) {
        if self.remember && self.waiting.len() < MAX {
            self.waiting.push(Waiting { image, call, existing, tries: 0 });
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn take<'a>(
        &mut self,
        stack: impl Fn(u64) -> Option<Arc<Stack>>,
        image: impl Fn(ImageKey) -> Option<&'a Image>,
    ) -> Vec<FreshGroup> {
        let mut ready = Vec::with_capacity(self.waiting.len());
        let unknown = &mut self.unknown;
        let most_tries = MAX_TRIES * slowness();
        self.waiting.retain_mut(|waiting| {
            let Waiting { image: key, call, existing, tries } = waiting;
            let (user, kernel) = (stack(call.user_stack), stack(call.kernel_stack));
            let submitter = user.as_ref().map_or(0, |user| user.submitter);
            let submission = stack(submitter);
            let missing = u64::from(call.user_stack != 0 && user.is_none())
                + u64::from(call.kernel_stack != 0 && kernel.is_none())
                + u64::from(submitter != 0 && submission.is_none());
            let image = image(*key);
            *tries += 1;
            if missing > 0 && *tries < most_tries {
                return true;
            }
            *unknown += missing;
            ready.push(FreshGroup {
                image: *key,
                space: image.map_or(*key, |image| image.space),
                comm: image.and_then(|image| image.comm),
                path: image.and_then(|image| image.path.clone()),
                identified: image.is_some_and(|image| image.identity.is_some()),
                ended: image.is_none_or(|image| image.ended),
                existing: *existing,
                call: *call,
                user: user.map(|user| with_submitter(user, submission)),
                kernel,
            });
            false
        });
        ready
    }
}

/// A stack with the one that submitted its work, where that has come.
fn with_submitter(user: Arc<Stack>, submitter: Option<Arc<Stack>>) -> Arc<Stack> {
    match submitter {
        Some(submitter) => Arc::new(user.submitted_by(&submitter)),
        None => user,
    }
}
