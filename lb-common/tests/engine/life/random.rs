//! Counts are exact after any sequence.

use lb_common::{
    layout::{DestFlags, Knobs, Thresholds},
    time::seconds,
    wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
};

use super::persistence;
use crate::lab::{TX, TX_TOO, dns, web};

#[test]
fn counts_are_those_of_the_cells() {
    let rounds = if cfg!(miri) { 2 } else { 20 };
    for seed in 0..rounds {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15 ^ seed;
        let mut below = |most: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % most
        };
        let lab = persistence::lab();
        for step in 0..if cfg!(miri) { 20 } else { 300 } {
            let slot = if below(2) == 0 { TX } else { TX_TOO };
            let port = 1 + below(8) as u16;
            match below(20) {
                0 => lab.edit(slot, |dest| {
                    dest.word ^= u64::from(DestFlags::AVAILABLE) << 32;
                }),
                1 => lab.edit(slot, |dest| {
                    dest.word ^= u64::from(DestFlags::QUIESCED) << 32;
                }),
                2 => lab.edit(slot, |dest| {
                    dest.thresholds = Thresholds::new(below(4) as u32, 0).0;
                }),
                3 => lab.knobs(below(32) as u32 & !Knobs::SLOPPY_SCTP),
                4..=6 => {
                    lab.later(seconds(1 + below(200) as u32));
                    if below(2) == 0 {
                        lab.sweep();
                    }
                }
                7..=10 => {
                    lab.run(&dns(port));
                }
                _ => {
                    let flags = [TCP_SYN, TCP_SYN, TCP_ACK, TCP_FIN, TCP_RST];
                    lab.run(&web(port, flags[below(5) as usize]));
                }
            }
            if step % 20 == 0 {
                lab.check_counts();
            }
        }
        lab.check_counts();
        lab.knobs(Knobs::REUSE);
        for _ in 0..6 {
            lab.later(seconds(400));
            lab.sweep();
        }
        lab.check_counts();
        assert!(lab.cells().is_empty(), "seed {seed}");
    }
}
