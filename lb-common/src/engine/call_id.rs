//! `--pe sip`: a persistent client is told from others by the Call-ID of its
//! datagram, too.

use super::{CALL_KEY, STAGE_DONE, Stop, stage_answer};
use crate::{
    facts::Facts,
    packet::{SEARCHED, Searched},
    parse::{CallId, Sums},
    reason::Reason,
    tables::{Param, Tables},
    wire::{IPPROTO_UDP, UDP_LEN},
};

/// Stage: finds the Call-ID, and has the key of the client's template tell calls
/// apart. There is no room for a Call-ID in it: its sums, with those of the
/// service that they take the place of, stand for it.
#[inline(always)]
pub fn call_id<P: Searched, T: Tables>(packet: &P, tables: T, facts: &mut Facts) -> u32 {
    match find(packet, tables, facts) {
        Some((sums, start)) => {
            let [first, second] = sums.words();
            let [_, _, a, b, ports] = facts.new_key;
            facts.call = [a, b, ports >> 16 & 0xffff];
            facts.new_key[2] = first;
            facts.new_key[3] = 0;
            // Below the protocol, and above the two bits.
            facts.new_key[4] =
                ports & !0xffff_ffff | CALL_KEY | second & 0xffff_ffff | (second >> 32) << 42;
            let key = [facts.new_key[2], facts.new_key[4]];
            packet.keep_text(key, start);
            STAGE_DONE
        }
        None => stage_answer(facts, Err(Stop::from(Reason::DroppedNoCallId))),
    }
}

/// The sums of the Call-ID and of the service, and where the Call-ID begins.
#[inline(always)]
fn find<P: Searched, T: Tables>(packet: &P, tables: T, facts: &Facts) -> Option<(Sums, u64)> {
    if facts.protocol() != IPPROTO_UDP {
        return None;
    }
    let text = (facts.l4 as u32).wrapping_add(UDP_LEN);
    let end = (facts.l3 as u32).wrapping_add(facts.l3_len as u32);
    let length = end.wrapping_sub(text);
    if end <= text {
        return None;
    }
    let length = if length > SEARCHED { SEARCHED } else { length };
    let mut search = CallId::new(service(tables, facts));
    packet.search(text, length, &mut search)?;
    Some((search.found()?, search.start()))
}

/// The sums of the words of the key that make way.
#[inline(always)]
fn service<T: Tables>(tables: T, facts: &Facts) -> Sums {
    // Those of the flow hash that no key has words for, and half of its multiplier.
    let mut sums = Sums::new([
        tables.param(Param::Hash(10)),
        tables.param(Param::Hash(11)),
        tables.param(Param::Multiplier) >> 33,
    ]);
    let [_, _, a, b, ports] = facts.new_key;
    sums.add(a & 0xffff);
    sums.add(a >> 16 & 0xffff);
    sums.add(a >> 32 & 0xffff);
    sums.add(a >> 48);
    sums.add(b & 0xffff);
    sums.add(b >> 16 & 0xffff);
    sums.add(b >> 32 & 0xffff);
    sums.add(b >> 48);
    sums.add(ports >> 16 & 0xffff);
    sums
}
