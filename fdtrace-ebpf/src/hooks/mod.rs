//! Where the programs attach: one file per backend for the two ends of a handle's life, one for processes, one for
//! allocations that fail, one for libraries of processes.

mod failures;
mod fentry;
mod kprobe;
mod processes;
mod tracepoint;
mod work_queues;
