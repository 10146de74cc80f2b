//! Libraries between a program and the kernel, by the names of their files.

/// The C library itself.
const C_LIBRARY: &[&str] = &["libc.so", "libc-2", "libc.musl"];

/// Parts of it that have files of their own.
const C_LIBRARY_PARTS: &[&str] = &["ld-", "libpthread"];

/// What else a compiler puts below a program.
const RUNTIME: &[&str] =
    &["libdl", "libm.so", "librt", "libgcc_s", "libstdc++", "libc++", "libasan", "libubsan", "[vdso]"];

/// Whether a module is the C library.
pub(crate) fn is_c_library(path: &str) -> bool {
    begins(path, C_LIBRARY)
}

/// Whether it is the C library or a part of it: its functions say nothing of who called.
pub(crate) fn is_c_runtime(path: &str) -> bool {
    begins(path, C_LIBRARY) || begins(path, C_LIBRARY_PARTS)
}

/// Whether it is of the runtime of a compiled language.
pub(crate) fn is_runtime(path: &str) -> bool {
    is_c_runtime(path) || begins(path, RUNTIME)
}

fn begins(path: &str, beginnings: &[&str]) -> bool {
    let file = file_name(path);
    beginnings.iter().any(|beginning| file.starts_with(beginning))
}

/// A path without its folder.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
