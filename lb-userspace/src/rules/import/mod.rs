//! Rules and sets from what other programs save.

mod ipset;
mod iptables;
mod nft;

pub(crate) use iptables::split;

use crate::model::{PrefixSet, Rule};

/// Rules that were taken, and what was not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// In their order.
    pub rules: Vec<Rule>,
    /// A line for each rule that cannot be taken.
    pub left: Vec<String>,
}

/// The MARK rules of what `iptables-save`, `ip6tables-save` or `nft -j list
/// ruleset` printed. Of `iptables-save`, `ip6` says that it is IPv6's; what names
/// IPv6 addresses tells by itself.
///
/// # Errors
/// When the text is neither.
pub fn marks(text: &str, ip6: bool) -> Result<Imported, String> {
    if text.trim_start().starts_with('{') {
        nft::marks(text)
    } else {
        iptables::marks(text, ip6)
    }
}

/// The sets of what `ipset save` or `nft -j list sets` (or `list ruleset`)
/// printed, and a line for each set or member that cannot be taken.
///
/// # Errors
/// When the text is neither.
pub fn sets(text: &str) -> Result<(Vec<PrefixSet>, Vec<String>), String> {
    if text.trim_start().starts_with('{') {
        nft::sets(text)
    } else {
        ipset::sets(text)
    }
}

#[cfg(test)]
mod tests;
