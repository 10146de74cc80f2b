//! The kernel's structures, as typed addresses: `file.f_inode().i_ino()` reads two fields, of the types that the table
//! [`fdtrace_common::kernel_fields`] gives them. What cannot be read is zero, and so is what this kernel does not have.

use core::{marker::PhantomData, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use fdtrace_common::fields::{Fields, Place};

/// Overwritten by the loader before the programs are verified; the name is part of the contract with it.
#[unsafe(no_mangle)]
static FIELDS: Fields = Fields::ABSENT;

/// How the memory behind an address is read.
pub(crate) trait Access {
    fn load<T: Plain>(field: *const T) -> T;
}

/// By a helper, which takes any address.
#[derive(Clone, Copy)]
pub(crate) struct Probe;

impl Access for Probe {
    #[inline(always)]
    fn load<T: Plain>(field: *const T) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: a probe read never faults, and the length is the value's own.
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, field.cast()) };
        // SAFETY: the helper has filled all of it, with zeros where it could not read; nobody asks which, since a branch at
        // each read is another way for the verifier. Any bytes are a `T`.
        unsafe { value.assume_init() }
    }
}

/// The address of a kernel structure `S`.
#[repr(transparent)]
pub(crate) struct Ptr<S, A = Probe>(*const u8, PhantomData<fn() -> (S, A)>);

impl<S, A> Clone for Ptr<S, A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, A> Copy for Ptr<S, A> {}

// SAFETY: a number, which is all that a map's value may be.
unsafe impl<S, A> Sync for Ptr<S, A> {}

impl<S, A> PartialEq for Ptr<S, A> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<S, A> Ptr<S, A> {
    pub(crate) const NULL: Self = Self::new(core::ptr::null());

    #[inline(always)]
    pub(crate) const fn new(pointer: *const u8) -> Self {
        Self(pointer, PhantomData)
    }

    #[inline(always)]
    pub(crate) fn at(address: u64) -> Self {
        Self::new(address as *const u8)
    }

    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub(crate) const fn pointer(self) -> *const u8 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// So many bytes behind.
    #[inline(always)]
    pub(crate) fn skip(self, bytes: u64) -> Self {
        Self::new(self.0.wrapping_add(bytes as usize))
    }

    /// The structure that this one lies in, so many bytes behind its beginning.
    #[inline(always)]
    pub(crate) fn around<T>(self, offset: usize) -> Ptr<T> {
        Ptr::new(self.0.wrapping_sub(offset))
    }

    /// The same memory as another structure, which begins with this one or is what this one lies at the beginning of.
    #[inline(always)]
    pub(crate) const fn cast<T>(self) -> Ptr<T> {
        Ptr::new(self.0)
    }
}

impl<T: Plain> Ptr<T> {
    /// An element of an array that begins here.
    #[inline(always)]
    pub(crate) fn nth(self, index: u64) -> T {
        Probe::load(self.0.wrapping_add(index as usize * size_of::<T>()).cast())
    }
}

/// What may be read as it lies there.
///
/// # Safety
/// Any bytes are one.
pub(crate) unsafe trait Plain: Copy {
    /// What stands for a field that this kernel does not have.
    const ZERO: Self;
}

macro_rules! plain {
    ($($type:ty = $zero:expr),*) => {$(
        // SAFETY: made of integers.
        unsafe impl Plain for $type {
            const ZERO: Self = $zero;
        }
    )*};
}
plain!(u8 = 0, u16 = 0, u32 = 0, u64 = 0, [u8; 4] = [0; 4], [u8; 16] = [0; 16]);

// SAFETY: an address is an integer.
unsafe impl<S> Plain for Ptr<S> {
    const ZERO: Self = Self::NULL;
}

/// A type of the table: how a field of that type is read.
pub(crate) trait Field {
    type Value;

    fn read<A: Access>(structure: *const u8, place: Location) -> Self::Value;
}

impl<T: Plain> Field for T {
    type Value = T;

    #[inline(always)]
    fn read<A: Access>(structure: *const u8, place: Location) -> T {
        match place.find() {
            Some(offset) => A::load(structure.wrapping_add(offset).cast()),
            None => T::ZERO,
        }
    }
}

/// A structure that lies in another: only its address is wanted.
pub(crate) struct Inside<S>(PhantomData<S>);

impl<S> Field for Inside<S> {
    type Value = Ptr<S>;

    #[inline(always)]
    fn read<A: Access>(structure: *const u8, place: Location) -> Ptr<S> {
        match place.find() {
            Some(offset) => Ptr::new(structure.wrapping_add(offset)),
            None => Ptr::NULL,
        }
    }
}

/// The low part of an integer that some kernels have wider: the first bytes, on machines that BPF is built for here.
pub(crate) struct Low<T>(PhantomData<T>);

impl<T: Plain> Field for Low<T> {
    type Value = T;

    #[inline(always)]
    fn read<A: Access>(structure: *const u8, place: Location) -> T {
        <T as Field>::read::<A>(structure, place)
    }
}

/// Where the loader has written where a field lies.
#[derive(Clone, Copy)]
pub(crate) struct Location {
    place: *const Place,
    is_required: bool,
}

impl Location {
    /// Volatile, or the compiler would use the constants above; a plain load of a frozen map, which the verifier knows the
    /// value of, so that it follows only one of the ways behind it.
    #[inline(always)]
    fn find(self) -> Option<usize> {
        // SAFETY: a place of the static, which is made of plain integers.
        let place = unsafe { core::ptr::read_volatile(self.place) };
        (self.is_required || place.exists()).then_some(place.0 as usize)
    }

    #[inline(always)]
    pub(crate) fn exists(self) -> bool {
        self.find().is_some()
    }

    /// 0 for a field that this kernel does not have.
    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        self.find().unwrap_or(0)
    }
}

macro_rules! is_required {
    (required) => {
        true
    };
    ($other:ident) => {
        false
    };
}

macro_rules! structures {
    ($($structure:ident { $($field:ident: $type:ty = $($path:literal)|+, $presence:ident $(($($detail:literal),+))?;)* })*) => {$(
        #[derive(Clone, Copy)]
        pub(crate) struct $structure {}

        impl $structure {
            $(
                #[inline(always)]
                pub(crate) fn $field() -> Location {
                    let place = &raw const FIELDS.$structure.$field;
                    Location { place, is_required: is_required!($presence) }
                }
            )*
        }

        impl<A: Access> Ptr<$structure, A> {
            $(
                #[inline(always)]
                pub(crate) fn $field(self) -> <$type as Field>::Value {
                    <$type as Field>::read::<A>(self.0, $structure::$field())
                }
            )*
        }
    )*};
}
fdtrace_common::kernel_fields!(structures);
