//! Random frames, from plausible to garbage.

use lb_common::checksum::fold;
use rand::{Rng, RngCore, rngs::StdRng, seq::IndexedRandom};

use super::scene::{OUR_MAC, OUR_VLAN};

/// A random frame of at least 14 bytes (`BPF_PROG_TEST_RUN` takes no less).
/// Mostly packets for the scene's services from a small set of clients, so that
/// connections form; one in four is damaged somewhere.
pub fn random(rng: &mut StdRng) -> Vec<u8> {
    let mut frame = plausible(rng);
    if rng.random_ratio(1, 4) {
        damage(rng, &mut frame);
    }
    frame
}

fn plausible(rng: &mut StdRng) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    let foreign = rng.random_ratio(1, 20);
    frame.extend_from_slice(&if foreign { [2, 9, 9, 9, 9, 9] } else { OUR_MAC });
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 0xaa]);
    match rng.random_range(0..20) {
        0 => tag(&mut frame, 0x8100, OUR_VLAN | rng.random_range(0..16) << 12),
        1 => tag(&mut frame, 0x88a8, OUR_VLAN),
        2 => tag(&mut frame, 0x8100, 7),
        3 => {
            tag(&mut frame, 0x88a8, OUR_VLAN);
            tag(&mut frame, 0x8100, 5);
        }
        4 => {
            for _ in 0..3 {
                tag(&mut frame, 0x8100, OUR_VLAN);
            }
        }
        _ => {}
    }
    let ethertype: u16 = *[0x0800; 18]
        .iter()
        .chain(&[0x86dd, 0x0806])
        .collect::<Vec<_>>()
        .choose(rng)
        .copied()
        .expect("not empty");
    frame.extend_from_slice(&ethertype.to_be_bytes());
    let l3 = frame.len();
    let protocol = *[6, 6, 6, 17, 17, 1, 47].choose(rng).expect("not empty");
    let options = if rng.random_ratio(1, 12) {
        rng.random_range(1..=10)
    } else {
        0
    };
    let header = 20 + options * 4;
    let l4 = if protocol == 6 { 20 } else { 8 };
    let payload = *[0, 0, 1, 40, 700, 1480].choose(rng).expect("not empty");
    let total = header + l4 + payload;
    let fragment: u16 = match rng.random_range(0..30) {
        0 => 0x2000,
        1 => 0x2010,
        2 => 0x0001,
        _ => 0x4000,
    };
    let ttl = *[64, 64, 64, 255, 2, 1, 0].choose(rng).expect("not empty");
    frame.extend_from_slice(&[0x40 | (header / 4) as u8, rng.random()]);
    frame.extend_from_slice(&(total as u16).to_be_bytes());
    frame.extend_from_slice(&rng.random::<u16>().to_be_bytes());
    frame.extend_from_slice(&fragment.to_be_bytes());
    frame.extend_from_slice(&[ttl, protocol, 0, 0]);
    frame.extend_from_slice(&[198, 51, 100, rng.random_range(0..8)]);
    frame.extend_from_slice(&[192, 0, 2, rng.random_range(1..=5)]);
    let mut filler = vec![0; options * 4];
    rng.fill_bytes(&mut filler);
    frame.extend_from_slice(&filler);
    seal(&mut frame[l3..l3 + header]);
    let source = *[20_u16, 0, 1000, 1001, 1002, 1003, 1004, 1005]
        .choose(rng)
        .expect("not empty");
    let port = *[80_u16, 80, 80, 53, 53, 0, 443]
        .choose(rng)
        .expect("not empty");
    frame.extend_from_slice(&source.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    if protocol == 6 {
        let flags = *[
            0x02, 0x02, 0x10, 0x10, 0x11, 0x04, 0x14, 0x12, 0x00, 0x06, 0x18,
        ]
        .choose(rng)
        .expect("not empty");
        frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    } else {
        frame.extend_from_slice(&(8 + payload as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
    }
    frame.resize(l3 + total, 0x5a);
    // Short frames are padded by drivers.
    while frame.len() < 60 && rng.random_ratio(1, 2) {
        frame.push(0);
    }
    frame
}

/// Writes the checksum of an IPv4 header.
fn seal(header: &mut [u8]) {
    header[10..12].fill(0);
    let mut sum = 0;
    for word in header.chunks_exact(4) {
        sum += u64::from(u32::from_ne_bytes(word.try_into().expect("four bytes")));
    }
    header[10..12].copy_from_slice(&(!fold(sum)).to_ne_bytes());
}

fn tag(frame: &mut Vec<u8>, ethertype: u16, control: u16) {
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(&control.to_be_bytes());
}

fn damage(rng: &mut StdRng, frame: &mut Vec<u8>) {
    match rng.random_range(0..4) {
        0 => frame.truncate(rng.random_range(14..=frame.len())),
        1 => {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..frame.len().min(64));
                frame[at] = rng.random();
            }
        }
        // Damage behind the checksum: lengths and versions, sealed again.
        2 if frame.len() >= 34 && frame[12..14] == [8, 0] => {
            let at = *[14, 16, 17, 20, 21].choose(rng).expect("not empty");
            frame[at] = rng.random();
            let header = usize::from(frame[14] & 15) * 4;
            if header >= 20 && frame.len() >= 14 + header {
                seal(&mut frame[14..14 + header]);
            }
        }
        _ => {
            let length = rng.random_range(14..120);
            frame.resize(length, 0);
            rng.fill_bytes(frame);
        }
    }
}
