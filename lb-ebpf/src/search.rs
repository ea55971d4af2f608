//! Searching a frame's text, byte by byte.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::{bpf_loop, generated::bpf_xdp_load_bytes};
use lb_common::{
    packet::{SEARCHED, Search, Searched},
    tables::LOOP_WORDS,
};

use crate::{maps, packet::XdpPacket};

impl Searched for XdpPacket {
    #[inline(always)]
    fn search<S: Search>(&self, offset: u32, length: u32, search: &mut S) -> Option<()> {
        const { assert!(size_of::<S>() <= LOOP_WORDS * 8 && align_of::<S>() <= 8) };
        let text = maps::TEXT.get_ptr_mut(0)?;
        let mut size = u64::from(length.wrapping_sub(1));
        // SAFETY: one instruction on a register: it tells the verifier what the
        // compiler may know.
        unsafe { asm!("{size} &= 2047", size = inout(reg) size, options(nostack)) };
        let size = (size as u32).wrapping_add(1);
        let scratch = maps::LOOP.get_ptr_mut(maps::IN)?.cast::<S>();
        let mut context = 0_u64;
        // SAFETY: the record has SEARCHED bytes and more; the helper checks the rest.
        // The scratch record is as for Tables::repeat, and loops do not nest.
        unsafe {
            if bpf_xdp_load_bytes(self.context(), offset, text.cast(), size) != 0 {
                return None;
            }
            scratch.write(*search);
            bpf_loop(
                size,
                search_step::<S> as *mut c_void,
                (&raw mut context).cast(),
                0,
            );
            *search = scratch.read();
        }
        Some(())
    }

    #[allow(
        clippy::needless_borrows_for_generic_args,
        reason = "a text by value would lie on the stack"
    )]
    #[inline(always)]
    fn keep_text(&self, key: [u64; 2], start: u64) {
        let Some(text) = maps::TEXT.get_ptr_mut(0) else {
            return;
        };
        // Looking it up makes it young.
        if maps::CALLS.get_ptr(&key).is_some() {
            return;
        }
        let mut start = start;
        // SAFETY: as in search; there is room for a text behind the bytes that are
        // searched. Any bytes are a text.
        unsafe {
            asm!("{start} &= 2047", start = inout(reg) start, options(nostack));
            let kept = text.cast::<u8>().add(start as usize);
            // When there is no room the listing lacks it.
            let _ = maps::CALLS.insert(&key, &*kept.cast::<[u8; maps::TEXT_LEN]>(), 0);
        }
    }
}

/// One step of a search; 1 ends it.
#[inline(never)]
extern "C" fn search_step<S: Search>(index: u64, _: *mut c_void) -> i64 {
    let (Some(scratch), Some(text)) = (maps::LOOP.get_ptr_mut(maps::IN), maps::TEXT.get_ptr(0))
    else {
        return 1;
    };
    // SAFETY: see Packet::search; the index is masked to the bytes that are searched.
    let (state, byte) = unsafe {
        let at = (index & u64::from(SEARCHED - 1)) as usize;
        (&mut *scratch.cast::<S>(), *text.cast::<u8>().add(at))
    };
    i64::from(!state.step(byte, index))
}

const _: () = assert!(SEARCHED == 2048);
