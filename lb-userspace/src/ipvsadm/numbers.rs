//! Counter cells of listings.

/// A counter in nine columns, in thousands, millions, … when it would not fit
/// (decimal, rounded down).
pub(super) fn scaled(value: u64) -> String {
    match value {
        0..100_000_000 => format!("{value:>9}"),
        100_000_000..1_000_000_000 => format!("{:>8}K", value / 1_000),
        1_000_000_000..100_000_000_000 => format!("{:>8}M", value / 1_000_000),
        100_000_000_000..100_000_000_000_000 => format!("{:>8}G", value / 1_000_000_000),
        _ => format!("{:>8}T", value / 1_000_000_000_000),
    }
}

/// All digits, at least nine columns, and always a blank before them.
pub(super) fn exact(value: u64) -> String {
    format!(" {value:>8}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_changes_where_it_should() {
        for (value, want) in [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (150_151_544, "  150151K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(scaled(value), want, "{value}");
        }
    }

    #[test]
    fn exact_keeps_a_blank() {
        assert_eq!(exact(0), "        0");
        assert_eq!(exact(12_345_678), " 12345678");
        assert_eq!(exact(1_080_943_836), " 1080943836");
        assert_eq!(exact(u64::MAX), " 18446744073709551615");
    }
}
