//! The timer that runs the sweep.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{bpf_timer, xdp_action},
    btf_maps::Array,
    helpers::{bpf_ktime_get_ns, bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
    macros::btf_map,
};
use lb_common::{
    family::{V4, V6},
    flow::sweep::{self, SweepState},
};

use crate::{
    maps::{self, BUILD_ID},
    tables::BpfTables,
};

/// The timer and what the sweep remembers. User space reads the part behind
/// the timer.
#[repr(C)]
pub struct Sweep {
    timer: bpf_timer,
    four: SweepState,
    six: SweepState,
}

#[btf_map]
pub static SWEEP: Array<Sweep, 1> = Array::new();

/// The tables as the sweep sees them.
const TABLES: BpfTables<{ maps::SWEEP }> = BpfTables;

/// `CLOCK_MONOTONIC`.
const CLOCK: u64 = 1;

/// Answers `XDP_PASS` when the timer runs with this program's callback.
#[inline(always)]
pub fn start() -> u32 {
    let Some(sweep) = SWEEP.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a map value. Initialising a timer that is initialised is refused
    // without harm.
    unsafe {
        let timer = &raw mut (*sweep).timer;
        bpf_timer_init(timer, (&raw const SWEEP).cast_mut().cast(), CLOCK);
        if bpf_timer_set_callback(timer, tick as *mut c_void) != 0
            || bpf_timer_start(timer, 0, 0) != 0
        {
            return xdp_action::XDP_ABORTED;
        }
    }
    xdp_action::XDP_PASS
}

#[inline(never)]
extern "C" fn tick(_map: *mut c_void, _key: *mut u32, sweep: *mut Sweep) -> i32 {
    // SAFETY: the timer's own map value.
    unsafe {
        let (four, six) = (&mut (*sweep).four, &mut (*sweep).six);
        four.status.version = (&raw const BUILD_ID).read_volatile();
        let began = bpf_ktime_get_ns();
        let first = sweep::run_if_due::<V4, _>(TABLES, four);
        let between = bpf_ktime_get_ns();
        let second = sweep::run_if_due::<V6, _>(TABLES, six);
        let ended = bpf_ktime_get_ns();
        let busy = &mut four.status.busy;
        *busy = busy.wrapping_add(between.wrapping_sub(began));
        let busy = &mut six.status.busy;
        *busy = busy.wrapping_add(ended.wrapping_sub(between));
        let interval = if first < second { first } else { second };
        bpf_timer_start(&raw mut (*sweep).timer, interval, 0);
    }
    0
}
