//! A line for every packet, in a tracing build only: one line costs more
//! verified instructions than a whole stage.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use lb_common::facts::Facts;

/// Logs what became of a packet, its action as a number of `xdp_action`.
/// Addresses and ports are those of the last packet that was for a service: a
/// packet that is passed early leaves them.
#[inline(always)]
pub fn packet(ctx: &XdpContext, action: u32, facts: &Facts) {
    info!(
        ctx,
        "action {} {:i}:{} > {:i}:{} server {} length {}",
        action,
        u32::from_be(facts.src[0] as u32),
        u16::from_be(facts.src_port()),
        u32::from_be(facts.dst[0] as u32),
        u16::from_be(facts.dst_port()),
        facts.dest,
        facts.l3_len
    );
}
