//! libuv's queue of work (src/threadpool.c), by which Node.js has files opened in other threads.

use serde::{Deserialize, Serialize};

use super::Image;

/// `void uv__work_submit(uv_loop_t* loop, struct uv__work* w, ...)`: whoever asks for something is on the stack.
const SUBMIT: &str = "uv__work_submit";
/// `void work(struct uv__work* w)`: what does it, by the type of the request.
const WORK: [&str; 5] =
    ["uv__fs_work", "uv__getaddrinfo_work", "uv__getnameinfo_work", "uv__queue_work", "uv__random_work"];

/// Where a file has the two ends of the queue; offsets in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkQueue {
    /// The function that submits a request, its second argument.
    pub(crate) submit: u64,
    /// Those that work on one, their first argument. Of a thread that works all must be known, or one request would be taken
    /// for another.
    pub(crate) work: Vec<u64>,
}

/// Whether a function works on a request that another thread has submitted.
pub(crate) fn works_for_another(function: &str) -> bool {
    WORK.contains(&function)
}

pub(super) fn symbols() -> impl Iterator<Item = &'static str> {
    [SUBMIT].into_iter().chain(WORK)
}

impl WorkQueue {
    /// That of a file; `offset` gives the place of an address in it. `None` where symbols are missing.
    pub(crate) fn of(image: &Image, offset: impl Fn(u64) -> u64) -> Option<Self> {
        let submit = offset(image.symbol(SUBMIT)?);
        let work: Vec<u64> = WORK.iter().filter_map(|name| image.symbol(name)).map(offset).collect();
        (!work.is_empty()).then_some(Self { submit, work })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(symbols: &[(&'static str, u64)]) -> Image {
        Image { path: String::new(), symbols: symbols.iter().copied().collect(), said: None }
    }

    #[test]
    fn a_queue_has_two_ends() {
        let offset = |address: u64| address - 0x1000;
        let both = image(&[("uv__work_submit", 0x1010), ("uv__fs_work", 0x1020), ("uv__queue_work", 0x1030)]);
        let found = WorkQueue { submit: 0x10, work: vec![0x20, 0x30] };
        assert_eq!(WorkQueue::of(&both, offset), Some(found));
        assert_eq!(WorkQueue::of(&image(&[("uv__work_submit", 0x1010)]), offset), None);
        assert_eq!(WorkQueue::of(&image(&[("uv__fs_work", 0x1010)]), offset), None);
    }
}
