/// What the benchmark's programs are told, and what they count: one record a
/// CPU. Shared by the programs and `lvx-lab bench`. 64-bit words only.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Run {
    /// Number of the next packet.
    pub next: u64,
    /// Flows minus one; a power of two of them.
    pub mask: u64,
    /// 0: flow after flow; else flows in a scrambled order.
    pub scrambled: u64,
    /// Destination address in network byte order.
    pub destination: u64,
    /// Destination port in network byte order.
    pub port: u64,
    /// Checksum of the IPv4 header without its source address and checksum,
    /// not folded.
    pub sum: u64,
    /// Which of `PROGRAMS` comes behind `bench_behind`.
    pub program: u64,
    /// Flows that were not in the table.
    pub misses: u64,
}
