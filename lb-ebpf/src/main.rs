//! lvx's programs in the kernel: a thin shell around `lb_common`'s engine.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features)]

mod capture;
mod cell;
mod leaving;
mod maps;
mod packet;
mod search;
mod skb;
mod stages;
mod sweep;
mod tables;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use lb_common::engine::{self, Verdict};

use crate::{packet::XdpPacket, stages::GlobalStages, tables::BpfTables};

/// The data plane. `frags`: frames larger than a page come in pieces, with the
/// headers in the first.
#[xdp(frags)]
pub fn lvx(ctx: XdpContext) -> u32 {
    let (action, egress) = decide::<{ maps::IN }>(&ctx);
    finish(action, egress)
}

/// The same for `lvx capture`, which puts it in the other's place for a while.
#[xdp(frags)]
pub fn lvx_capture(ctx: XdpContext) -> u32 {
    let wanted = capture::before(ctx.ctx);
    let (action, egress) = decide::<{ maps::CAPTURED }>(&ctx);
    if wanted {
        capture::after(ctx.ctx, action, egress);
    }
    finish(action, egress)
}

/// What becomes of a packet, and the interface of one that is redirected.
#[inline(always)]
fn decide<const LOOP: u32>(ctx: &XdpContext) -> (u32, u32) {
    let Some(facts) = maps::FACTS.get_ptr_mut(maps::IN) else {
        return (xdp_action::XDP_ABORTED, 0);
    };
    // SAFETY: this CPU's record, and no packet interrupts another here.
    let facts = unsafe { &mut *facts };
    let mut packet = XdpPacket::new(ctx.ctx);
    let tables = BpfTables::<LOOP>;
    match engine::process(&mut packet, tables, &GlobalStages, facts) {
        Verdict::Pass => (xdp_action::XDP_PASS, 0),
        Verdict::Drop => (xdp_action::XDP_DROP, 0),
        Verdict::Transmit => (xdp_action::XDP_TX, 0),
        Verdict::Redirect(ifindex) => (xdp_action::XDP_REDIRECT, ifindex),
    }
}

/// Sends it there.
#[inline(always)]
fn finish(action: u32, egress: u32) -> u32 {
    if action == xdp_action::XDP_REDIRECT {
        // SAFETY: the helper takes any interface index.
        return unsafe { bpf_redirect(egress, 0) as u32 };
    }
    action
}

/// Passes everything. A driver takes redirected frames only on an interface
/// that runs an XDP program.
#[xdp(frags)]
pub fn lvx_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Starts the sweep, or hands the running timer over to this program. Never
/// attached: the daemon runs it once after every load.
#[xdp]
pub fn lvx_sweep(_ctx: XdpContext) -> u32 {
    sweep::start()
}

/// Unreachable in a program that loads: the verifier refuses it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
