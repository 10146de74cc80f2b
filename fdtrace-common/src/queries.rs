//! What user space asks of entries that it names.

/// The most keys that one run of a query answers for.
pub const MAX_KEYS: u32 = 128;
