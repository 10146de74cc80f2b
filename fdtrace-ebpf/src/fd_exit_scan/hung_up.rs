//! Since when the peer of a socket has hung up.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::LruHashMap,
    programs::RawTracePointContext,
};

use crate::{
    kernel::{Ptr, sock},
    task::now,
};

/// `TCP_CLOSE_WAIT` (include/net/tcp_states.h)
const CLOSE_WAIT: u8 = 8;

const BPF_ANY: u64 = 0;

/// When a socket came into CLOSE_WAIT, by its `struct sock`.
#[map]
static HUNG_UP: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn socket_state(ctx: RawTracePointContext) -> i32 {
    if ctx.arg::<u64>(2) as u32 == u32::from(CLOSE_WAIT) {
        // What finds no room waits for longer than anybody knows.
        let _ = HUNG_UP.insert(ctx.arg::<u64>(0), now(), BPF_ANY);
    }
    0
}

/// How many ms a socket has been in CLOSE_WAIT; 0 for one that is not.
#[inline(always)]
pub(super) fn since(sock: Ptr<sock>, state: u8, time: u64) -> u32 {
    if state != CLOSE_WAIT {
        return 0;
    }
    let Some(since) = HUNG_UP.get_ptr(sock.address()) else { return u32::MAX };
    // SAFETY: the pointer is to a value of the map, not null; a race with another CPU gives one of two times.
    (time.wrapping_sub(unsafe { *since }) / 1_000_000) as u32
}
