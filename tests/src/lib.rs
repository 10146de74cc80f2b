//! End-to-end tests of fdtrace.
//!
//! [`workload`] is a program whose handles are known exactly; [`harness`] runs it beside the tracer; [`expected`] says, per
//! kernel and backend, how closely the two must agree. A test compares [`truth::Truth`] with what fdtrace printed.

pub mod expected;
pub mod harness;
pub mod truth;
pub mod workload;
