//! The program of `lvx decap`, for real servers: a thin shell around
//! `lb_common::decap`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features)]

#[expect(dead_code, reason = "it is the director's, too")]
mod packet;

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{Array, HashMap, PerCpuArray},
    programs::XdpContext,
};
use lb_common::{
    decap::{self, Address, Config, Role, Settings},
    facts::Facts,
};

use crate::packet::XdpPacket;

/// What [`packet`] needs.
mod maps {
    use aya_ebpf::{macros::map, maps::PerCpuArray};

    /// Bytes to be summed: a chunk and room for the verifier.
    /// The record of `BYTES`.
    pub const IN: u32 = 0;
    #[map]
    pub static BYTES: PerCpuArray<[u64; 128]> = PerCpuArray::with_max_entries(1, 0);
}

#[map]
static DECAP_ADDRS: HashMap<Address, Role> = HashMap::with_max_entries(4096, 0);
#[map]
static DECAP_SET: Array<Settings> = Array::with_max_entries(1, 0);
/// Frames by outcome.
#[map]
static DECAP_COUNTS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(decap::Outcome::ALL.len() as u32, 0);
#[map]
static FACTS: PerCpuArray<Facts> = PerCpuArray::with_max_entries(1, 0);

#[derive(Clone, Copy)]
struct Told;

impl Config for Told {
    #[inline(always)]
    fn roles(self, address: &Address) -> Role {
        match DECAP_ADDRS.get_ptr(address) {
            // SAFETY: a map value; volatile, because `lvx decap` writes.
            Some(role) => unsafe { role.read_volatile() },
            None => 0,
        }
    }

    #[inline(always)]
    fn settings(self) -> Settings {
        match DECAP_SET.get_ptr(0) {
            // SAFETY: as for roles. Two words that are not read at once: a
            // packet may meet either of an old and a new pair.
            Some(settings) => unsafe { settings.read_volatile() },
            None => Settings::default(),
        }
    }
}

/// Takes packets out of tunnels.
#[xdp]
pub fn lvx_decap(ctx: XdpContext) -> u32 {
    let Some(facts) = FACTS.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: this CPU's record, and no packet interrupts another here.
    let facts = unsafe { &mut *facts };
    let outcome = decap::unwrap(&mut XdpPacket::new(ctx.ctx), Told, facts);
    if let Some(counter) = DECAP_COUNTS.get_ptr_mut(outcome as u32) {
        // SAFETY: as for the facts.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
    if outcome.is_dropped() {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
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
