//! End-to-end tests: fdtrace beside a program whose handles are known exactly.
//!
//! They need root, or the capabilities that `fdtrace doctor` names. Environment: `FDTRACE_BIN`, `WORKLOAD_BIN`,
//! `CALLSITES_DIR` (the programs of the call site tests), `CALLSITES_ONLY` (those of them to run),
//! `CORPUS_DIR` (the programs of which everybody knows whether they leak), `CORPUS_ONLY` (those runs of them),
//! `INTERPRETERS_DIR` (interpreters of other releases, a root folder each),
//! `FDTRACE_BACKEND` (default: fdtrace's own choice), `FDTRACE_SCALE` (divides the large counts),
//! `FDTRACE_COMPARE_STACKS` (has stacks that were found without a walk compared with walks: what differs is lost),
//! `FDTRACE_DISTURB` (permits a test that disturbs other programs). Lines that begin with `RESULT` go to standard output
//! whatever the test runner does with it.

mod backends;
mod bad_input;
mod callsites;
mod check;
mod counting;
mod crowded;
mod descriptors;
mod explain;
mod following;
mod hostile;
mod hunting;
mod leaving;
mod losses;
mod mappings;
mod min_age;
mod observe;
mod older;
mod recording;
mod scripts;
mod stack_cache;
mod steps;
mod strangers;
