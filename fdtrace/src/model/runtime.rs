//! What runs scripts.

use super::words::words;

words! {
    /// A language's runtime.
    pub enum Runtime {
        /// Python, as python.org makes it.
        Cpython = "cpython",
        /// PHP, as php.net makes it.
        Php = "php",
        /// Perl 5, as perl.org makes it.
        Perl = "perl",
        /// Ruby, as ruby-lang.org makes it.
        Ruby = "ruby",
        /// JavaScript, as V8 runs it in Node.js.
        V8 = "v8",
        /// Java, as HotSpot runs it.
        Hotspot = "hotspot",
    }
}
