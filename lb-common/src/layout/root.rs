/// The root word: which half of the configuration is current, and since which
/// transaction. Read once a packet, so that a packet sees one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Root(pub u64);

impl Root {
    const V4_SERVICES: u64 = 1 << 1;
    const V6_SERVICES: u64 = 1 << 2;
    const V4_TUNNELS: u64 = 1 << 3;
    const V6_TUNNELS: u64 = 1 << 4;
    const V4_RULES: u64 = 1 << 5;
    const V6_RULES: u64 = 1 << 6;
    const ANY_DESTINATION: u64 = 1 << 7;
    const EPOCH_SHIFT: u32 = 8;

    /// A root for transaction `epoch` on `side`; a family without services is
    /// transparent, as in the kernel, which then unhooks itself.
    pub const fn new(epoch: u64, side: u32, v4_services: bool, v6_services: bool) -> Self {
        let mut word = (epoch << Self::EPOCH_SHIFT) | (side & 1) as u64;
        if v4_services {
            word |= Self::V4_SERVICES;
        }
        if v6_services {
            word |= Self::V6_SERVICES;
        }
        Self(word)
    }

    /// This root, with servers that are reached by tunnels over IPv4, over IPv6.
    #[must_use]
    pub const fn with_tunnels(self, over_v4: bool, over_v6: bool) -> Self {
        let mut word = self.0 & !(Self::V4_TUNNELS | Self::V6_TUNNELS);
        if over_v4 {
            word |= Self::V4_TUNNELS;
        }
        if over_v6 {
            word |= Self::V6_TUNNELS;
        }
        Self(word)
    }

    /// Whether any server is reached by a tunnel over the family (4 or 6).
    #[inline(always)]
    pub const fn has_tunnels(self, family: u8) -> bool {
        let bit = if family == 4 {
            Self::V4_TUNNELS
        } else {
            Self::V6_TUNNELS
        };
        self.0 & bit != 0
    }

    /// The same with mark or filter rules in these families.
    #[must_use]
    pub const fn with_rules(self, v4: bool, v6: bool) -> Self {
        let mut word = self.0;
        if v4 {
            word |= Self::V4_RULES;
        }
        if v6 {
            word |= Self::V6_RULES;
        }
        Self(word)
    }

    /// The same with mark rules that may match any destination: then every bit of
    /// the VIP filter is set.
    #[must_use]
    pub const fn with_any_destination(self) -> Self {
        Self(self.0 | Self::ANY_DESTINATION)
    }

    /// Whether packets without a connection are to be held against mark and
    /// filter rules.
    #[inline(always)]
    pub const fn has_rules(self, family: u8) -> bool {
        let bit = if family == 4 {
            Self::V4_RULES
        } else {
            Self::V6_RULES
        };
        self.0 & bit != 0
    }

    /// Whether the VIP filter lets everything through.
    #[inline(always)]
    pub const fn any_destination(self) -> bool {
        self.0 & Self::ANY_DESTINATION != 0
    }

    /// 0 or 1: the half that packets read.
    #[inline(always)]
    pub const fn side(self) -> u32 {
        (self.0 & 1) as u32
    }

    /// Number of the transaction that made this configuration.
    #[inline(always)]
    pub const fn epoch(self) -> u64 {
        self.0 >> Self::EPOCH_SHIFT
    }

    /// Whether any service of the family (4 or 6) exists.
    #[inline(always)]
    pub const fn has_services(self, family: u8) -> bool {
        let bit = if family == 4 {
            Self::V4_SERVICES
        } else {
            Self::V6_SERVICES
        };
        self.0 & bit != 0
    }
}
