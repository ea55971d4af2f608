/// What the benchmark's programs are told, and what they count: one record a
/// CPU. Shared by the programs and `lvx-lab bench`. 64-bit words only.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Run {
    /// Number of the next packet.
    pub next: u64,
    /// Flows minus one; a power of two of them.
    pub mask: u64,
    /// Number of the first flow.
    pub first: u64,
    /// 0: flow after flow; else flows in a scrambled order.
    pub scrambled: u64,
    /// Where the client's address and port are, see [`layout`].
    pub layout: u64,
    /// Checksum of the IPv4 header without the client's address and the checksum,
    /// not folded.
    pub sum: u64,
    /// 0, or the checksum of a datagram over IPv4 without the client's address and
    /// port, not folded.
    pub datagram_sum: u64,
    /// 0, or bytes of the frame: a program before may have put a header in front of it.
    pub length: u64,
    /// Which of `PROGRAMS` comes behind.
    pub program: u64,
    /// Where a bare redirect goes: an interface index.
    pub egress: u64,
    /// Flows that a floor's table did not have.
    pub misses: u64,
    /// The frame that is sent, without the client's address and port.
    pub frame: [u64; FRAME_WORDS],
}

/// Words of a frame that are made anew for every packet: as long as the frame.
pub const FRAME_WORDS: usize = 10;

/// Values of [`Run::layout`].
pub mod layout {
    /// IPv4, from the client.
    pub const FROM4: u64 = 0;
    /// IPv4, to the client.
    pub const TO4: u64 = 1;
    /// IPv6, from the client.
    pub const FROM6: u64 = 2;
    /// IPv6, to the client.
    pub const TO6: u64 = 3;
}

/// Which of `PROGRAMS` is which; only user space asks.
#[cfg(not(target_arch = "bpf"))]
pub mod program {
    /// `lvx_pass`: the empty program.
    pub const EMPTY: u64 = 0;
    /// The whole data plane.
    pub const LVX: u64 = 1;
    /// F0: `XDP_TX`.
    pub const TX: u64 = 2;
    /// F1: the least a stateful balancer must do.
    pub const FLOOR: u64 = 3;
    /// F2: F1 with a hash of the kernel's.
    pub const HASH_FLOOR: u64 = 4;
    /// F1's memory alone: a word of the flow's home cell.
    pub const LINE: u64 = 5;
    /// To the kernel.
    pub const PASS: u64 = 6;
    /// A redirect and nothing else.
    pub const REDIRECT: u64 = 7;
    /// The far end, and the end of packets that are only made.
    pub const ARRIVE: u64 = 8;
}
