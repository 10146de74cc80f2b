//! The programs that guests run carry no debug information: all of a guest's files lie in its memory, twice while it boots.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,--strip-debug");
}
