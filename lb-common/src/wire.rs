//! Numbers of the wire. EtherTypes are as loaded from a frame on a
//! little-endian machine.

/// IPv4 (0x0800).
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// IPv6 (0x86dd).
pub const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
/// 802.1Q (0x8100).
pub const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
/// 802.1ad (0x88a8).
pub const ETHERTYPE_QINQ: u16 = 0x88a8_u16.to_be();

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: u32 = 14;
/// Bytes of a VLAN tag.
pub const TAG_LEN: u32 = 4;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: u32 = 20;
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_LEN: u32 = 40;
/// Bytes of a TCP header without options.
pub const TCP_LEN: u32 = 20;
/// Bytes of an ICMP or ICMPv6 error's header.
pub const ICMP_LEN: u32 = 8;
/// Bytes of a UDP header.
pub const UDP_LEN: u32 = 8;
/// Bytes of an SCTP packet's header, in front of its chunks.
pub const SCTP_LEN: u32 = 12;
/// Bytes of a chunk's header: type, flags, length.
pub const CHUNK_LEN: u32 = 4;
/// Bytes of a GUE header without options.
pub const GUE_LEN: u32 = 4;
/// Bytes of a GRE header without options; a checksum takes as many again.
pub const GRE_LEN: u32 = 4;

/// IP protocol number of ICMP.
pub const IPPROTO_ICMP: u8 = 1;
/// IP protocol number of IPv4 in IP.
pub const IPPROTO_IPIP: u8 = 4;
/// IP protocol number of TCP.
pub const IPPROTO_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const IPPROTO_UDP: u8 = 17;
/// IP protocol number of IPv6 in IP.
pub const IPPROTO_IPV6: u8 = 41;
/// IP protocol number of GRE.
pub const IPPROTO_GRE: u8 = 47;
/// IP protocol number of SCTP.
pub const IPPROTO_SCTP: u8 = 132;
/// IP protocol number of ICMPv6.
pub const IPPROTO_ICMPV6: u8 = 58;

/// IPv6 extension header: hop-by-hop options.
pub const IPV6_HOP_BY_HOP: u8 = 0;
/// IPv6 extension header: routing.
pub const IPV6_ROUTING: u8 = 43;
/// IPv6 extension header: fragment.
pub const IPV6_FRAGMENT: u8 = 44;
/// IPv6 extension header: destination options.
pub const IPV6_DESTINATION: u8 = 60;

/// TCP flag FIN.
pub const TCP_FIN: u8 = 0x01;
/// TCP flag SYN.
pub const TCP_SYN: u8 = 0x02;
/// TCP flag RST.
pub const TCP_RST: u8 = 0x04;
/// TCP flag ACK.
pub const TCP_ACK: u8 = 0x10;
