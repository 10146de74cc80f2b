//! End-to-end tests of fdtrace.
