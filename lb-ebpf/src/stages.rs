//! Cold stages as global functions, which the verifier checks once each.

use aya_ebpf::bindings::xdp_md;
use lb_common::{
    engine::{self, STAGE_END, Stages},
    facts::Facts,
    family::{Family, V4, V6},
};

use crate::{maps, packet::XdpPacket, tables::BpfTables};

/// The tables as packets see them.
pub const TABLES: BpfTables<{ maps::IN }> = BpfTables;

/// Calls the global functions below.
pub struct GlobalStages;

/// Calls the function of a family.
macro_rules! by_family {
    ($four:ident, $six:ident, $packet:ident, $facts:ident) => {
        if F::VERSION == 4 {
            $four($packet.context(), $facts)
        } else {
            $six($packet.context(), $facts)
        }
    };
}

impl Stages<XdpPacket> for GlobalStages {
    #[inline(always)]
    fn extensions(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_extensions(packet.context(), facts)
    }

    #[inline(always)]
    fn transport(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_transport(packet.context(), facts)
    }

    #[inline(always)]
    fn icmp<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_icmp4, lvx_icmp6, packet, facts)
    }

    #[inline(always)]
    fn relay<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_relay4, lvx_relay6, packet, facts)
    }

    #[inline(always)]
    fn answer<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_answer4, lvx_answer6, packet, facts)
    }

    #[inline(always)]
    fn tunnel_error<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_tunnel_error4, lvx_tunnel_error6, packet, facts)
    }

    #[inline(always)]
    fn classify<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_classify4, lvx_classify6, packet, facts)
    }

    #[inline(always)]
    fn choose(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_choose(packet.context(), facts)
    }

    #[inline(always)]
    fn call_id(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_call_id(packet.context(), facts)
    }

    #[inline(always)]
    fn prepare(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        lvx_prepare(packet.context(), facts)
    }

    #[inline(always)]
    fn settle<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_settle4, lvx_settle6, packet, facts)
    }

    #[inline(always)]
    fn insert<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_insert4, lvx_insert6, packet, facts)
    }

    #[inline(always)]
    fn reconsider<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_reconsider4, lvx_reconsider6, packet, facts)
    }

    #[inline(always)]
    fn template<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_template4, lvx_template6, packet, facts)
    }

    #[inline(always)]
    fn keep<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_keep4, lvx_keep6, packet, facts)
    }

    #[inline(always)]
    fn learn<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_learn4, lvx_learn6, packet, facts)
    }

    #[inline(always)]
    fn pair<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_pair4, lvx_pair6, packet, facts)
    }

    #[inline(always)]
    fn bind<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_bind4, lvx_bind6, packet, facts)
    }

    #[inline(always)]
    fn to_local<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_to_local4, lvx_to_local6, packet, facts)
    }

    #[inline(always)]
    fn to_server<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_to_server4, lvx_to_server6, packet, facts)
    }

    #[inline(always)]
    fn tell<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_tell4, lvx_tell6, packet, facts)
    }

    #[inline(always)]
    fn to_client<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_to_client4, lvx_to_client6, packet, facts)
    }

    #[inline(always)]
    fn tunnel<F: Family>(&self, packet: &mut XdpPacket, facts: &mut Facts) -> u32 {
        by_family!(lvx_tunnel4, lvx_tunnel6, packet, facts)
    }
}

/// Keeps an argument that a stage does not need yet: callers would pass
/// garbage for an unused one, and the verifier insists on a context.
#[inline(always)]
pub fn keep<C>(ctx: *mut C) {
    // SAFETY: moves a register to itself. (Without an instruction the line
    // would stand twice in the line table, which the kernel refuses.)
    unsafe { core::arch::asm!("{ctx} = {ctx}", ctx = inout(reg) ctx => _, options(nostack)) };
}

/// A stage as a global function of the context and the facts. The verifier
/// wants the null check; no caller passes null.
macro_rules! stage {
    ($name:ident, $ctx:ident, $facts:ident => $body:expr) => {
        stage!($name, xdp_md, $ctx, $facts => $body);
    };
    ($name:ident, $context:ty, $ctx:ident, $facts:ident => $body:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($ctx: *mut $context, $facts: *mut Facts) -> u32 {
            $crate::stages::keep($ctx);
            if $facts.is_null() {
                return STAGE_END;
            }
            // SAFETY: not null, and the caller's own.
            let $facts = unsafe { &mut *$facts };
            $body
        }
    };
}

stage!(lvx_extensions, ctx, facts => engine::extensions(&XdpPacket::new(ctx), facts));
stage!(lvx_transport, ctx, facts => engine::transport(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_icmp4, ctx, facts => engine::icmp::<V4, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_icmp6, ctx, facts => engine::icmp::<V6, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_relay4, ctx, facts =>
    engine::relay::<V4, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_relay6, ctx, facts =>
    engine::relay::<V6, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_tunnel_error4, ctx, facts =>
    engine::tunnel_error::<V4, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_tunnel_error6, ctx, facts =>
    engine::tunnel_error::<V6, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_answer4, ctx, facts =>
    engine::answer::<V4, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_answer6, ctx, facts =>
    engine::answer::<V6, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_classify4, ctx, facts =>
    engine::classify::<V4, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_classify6, ctx, facts =>
    engine::classify::<V6, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_choose, ctx, facts => engine::choose(TABLES, facts));
stage!(lvx_call_id, ctx, facts => engine::call_id(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_prepare, ctx, facts => engine::prepare(TABLES, facts));
stage!(lvx_settle4, ctx, facts => engine::settle::<V4, _>(TABLES, facts));
stage!(lvx_settle6, ctx, facts => engine::settle::<V6, _>(TABLES, facts));
stage!(lvx_insert4, ctx, facts => engine::insert::<V4, _>(TABLES, facts));
stage!(lvx_insert6, ctx, facts => engine::insert::<V6, _>(TABLES, facts));
stage!(lvx_reconsider4, ctx, facts => engine::reconsider::<V4, _>(TABLES, facts));
stage!(lvx_reconsider6, ctx, facts => engine::reconsider::<V6, _>(TABLES, facts));
stage!(lvx_template4, ctx, facts => engine::template::<V4, _>(TABLES, facts));
stage!(lvx_template6, ctx, facts => engine::template::<V6, _>(TABLES, facts));
stage!(lvx_keep4, ctx, facts => engine::keep::<V4, _>(TABLES, facts));
stage!(lvx_keep6, ctx, facts => engine::keep::<V6, _>(TABLES, facts));
stage!(lvx_learn4, ctx, facts => engine::learn::<V4, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_learn6, ctx, facts => engine::learn::<V6, _, _>(&XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_pair4, ctx, facts => engine::pair::<V4, _>(TABLES, facts));
stage!(lvx_pair6, ctx, facts => engine::pair::<V6, _>(TABLES, facts));
stage!(lvx_bind4, ctx, facts => engine::bind::<V4, _>(TABLES, facts));
stage!(lvx_bind6, ctx, facts => engine::bind::<V6, _>(TABLES, facts));
stage!(lvx_to_local4, ctx, facts =>
    engine::to_local::<V4, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_to_local6, ctx, facts =>
    engine::to_local::<V6, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_to_server4, ctx, facts =>
    engine::to_server::<V4, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_to_server6, ctx, facts =>
    engine::to_server::<V6, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_tell4, ctx, facts =>
    engine::tell::<V4, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_tell6, ctx, facts =>
    engine::tell::<V6, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_to_client4, ctx, facts =>
    engine::to_client::<V4, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_to_client6, ctx, facts =>
    engine::to_client::<V6, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_tunnel4, ctx, facts =>
    engine::tunnel::<V4, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));
stage!(lvx_tunnel6, ctx, facts =>
    engine::tunnel::<V6, _, _>(&mut XdpPacket::new(ctx), TABLES, facts));

pub(crate) use {by_family, stage};
