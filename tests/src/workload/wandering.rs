//! Opens from stacks of many shapes: small frames and large ones, frames that are aligned, and calls back from a library.

use std::hint::black_box;

use anyhow::Result;

/// What a function does at the bottom of the stack.
type Bottom<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Functions of a stack.
const DEPTH: u32 = 12;
/// A stack is repeated so often, then it is another one's turn, of so many.
const RUN: u64 = 20;
const FAVOURITES: u64 = 5;
/// One in so many turns has a stack that comes by chance.
const STRANGE: u64 = 7;

/// Goes down `count` times, by ways that are the same in each run.
pub(super) fn wander(count: u64, bottom: Bottom<'_>) -> Result<()> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..count {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let favourite = (number / RUN % FAVOURITES).wrapping_mul(0x0123_4567_89ab_cdef);
        descend(if number % STRANGE == 0 { random >> 32 } else { favourite }, DEPTH, bottom)?;
    }
    Ok(())
}

/// Two bits of the way say which function is next.
fn descend(way: u64, depth: u32, bottom: Bottom<'_>) -> Result<()> {
    if depth == 0 {
        return bottom();
    }
    match way & 3 {
        0 => small(way >> 2, depth - 1, bottom),
        1 => large(way >> 2, depth - 1, bottom),
        2 => aligned(way >> 2, depth - 1, bottom),
        _ => called_back(way >> 2, depth - 1, bottom),
    }
}

#[inline(never)]
fn small(way: u64, depth: u32, bottom: Bottom<'_>) -> Result<()> {
    let result = descend(way, depth, bottom);
    black_box(&result);
    result
}

#[inline(never)]
fn large(way: u64, depth: u32, bottom: Bottom<'_>) -> Result<()> {
    let mut locals = [0_u8; 1500];
    black_box(&mut locals)[depth as usize & 0xff] = 1;
    let result = descend(way, depth, bottom);
    black_box(&locals);
    result
}

#[repr(align(64))]
struct Aligned([u8; 64]);

#[inline(never)]
fn aligned(way: u64, depth: u32, bottom: Bottom<'_>) -> Result<()> {
    let mut locals = Aligned([0; 64]);
    black_box(&mut locals).0[depth as usize & 0x3f] = 1;
    let result = descend(way, depth, bottom);
    black_box(&locals.0);
    result
}

/// The standard library sorts two numbers, and asks which is less.
#[inline(never)]
fn called_back(way: u64, depth: u32, bottom: Bottom<'_>) -> Result<()> {
    let (mut numbers, mut result) = ([2, 1], Ok(()));
    let mut is_first = true;
    numbers.sort_unstable_by(|one, other| {
        if std::mem::take(&mut is_first) {
            result = descend(way, depth, bottom);
        }
        one.cmp(other)
    });
    black_box(&numbers);
    result
}
