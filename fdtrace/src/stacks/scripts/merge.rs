//! Calls of scripts among native frames: where the evaluation loop that runs them is.

use std::ops::Range;

use fdtrace_common::{scripts::Call, wire::Side};

use crate::stream::ScriptCalls;

/// Puts calls before the frames that run them, innermost first. `frames` are places of two words each, `stacks` the stack
/// pointer of each of them.
pub(crate) fn merge(frames: &[u64], stacks: &[u64], calls: &ScriptCalls, loops: &[Range<u64>]) -> Box<[u64]> {
    let words = Side::Code.words();
    let mut merged = Vec::with_capacity(frames.len() + calls.calls.len() * words);
    let mut runs = calls.calls.split_inclusive(|call| call.ends_run != 0).peekable();
    for (index, frame) in frames.chunks_exact(words).enumerate() {
        // A frame ends where its caller's begins.
        let lies_in = |border| {
            border >= stacks.get(index).copied().unwrap_or(u64::MAX)
                && stacks.get(index + 1).is_some_and(|end| border < *end)
        };
        let is_loop = frame[0] == calls.module && loops.iter().any(|range| range.contains(&frame[1]));
        let border_of = |run: &[Call]| run.last().map_or(0, |call| call.border);
        let without_border = runs.next_if(|run| border_of(run) == 0 && is_loop);
        merged.extend(without_border.into_iter().flatten().flat_map(place));
        // Where code keeps no frame pointer, a guess can go past frames of others.
        while let Some(run) = runs.next_if(|run| border_of(run) != 0 && lies_in(border_of(run))) {
            merged.extend(run.iter().flat_map(place));
        }
        merged.extend(frame);
    }
    // What is left was called from frames that the native walk did not come to.
    merged.extend(runs.flatten().flat_map(place));
    merged.into()
}

fn place(call: &Call) -> [u64; 2] {
    [call.code, i64::from(call.instruction).cast_unsigned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: u64 = 11;

    fn call(code: u64, border: u64, ends_run: u32) -> Call {
        Call { code, border, instruction: 0, ends_run }
    }

    fn merged(frames: &[(u64, u64)], stacks: &[u64], calls: &[Call]) -> Vec<u64> {
        let frames: Vec<u64> = frames.iter().flat_map(|(module, offset)| [*module, *offset]).collect();
        let calls = ScriptCalls { hash: 1, module: MODULE, stacks: Vec::new(), calls: calls.to_vec() };
        let evaluation = 100..200;
        let merged = merge(&frames, stacks, &calls, std::slice::from_ref(&evaluation));
        merged.chunks_exact(2).map(|place| place[0]).collect()
    }

    #[test]
    fn borders_tell_where_runs_are() {
        let frames = [(1, 5), (MODULE, 150), (MODULE, 300), (MODULE, 150), (3, 1)];
        let stacks = [0x100, 0x200, 0x300, 0x400, 0x500];
        let calls = [call(4, 0, 0), call(6, 0x2f0, 1), call(8, 0x410, 1)];
        assert_eq!(merged(&frames, &stacks, &calls), [1, 4, 6, MODULE, MODULE, 8, MODULE, 3]);
    }

    #[test]
    fn a_frame_may_hide_others() {
        let calls = [call(4, 0x110, 1), call(6, 0x1a0, 1), call(8, 0x210, 1)];
        let stacks = [0x100, 0x200, 0x300];
        assert_eq!(merged(&[(1, 5), (2, 5)], &stacks, &calls), [4, 6, 1, 8, 2]);
    }

    #[test]
    fn without_borders_each_loop_runs_one() {
        let frames = [(MODULE, 150), (MODULE, 300), (MODULE, 199)];
        let calls = [call(4, 0, 1), call(6, 0, 1)];
        assert_eq!(merged(&frames, &[], &calls), [4, MODULE, MODULE, 6, MODULE]);
    }

    #[test]
    fn what_lies_behind_a_cut_stack_comes_last() {
        let calls = [call(4, 0x110, 1), call(6, 0x900, 1), call(8, 0, 0)];
        assert_eq!(merged(&[(MODULE, 1), (MODULE, 2)], &[0x100, 0x200], &calls), [4, MODULE, MODULE, 6, 8]);
        assert_eq!(merged(&[], &[], &calls), [4, 6, 8]);
    }
}
