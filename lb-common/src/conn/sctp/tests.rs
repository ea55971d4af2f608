use proptest::prelude::*;

use super::*;

/// The kernel's table as it was written down: events by rows, states by columns
/// in the order of their numbers, `.` keeps the state.
const FROM_CLIENT: &str = "
    data     ES . . . . . . . . . . . . .
    init     I1 IN . . . . . . . . . . IN IN
    init_ack CW CW CW . . CO . . . . . . . .
    echo     CR IN . CR . . . . . . . . . .
    ack      ES . . . . . . ES . . . . . .
    shutdown SR . . . . . . . SR . . . . .
    shut_ack CL IN . . . . . . . CL . CL . .
    complete CL CL CL . . . . . . . . CL . .
    error    CL . . . . . . CL . . . . . .
    abort    CL CL CL CL CL RJ CL CL CL CL CL CL CL .
";
const FROM_SERVER: &str = "
    data     ES . . . . . . . . . . . . .
    init     CW CW CW CW CW . CW CW . CW CW CW CW CW
    init_ack CS CS CS . . . . . . . . . . .
    echo     CE CE CE CE CE CE CE . . . . . . .
    ack      ES ES ES ES ES ES ES ES . . . . . .
    shutdown SS SS SS SS SS SS SS SS SS . . . . .
    shut_ack SA SA SA SA SA . . . . SA SA . . .
    complete CL . . . . . . . . . . . . .
    error    CL CL CL CL CL . . . . . . . . .
    abort    CL RJ CL CL CL CL CL CL CL CL CL CL CL .
";
const INPUT_ONLY: &str = "
    data     ES . . . . ES . . . . . . . .
    init     I1 IN . IN IN IN . . . . . . IN IN
    init_ack CE CE CE CE CE CE . . . . . . . .
    echo     ES ES ES ES ES ES . . . . . . . .
    ack      ES . . ES ES . ES ES . . . . . .
    shutdown SR . . . . . . . SR . . . . .
    shut_ack CL IN . . . . . . CL CL . CL . .
    complete CL CL CL CL CL . . . . . CL CL . .
    error    CL . . . . . . . . . . . . .
    abort    CL CL CL CL CL RJ CL CL CL CL CL CL CL .
";
const SHORT: [&str; STATES] = [
    "NO", "I1", "IN", "CS", "CR", "CW", "CO", "CE", "ES", "SS", "SR", "SA", "RJ", "CL",
];
const SEEN: [Seen; 3] = [Seen::FromClient, Seen::FromServer, Seen::FromClientOnly];
/// In the order of the rows.
const EVENTS: [Event; 10] = [
    Event::Data,
    Event::Init,
    Event::InitAck,
    Event::CookieEcho,
    Event::CookieAck,
    Event::Shutdown,
    Event::ShutdownAck,
    Event::ShutdownComplete,
    Event::Error,
    Event::Abort,
];

fn after(state: u8, event: Event, seen: Seen) -> u8 {
    next(state, &columns(event), seen)
}

#[test]
fn the_table_is_the_one_that_was_written_down() {
    let mut cells = 0;
    for (text, seen) in [FROM_CLIENT, FROM_SERVER, INPUT_ONLY].into_iter().zip(SEEN) {
        let rows: Vec<&str> = text.trim().lines().collect();
        assert_eq!(rows.len(), EVENTS.len());
        for (row, event) in rows.into_iter().zip(EVENTS) {
            let row: Vec<&str> = row.split_whitespace().skip(1).collect();
            assert_eq!(row.len(), STATES, "{seen:?} {event:?}");
            for (state, wanted) in (0..).zip(row) {
                let wanted = if wanted == "." {
                    SHORT[usize::from(state)]
                } else {
                    wanted
                };
                let is = SHORT[usize::from(after(state, event, seen))];
                assert_eq!(is, wanted, "{seen:?} {event:?} in {}", name(state));
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 420);
}

/// Where these packets lead, from the first one on.
fn walk(packets: &[(Seen, u8)]) -> u8 {
    packets.iter().fold(state::NONE, |state, &(seen, kind)| {
        after(state, Event::of_chunk(kind), seen)
    })
}

#[test]
fn walks_seen_on_a_real_kernel() {
    use Seen::{FromClient as C, FromClientOnly as O, FromServer as D};
    use chunk::{
        COOKIE_ACK, COOKIE_ECHO, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE,
    };
    let nat = [
        (C, INIT, "INIT1"),
        (D, INIT_ACK, "C-SENT"),
        (C, COOKIE_ECHO, "C-REPLIED"),
        (D, COOKIE_ACK, "ESTABLISHED"),
        (C, SHUTDOWN, "S-RECEIVED"),
        (D, SHUTDOWN_ACK, "S-ACK-SENT"),
        (C, SHUTDOWN_COMPLETE, "CLOSED"),
    ];
    let route = [
        (O, INIT, "INIT1"),
        (O, COOKIE_ECHO, "ESTABLISHED"),
        (O, SHUTDOWN, "S-RECEIVED"),
        (O, SHUTDOWN_COMPLETE, "CLOSED"),
    ];
    for steps in [&nat[..], &route] {
        let packets: Vec<(Seen, u8)> = steps.iter().map(|step| (step.0, step.1)).collect();
        for (i, step) in steps.iter().enumerate() {
            let state = walk(&packets[..=i]);
            assert_eq!(name(state), step.2);
            assert_eq!(is_active(state), step.2 == "ESTABLISHED");
            assert_eq!(is_reusable(state), step.2 == "CLOSED");
        }
    }
}

#[test]
fn every_chunk_type_has_one_event() {
    let special: Vec<u8> = (0..=255)
        .filter(|&kind| Event::of_chunk(kind) != Event::Data)
        .collect();
    assert_eq!(special, [1, 2, 6, 7, 8, 9, 10, 11, 14]);
    let starting: Vec<u8> = (0..=255)
        .filter(|&kind| may_start(Event::of_chunk(kind) as u8))
        .collect();
    assert_eq!(starting, [chunk::INIT]);
    assert!(!may_start(Event::Nothing as u8));
}

#[test]
fn only_established_is_active_and_only_closed_is_re_used() {
    for state in 0..16 {
        assert_eq!(is_active(state), state == 8);
        assert_eq!(is_reusable(state), state == 13);
    }
}

#[test]
fn time_outs_and_names_belong_to_the_numbers() {
    let seconds = |name: &str| {
        let at = NAMES.iter().position(|it| *it == name);
        TIMEOUTS[at.expect("a state")]
    };
    assert_eq!(seconds("ESTABLISHED"), 900);
    assert_eq!((seconds("INIT1"), seconds("REJECTED")), (4, 4));
    assert_eq!(seconds("NONE"), 2);
    assert_eq!(TIMEOUTS.iter().filter(|&&it| it == 61).count(), 10);
    assert_eq!(name(14), "BUG!");
}

fn any_event() -> impl Strategy<Value = Event> {
    any::<u8>().prop_map(|kind| Event::of_chunk(kind % 16))
}

fn any_packets() -> impl Strategy<Value = Vec<(Event, usize)>> {
    prop::collection::vec((any_event(), 0..3_usize), 0..40)
}

proptest! {
    #[test]
    fn every_walk_stays_among_the_states(packets in any_packets()) {
        let mut now = state::NONE;
        for (event, seen) in packets {
            now = after(now, event, SEEN[seen]);
            prop_assert!(usize::from(now) < STATES);
            prop_assert!(now != state::NONE, "nothing goes back to where no packet was");
            if event == Event::Abort {
                prop_assert!(matches!(now, state::CLOSED | state::REJECTED));
            }
        }
    }

    #[test]
    fn a_packet_without_a_chunk_changes_nothing(now in 0..STATES as u8, seen in 0..3_usize) {
        prop_assert_eq!(after(now, Event::Nothing, SEEN[seen]), now);
    }

    #[test]
    fn data_does_not_open_what_is_over(now in 9..STATES as u8, seen in 0..3_usize) {
        prop_assert_eq!(after(now, Event::Data, SEEN[seen]), now);
    }
}
