//! Queues of work in programs, watched as soon as they are met.

use crate::{
    kernel::Tracer,
    stacks::{Modules, QueueFile, Readers},
};

/// Watches those that were met since this was called last. What cannot be is said once.
pub(crate) fn watch_queues(tracer: &mut Tracer, modules: &Modules, readers: &Readers) {
    for QueueFile { path, file, queue } in modules.scripts.take_queues() {
        let watched = match queue {
            Some(queue) => tracer.watch_queue(&file, queue.submit, &queue.work),
            None => Err("it has no symbols of libuv".to_owned()),
        };
        if let Err(why) = watched {
            let path = path.display();
            readers.remark(format!(
                "{path}: its asynchronous work is not followed back to who submitted it: {why}"
            ));
        }
    }
}
