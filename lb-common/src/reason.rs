//! The one outcome every packet is counted under.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $class:ident;)+) => {
        /// Why a packet ended as it did. Every packet ends in exactly one: the sum
        /// of the counters is the number of packets received.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that status and metrics show.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What happened to a packet that was counted under this number.
            #[inline(always)]
            pub const fn class_of(number: u32) -> Class {
                // The list is sorted by class.
                if number < Self::FIRST_PASSED as u32 {
                    Class::Forwarded
                } else if number < Self::FIRST_DROPPED as u32 {
                    Class::Passed
                } else {
                    Class::Dropped
                }
            }

            /// What happened to the packet.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)+ }
            }
        }
    };
}

impl Reason {
    const FIRST_PASSED: Self = Self::PassedLocalServer;
    const FIRST_DROPPED: Self = Self::DroppedNoDest;
}

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Left towards a server.
    Forwarded,
    /// Went to the local stack; untouched, unless its server is there by NAT.
    Passed,
    /// Ended here.
    Dropped,
}

reasons! {
    /// Sent to a server or client out of the interface it came in by.
    ForwardedTx = "forwarded-tx", Forwarded;
    /// Sent to a server or client out of another interface.
    ForwardedRedirect = "forwarded-redirect", Forwarded;
    /// As the two above, to a FULLNAT server that is told clients' addresses in a TCP
    /// option: this segment had no room for it.
    ForwardedUntold = "forwarded-untold", Forwarded;
    /// Delivered to the local stack because the server is this director; by NAT,
    /// with the server's address and port.
    PassedLocalServer = "passed-local-server", Passed;
    /// Not an IP packet (ARP, LLDP, …).
    PassedNotIp = "passed-not-ip", Passed;
    /// Came in by an interface or VLAN, or to a station address, that is not ours.
    PassedNotOurs = "passed-not-ours", Passed;
    /// Destination is no service's address, by the VIP filter.
    PassedNoVip = "passed-no-vip", Passed;
    /// Wrong version, lengths or header checksum: the stack drops and counts it.
    PassedMalformed = "passed-malformed", Passed;
    /// A server's packet that passes the director although its method does not ask
    /// for that (DR, TUN): counted, and changes the connection's state.
    PassedReply = "passed-reply", Passed;
    /// Neither TCP, UDP nor SCTP, nor an ICMP error about a connection.
    PassedProtocol = "passed-protocol", Passed;
    /// No service has this address, protocol and port.
    PassedNoService = "passed-no-service", Passed;
    /// The service's address is not (or no longer) an address of this director.
    PassedNotClaimed = "passed-not-claimed", Passed;
    /// Of no connection and not able to start one (TCP without SYN, SCTP without
    /// INIT, source port 20).
    PassedNoConnection = "passed-no-connection", Passed;
    /// The server of the connection was removed.
    DroppedNoDest = "dropped-no-dest", Dropped;
    /// No server of the service can take a new connection.
    DroppedNoServer = "dropped-no-server", Dropped;
    /// `--pe sip`: not a datagram with a Call-ID.
    DroppedNoCallId = "dropped-no-call-id", Dropped;
    /// SCTP of no connection, without a chunk.
    DroppedNoChunk = "dropped-no-chunk", Dropped;
    /// `drop_packet`: one of so many packets that would start a connection.
    DroppedDefence = "dropped-defence", Dropped;
    /// A rule of the filter says so.
    DroppedFilter = "dropped-filter", Dropped;
    /// FULLNAT: no local address, or no free port of one was found in
    /// [`LOCAL_PORT_TRIES`](crate::engine::LOCAL_PORT_TRIES).
    DroppedNoLocalPort = "dropped-no-local-port", Dropped;
    /// NAT to a loopback address of this director, which the kernel refuses to
    /// packets from outside.
    DroppedLoopback = "dropped-loopback", Dropped;
    /// A fragment whose datagram's first one has not been seen, or SCTP's first one
    /// by NAT to another port.
    DroppedFragment = "dropped-fragment", Dropped;
    /// An ICMP error about a connection, with a wrong checksum.
    DroppedIcmp = "dropped-icmp", Dropped;
    /// An ICMP error about a tunnel packet of ours: its client was told by an error
    /// of our own, if the rate allowed.
    DroppedTunnelError = "dropped-tunnel-error", Dropped;
    /// The server's next hop is not resolved.
    DroppedUnresolved = "dropped-unresolved", Dropped;
    /// Time to live ran out.
    DroppedTtl = "dropped-ttl", Dropped;
    /// Too long for the way on.
    DroppedTooBig = "dropped-too-big", Dropped;
    /// The key's window and the stash are full.
    DroppedWindowFull = "dropped-window-full", Dropped;
    /// The lock of the key's home cell was not to be had in 32 tries.
    DroppedContended = "dropped-insert-contended", Dropped;
    /// The scheduler's cursor was not to be had in 8 tries.
    DroppedCursor = "dropped-cursor-contended", Dropped;
    /// A table entry that must exist did not: a defect, never expected.
    DroppedInternal = "dropped-internal", Dropped;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_follows_from_the_number() {
        for reason in Reason::ALL {
            assert_eq!(
                Reason::class_of(*reason as u32),
                reason.class(),
                "{reason:?}"
            );
        }
    }
}
