//! Random packets of both sides against a model that knows who should get a
//! reply; at rest nothing is left in any count.

use std::collections::HashMap;

use lb_common::{
    engine::Verdict,
    family::Family,
    layout::DestFlags,
    reason::Reason,
    time::seconds,
    wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
};
use proptest::{collection::vec, prelude::*, test_runner::Config};

use super::bed::{
    Bed, DIRECT, DNS, GATEWAY, KEPT, MAC, MAPPED, OTHER_GATEWAY, Segment, WEB, WEB_TOO,
    both_families,
};

const SERVICES: [u16; 3] = [WEB, WEB_TOO, DNS];

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// A client's packet: port, service, flags, gateway.
    Request(u16, u16, u8, bool),
    /// A server's packet: server, service, client's port, flags.
    Reply(u32, u16, u16, u8),
    /// A packet from a service's address.
    Passing(u16, u16, u8),
    /// Time passes.
    Later(u32),
    /// The sweep comes.
    Sweep,
    /// A server goes or comes back.
    Flags(u32, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let port = || 1000..1006_u16;
    let service = || proptest::sample::select(&SERVICES[..]);
    let flags = || {
        prop_oneof![
            3 => Just(TCP_SYN),
            3 => Just(TCP_ACK),
            1 => Just(TCP_SYN | TCP_ACK),
            1 => Just(TCP_FIN | TCP_ACK),
            1 => Just(TCP_RST),
            1 => any::<u8>(),
        ]
    };
    let server = || 0..3_u32;
    prop_oneof![
        10 => (port(), service(), flags(), any::<bool>())
            .prop_map(|(port, to, flags, other)| Event::Request(port, to, flags, other)),
        8 => (server(), service(), port(), flags())
            .prop_map(|(server, from, to, flags)| Event::Reply(server, from, to, flags)),
        2 => (service(), port(), flags())
            .prop_map(|(from, to, flags)| Event::Passing(from, to, flags)),
        2 => (0..3_u32).prop_map(Event::Later),
        1 => (0..seconds(130)).prop_map(Event::Later),
        1 => Just(Event::Sweep),
        1 => (server(), any::<bool>()).prop_map(|(slot, there)| Event::Flags(slot, there)),
    ]
}

/// The connection that a client's port has with a service.
type Conn = (u16, u16);

struct Model<F> {
    bed: Bed<F>,
    /// Of the NAT connections that ever had a reverse key (server, its port,
    /// the client's port), oldest first.
    owners: HashMap<(u32, u16, u16), Vec<Conn>>,
    /// Forwarded replies.
    replies: u32,
}

impl<F: Family> Model<F> {
    /// Whether a connection lives that has this server, and which cell it is.
    fn lives(&self, conn: Conn, slot: u32) -> bool {
        self.bed.conn(conn.0, conn.1).is_some_and(|found| {
            !found.state.is_reverse()
                && found.slot() == slot
                && !found.times.is_dead(self.bed.now())
        })
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Request(port, service, flags, other) => {
                self.request(port, service, flags, other)
            }
            Event::Reply(slot, service, port, flags) => self.reply(slot, service, port, flags),
            Event::Passing(service, port, flags) => {
                let passing = Segment {
                    source: Bed::<F>::vip(service),
                    ..Bed::<F>::reply(DIRECT, service, port, flags)
                };
                // NAT's replies come from its servers.
                let wanted = if self.lives((port, service), DIRECT) {
                    Reason::PassedReply
                } else {
                    Reason::PassedNoVip
                };
                assert_eq!(self.bed.reason(&passing), wanted);
            }
            Event::Later(ticks) => self.bed.later(ticks),
            Event::Sweep => self.bed.sweep(),
            Event::Flags(slot, there) => {
                let gone = if there { 0 } else { DestFlags::AVAILABLE };
                self.bed.set_flags(slot, Bed::<F>::flags() & !gone);
            }
        }
    }

    fn request(&mut self, port: u16, service: u16, flags: u8, other: bool) {
        let id = |bed: &Bed<F>| {
            let found = bed.conn(port, service)?;
            Some((found.index, found.state.generation()))
        };
        let before = id(&self.bed);
        self.bed.run(&Segment {
            stations: [MAC, if other { OTHER_GATEWAY } else { GATEWAY }],
            ..Bed::<F>::request(port, service, flags)
        });
        let after = id(&self.bed);
        if after.is_none() || after == before {
            return;
        }
        let slot = self.bed.conn(port, service).expect("is there").slot();
        if slot != DIRECT {
            let key = (slot, Bed::<F>::server(slot, service).port(), port);
            let owners = self.owners.entry(key).or_default();
            owners.retain(|&conn| conn != (port, service));
            owners.push((port, service));
        }
    }

    /// The newest connection with a reverse key gets its replies, as long as
    /// it lives; none does when none lives.
    fn reply(&mut self, slot: u32, service: u16, port: u16, flags: u8) {
        let reply = Bed::<F>::reply(slot, service, port, flags);
        let key = (slot, reply.source.port(), port);
        let udp = service == DNS;
        let owners: Vec<Conn> = self
            .owners
            .get(&key)
            .into_iter()
            .flatten()
            .copied()
            .filter(|conn| (conn.1 == DNS) == udp)
            .collect();
        let newest = owners.last().filter(|&&conn| self.lives(conn, slot));
        let any = owners.iter().any(|&conn| self.lives(conn, slot));
        let (verdict, reason, bytes) = self.bed.run(&reply);
        let forwarded = matches!(verdict, Verdict::Redirect(_));
        if let Some(&(_, service)) = newest {
            assert!(forwarded, "{reason:?}");
            let l4 = 14 + if F::VERSION == 4 { 20 } else { 40 };
            let from = u16::from_be_bytes([bytes[l4], bytes[l4 + 1]]);
            assert_eq!(from, service, "the newest connection's service");
        } else if !any {
            assert_eq!(reason, Reason::PassedNoVip);
        }
        self.replies += u32::from(forwarded);
    }
}

fn play<F: Family>(one_home: bool, events: &[Event]) -> u32 {
    let servers = [MAPPED, KEPT, DIRECT, MAPPED];
    let bed = if one_home {
        Bed::<F>::with_one_home(&servers)
    } else {
        Bed::<F>::with(&servers)
    };
    let mut model = Model {
        bed,
        owners: HashMap::new(),
        replies: 0,
    };
    for (number, event) in events.iter().enumerate() {
        model.step(event);
        if number % 16 == 15 {
            model.bed.audit();
        }
    }
    model.bed.audit();
    model.bed.later(seconds(901));
    model.bed.sweep();
    assert_eq!(model.bed.audit(), (0, 0), "at rest");
    model.replies
}

fn nothing_is_left_at_rest<F: Family>() {
    let cases = if cfg!(miri) { 1 } else { 120 };
    let mut runner = proptest::test_runner::TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let replies = std::cell::Cell::new(0);
    let strategy = (any::<bool>(), vec(event(), 1..120));
    runner
        .run(&strategy, |(one_home, events)| {
            replies.set(replies.get() + play::<F>(one_home, &events));
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(replies.get() > cases, "replies are reached");
}

both_families!(nothing_is_left_at_rest);
