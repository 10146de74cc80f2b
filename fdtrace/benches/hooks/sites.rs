//! Call sites that open files: as many as are wanted, each below functions of its own, as in a program that opens files in
//! many places.

use std::{ffi::CStr, hint::black_box, marker::PhantomData, os::fd::OwnedFd};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Result,
};

/// The most sites that there are.
const MAX: usize = 64;

/// What a function keeps on its stack, in bytes: the frames of a stack do not all lie in one cache line.
const LOCALS: usize = 48;

/// Opens a file, somewhere.
pub(crate) type Site = fn(&CStr) -> Result<OwnedFd>;

/// The first `count` sites; there are [`MAX`].
pub(crate) fn sites(count: usize) -> &'static [Site] {
    &SITES[..count.min(MAX)]
}

/// A function of a stack.
trait Chain {
    fn open(path: &CStr) -> Result<OwnedFd>;
}

/// The innermost function of a site.
struct Innermost<const SITE: usize>;

/// A function that calls the next one.
struct Outer<Inner>(PhantomData<Inner>);

impl<const SITE: usize> Chain for Innermost<SITE> {
    #[inline(never)]
    fn open(path: &CStr) -> Result<OwnedFd> {
        let mut locals = [0_u8; LOCALS];
        // What makes it another function than the other sites', which the compiler would otherwise make one of.
        black_box(&mut locals)[0] = black_box(SITE).to_le_bytes()[0];
        let opened = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        black_box(&mut locals);
        opened
    }
}

impl<Inner: Chain> Chain for Outer<Inner> {
    #[inline(never)]
    fn open(path: &CStr) -> Result<OwnedFd> {
        let mut locals = [0_u8; LOCALS];
        black_box(&mut locals);
        let opened = Inner::open(path);
        // There is something left to do, so the call is no jump, and the function has a frame.
        black_box(&mut locals);
        opened
    }
}

type Two<Inner> = Outer<Outer<Inner>>;
/// Eight functions.
type Nest<const SITE: usize> = Outer<Two<Two<Two<Innermost<SITE>>>>>;

macro_rules! table {
    ($($high:literal)*) => { [$(
        <Nest<{ 8 * $high }> as Chain>::open,
        <Nest<{ 8 * $high + 1 }> as Chain>::open,
        <Nest<{ 8 * $high + 2 }> as Chain>::open,
        <Nest<{ 8 * $high + 3 }> as Chain>::open,
        <Nest<{ 8 * $high + 4 }> as Chain>::open,
        <Nest<{ 8 * $high + 5 }> as Chain>::open,
        <Nest<{ 8 * $high + 6 }> as Chain>::open,
        <Nest<{ 8 * $high + 7 }> as Chain>::open,
    )*] };
}

static SITES: [Site; MAX] = table!(0 1 2 3 4 5 6 7);
