//! Cold stages as global functions, which the verifier checks once each.

use aya_ebpf::bindings::xdp_md;
use lb_common::{
    engine::{self, STAGE_DROP, Stages},
    facts::Facts,
    family::V4,
};

use crate::{packet::XdpPacket, tables::BpfTables};

/// The tables as packets see them.
pub const TABLES: BpfTables<0> = BpfTables;

/// Calls the global functions below.
pub struct GlobalStages;

impl Stages<XdpPacket> for GlobalStages {
    #[inline(always)]
    fn schedule(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_schedule(packet.context(), facts)
    }

    #[inline(always)]
    fn choose(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_choose(packet.context(), facts)
    }

    #[inline(always)]
    fn insert(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_insert4(packet.context(), facts)
    }
}

/// Keeps an argument that a stage does not need yet: callers would pass
/// garbage for an unused one, and the verifier insists on a context.
#[inline(always)]
fn keep(ctx: *mut xdp_md) {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {ctx} */", ctx = in(reg) ctx, options(nostack)) };
}

/// A stage as a global function of the context and the facts. The verifier
/// wants the null check; no caller passes null.
macro_rules! stage {
    ($name:ident, $ctx:ident, $facts:ident => $body:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($ctx: *mut xdp_md, $facts: *mut Facts) -> u32 {
            keep($ctx);
            if $facts.is_null() {
                return STAGE_DROP;
            }
            // SAFETY: not null, and the caller's own.
            let $facts = unsafe { &mut *$facts };
            $body
        }
    };
}

stage!(lvx_schedule, ctx, facts =>
    engine::schedule(&mut XdpPacket::new(ctx), TABLES, &GlobalStages, facts));
stage!(lvx_choose, ctx, facts => engine::choose(TABLES, facts));
stage!(lvx_insert4, ctx, facts => engine::insert::<V4, _>(TABLES, facts));
