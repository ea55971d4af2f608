//! Tracked connections, read from the flow table while packets write it.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::{
    conn::Protocol,
    flow::{BLOCK, FlowCell},
    layout::DestEntry,
    tables::Cell,
    time::{TICK_SHIFT, Tick},
};

use crate::{
    dataplane::{Mapping, Maps},
    model::Connection,
};

/// Every live connection, in the order of the table.
pub fn connections(maps: &Maps) -> Vec<Connection> {
    read(&maps.flow4, &maps.blocks4, &maps.dests, Maps::now())
}

fn read(
    flows: &Mapping<[u64; 8]>,
    blocks: &Mapping<u64>,
    dests: &Mapping<DestEntry>,
    now: Tick,
) -> Vec<Connection> {
    let occupied = (0..blocks.len()).filter(|block| blocks.get(*block) != 0);
    let cells = occupied.flat_map(|block| block * BLOCK..((block + 1) * BLOCK).min(flows.len()));
    cells
        .filter_map(|index| connection(FlowCell(Words { flows, index }), dests, now))
        .collect()
}

fn connection(
    cell: FlowCell<Words<'_>>,
    dests: &Mapping<DestEntry>,
    now: Tick,
) -> Option<Connection> {
    let state = cell.state();
    let (times, dest) = (cell.times(), cell.dest());
    let [addresses, ports] = [0, 1].map(|word| cell.0.load(lb_common::flow::word::KEY + word));
    // The cell may have passed to another connection while it was read.
    if !state.is_live() || cell.state().generation() != state.generation() || times.is_dead(now) {
        return None;
    }
    let protocol = (ports >> 32) as u8;
    let slot = dest as u32;
    let dest = (slot < dests.len()).then(|| dests.get(slot))?;
    let service_port = port((ports >> 16) as u16);
    let left = u64::from(times.deadline().wrapping_sub(now)) << TICK_SHIFT;
    Some(Connection {
        protocol,
        expires: (left / 1_000_000_000) as u32,
        state: Protocol::from_number(protocol)?
            .state_name(state.protocol_state())
            .into(),
        client: (address(addresses as u32), port(ports as u16)),
        service: (address((addresses >> 32) as u32), service_port),
        dest: (
            address(dest.addr[0]),
            if dest.port == 0 {
                service_port
            } else {
                port(dest.port)
            },
        ),
    })
}

fn address(word: u32) -> IpAddr {
    Ipv4Addr::from(word.to_ne_bytes()).into()
}

fn port(word: u16) -> u16 {
    u16::from_be(word)
}

/// A flow cell in the mapping; only ever read.
#[derive(Clone, Copy)]
struct Words<'a> {
    flows: &'a Mapping<[u64; 8]>,
    index: u32,
}

impl Cell for Words<'_> {
    fn load(self, word: usize) -> u64 {
        self.flows
            .word(self.index, word)
            .load(std::sync::atomic::Ordering::Acquire)
    }

    fn store(self, word: usize, value: u64) {
        self.flows
            .word(self.index, word)
            .store(value, std::sync::atomic::Ordering::Release);
    }

    fn compare_exchange(self, word: usize, old: u64, new: u64) -> u64 {
        use std::sync::atomic::Ordering::SeqCst;
        let result = self
            .flows
            .word(self.index, word)
            .compare_exchange(old, new, SeqCst, SeqCst);
        result.unwrap_or_else(|found| found)
    }

    fn add(self, word: usize, value: u64) {
        self.flows
            .word(self.index, word)
            .fetch_add(value, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{
        conn::{Counted, tcp, udp},
        flow::{StateWord, Times, word},
        layout::ForwardMethod,
        time::seconds,
    };

    use super::*;

    #[test]
    fn live_cells_become_rows() {
        let flows = Mapping::anonymous(3 * BLOCK).unwrap();
        let blocks = Mapping::anonymous(3).unwrap();
        let dests = Mapping::anonymous(2).unwrap();
        dests.set(
            1,
            DestEntry {
                addr: [u32::from_ne_bytes([192, 168, 1, 1]), 0, 0, 0],
                port: 8080u16.to_be(),
                family: 4,
                ..DestEntry::default()
            },
        );
        let now = 1_000_000;
        let cell = |state: StateWord, protocol: u64, times: Times| {
            let mut words = [0; 8];
            words[word::STATE] = state.0;
            words[word::TIMES] = times.0;
            words[word::DEST] = FlowCell::<Words<'_>>::dest_word(1, ForwardMethod::Route);
            let client = u32::from_ne_bytes([10, 0, 0, 100]);
            let vip = u32::from_ne_bytes([10, 0, 0, 1]);
            words[word::KEY] = u64::from(client) | u64::from(vip) << 32;
            let (source, service) = (44926u16.to_be(), 80u16.to_be());
            words[word::KEY + 1] = u64::from(source) | u64::from(service) << 16 | protocol << 32;
            words
        };
        let free = StateWord(7 << 32);
        let live = free.live(tcp::state::ESTABLISHED, Counted::Active);
        let used = now - seconds(3);
        flows.set(BLOCK, cell(live, 6, Times::new(used, seconds(900))));
        flows.set(BLOCK + 1, cell(free, 6, Times::new(used, seconds(900))));
        flows.set(BLOCK + 2, cell(live, 6, Times::new(used, seconds(2))));
        let udp = free.live(udp::STATE, Counted::Inactive);
        flows.set(2 * BLOCK - 1, cell(udp, 17, Times::new(used, seconds(300))));
        // A block without cells is not looked at.
        flows.set(2 * BLOCK, cell(live, 6, Times::new(used, seconds(900))));
        blocks.set(1, 3);
        let rows = read(&flows, &blocks, &dests, now);
        let brief: Vec<_> = rows
            .iter()
            .map(|row| (row.protocol, row.state.as_str()))
            .collect();
        assert_eq!(brief, [(6, "ESTABLISHED"), (17, "UDP")]);
        assert!(
            (896..=897).contains(&rows[0].expires),
            "{}",
            rows[0].expires
        );
        assert_eq!(rows[0].client, ([10, 0, 0, 100].into(), 44926));
        assert_eq!(rows[0].service, ([10, 0, 0, 1].into(), 80));
        assert_eq!(rows[0].dest, ([192, 168, 1, 1].into(), 8080));
    }
}
