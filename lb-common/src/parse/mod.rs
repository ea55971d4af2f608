//! From frame to facts. Whatever is not plainly well-formed is left to the
//! stack, which drops and counts it as it always did.

mod call_id;
mod carried;
mod ethernet;
mod icmp;
mod ipv4;
mod ipv6;
mod transport;

pub use call_id::{CallId, LONGEST as LONGEST_CALL_ID, Sums};
pub use carried::{TunnelError, carried};
pub use ethernet::{Ethernet, ethernet};
pub use icmp::{Quoted, is_error, packet_at, quoted};
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use transport::{skip_extensions, transport};

use crate::{facts::Facts, packet::Packet, reason::Reason};

/// An IP header as loaded, by family.
pub trait Header: Copy {
    /// Reads the fixed part at `l3`.
    ///
    /// # Errors
    /// [`Reason::PassedMalformed`] when it is cut off or of another version.
    fn read<P: Packet>(packet: &P, l3: u32) -> Result<Self, Reason>;
    /// Source address in network byte order, its 32-bit words folded by
    /// exclusive or.
    fn source(&self) -> u32;
    /// Destination address, as [`Self::source`].
    fn destination(&self) -> u32;
    /// Number of the protocol or extension header that follows.
    fn protocol(&self) -> u8;
    /// Checks lengths and checksum and fills in the facts of layer 3; answers
    /// [`Self::protocol`].
    ///
    /// # Errors
    /// Why the packet is the stack's.
    fn check<P: Packet>(&self, packet: &P, facts: &mut Facts) -> Result<u8, Reason>;
}
