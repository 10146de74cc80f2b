//! The gate: what it says of programs, and what it does to them.

mod corpus;
