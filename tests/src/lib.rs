//! End-to-end tests of fdtrace.
//!
//! [`workload`] is a program whose handles are known exactly; [`harness`] runs it beside the tracer; [`expected`] says, per
//! kernel and backend, how closely the two must agree. A test compares [`truth::Truth`] with what fdtrace printed.
//! [`callsites`] is about programs whose stacks are known exactly, [`corpus`] about programs of which everybody knows
//! whether they leak.

pub mod callsites;
pub mod corpus;
pub mod expected;
pub mod guest;
pub mod harness;
pub mod hostile;
pub mod truth;
pub mod workload;
