//! The walk of what this director's own stack sends, on the interfaces' way out.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use lb_common::{
    engine::{self, LeavingStages, STAGE_END, Verdict},
    facts::Facts,
    family::{Family, V4, V6},
};

use crate::{
    maps,
    skb::SkbPacket,
    stages::{by_family, stage},
    tables::BpfTables,
};

/// The tables as packets on their way out see them.
const TABLES: BpfTables<{ maps::OUT }> = BpfTables;

/// Translates the replies of servers that are this director, and counts those
/// that need no translation.
#[classifier]
pub fn lvx_egress(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the program's context. A packet that is forwarded was seen when it
    // came in.
    if unsafe { (*skb).ingress_ifindex } != 0 {
        return TC_ACT_UNSPEC;
    }
    let Some(facts) = maps::FACTS.get_ptr_mut(maps::OUT) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: this CPU's record; nothing else uses it, and the program is not
    // interrupted by itself.
    let facts = unsafe { &mut *facts };
    match engine::leaving(&mut SkbPacket::new(skb), TABLES, &OutStages, facts) {
        Verdict::Drop => TC_ACT_SHOT,
        // Other programs on the interface have their turn.
        Verdict::Pass | Verdict::Transmit | Verdict::Redirect(_) => TC_ACT_UNSPEC,
    }
}

/// Calls the global functions below.
struct OutStages;

impl LeavingStages<SkbPacket> for OutStages {
    #[inline(always)]
    fn extensions(&self, packet: &mut SkbPacket, facts: &mut Facts) -> u32 {
        lvx_out_extensions(packet.context(), facts)
    }

    #[inline(always)]
    fn transport(&self, packet: &mut SkbPacket, facts: &mut Facts) -> u32 {
        lvx_out_transport(packet.context(), facts)
    }

    #[inline(always)]
    fn icmp<F: Family>(&self, packet: &mut SkbPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_out_icmp4, lvx_out_icmp6, packet, facts)
    }

    #[inline(always)]
    fn count_error<F: Family>(&self, packet: &mut SkbPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_count_error4, lvx_count_error6, packet, facts)
    }

    #[inline(always)]
    fn retell<F: Family>(&self, packet: &mut SkbPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_retell4, lvx_retell6, packet, facts)
    }

    #[inline(always)]
    fn of_local<F: Family>(&self, packet: &mut SkbPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_of_local4, lvx_of_local6, packet, facts)
    }
}

stage!(lvx_out_extensions, __sk_buff, ctx, facts =>
    engine::extensions(&SkbPacket::new(ctx), facts));
stage!(lvx_out_transport, __sk_buff, ctx, facts =>
    engine::transport(&SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_out_icmp4, __sk_buff, ctx, facts =>
    engine::icmp::<V4, _, _>(&SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_out_icmp6, __sk_buff, ctx, facts =>
    engine::icmp::<V6, _, _>(&SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_count_error4, __sk_buff, ctx, facts =>
    engine::count_error::<V4, _, _>(&SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_count_error6, __sk_buff, ctx, facts =>
    engine::count_error::<V6, _, _>(&SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_retell4, __sk_buff, ctx, facts =>
    engine::retell::<V4, _, _>(&mut SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_retell6, __sk_buff, ctx, facts =>
    engine::retell::<V6, _, _>(&mut SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_of_local4, __sk_buff, ctx, facts =>
    engine::of_local::<V4, _, _>(&mut SkbPacket::new(ctx), TABLES, facts));
stage!(lvx_of_local6, __sk_buff, ctx, facts =>
    engine::of_local::<V6, _, _>(&mut SkbPacket::new(ctx), TABLES, facts));
