//! Cold stages as global functions, which the verifier checks once each.

use aya_ebpf::bindings::xdp_md;
use lb_common::{
    engine::{self, Stages},
    facts::Facts,
    family::V4,
    reason::Reason,
};

use crate::{packet::XdpPacket, tables::BpfTables};

/// Calls the global functions below.
pub struct GlobalStages;

impl Stages<XdpPacket> for GlobalStages {
    #[inline(always)]
    fn schedule(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_schedule4(packet.context(), facts)
    }
}

/// Keeps an argument that a stage does not need yet: callers would pass
/// garbage for an unused one, and the verifier insists on a context.
#[inline(always)]
fn keep(ctx: *mut xdp_md) {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {ctx} */", ctx = in(reg) ctx, options(nomem, nostack)) };
}

/// [`engine::schedule`] for IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lvx_schedule4(ctx: *mut xdp_md, facts: *mut Facts) -> u32 {
    keep(ctx);
    if facts.is_null() {
        return engine::stage_end(Reason::DroppedInternal);
    }
    // SAFETY: not null, and the caller's own.
    engine::schedule::<V4, _>(BpfTables, unsafe { &mut *facts })
}
