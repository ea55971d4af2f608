//! The layers of tests, in the order in which `cargo xtask test` runs them.

/// One layer of tests.
pub(crate) struct Layer {
    /// What `--only` takes.
    pub(crate) name: &'static str,
    /// The heading says it.
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    /// Whether it keeps to one processor and minds no company: such layers run, one
    /// after the other, beside the ones behind `unit`.
    pub(crate) beside: bool,
}

/// How a layer is run.
pub(crate) enum Kind {
    /// `cargo xtask lint`.
    Lint,
    /// `cargo test` with these arguments.
    Cargo { arguments: &'static [&'static str] },
    /// The same with flags for rustc, in a target directory of its own.
    CargoWith {
        arguments: &'static [&'static str],
        rustflags: &'static str,
    },
    /// `cargo miri test` with these arguments; not run without a toolchain
    /// that has Miri.
    Miri { arguments: &'static [&'static str] },
    /// `cargo xtask verify`, also with these kernels.
    Verify { kernels: &'static [&'static str] },
    /// `cargo xtask oracle` with these scenarios, in one boot.
    Oracle { scenarios: &'static [&'static str] },
    /// `lvx-oracle devices` with these words, in one boot.
    Devices { only: &'static [&'static str] },
}

/// All layers.
pub(crate) const LAYERS: &[Layer] = &[
    Layer {
        name: "lint",
        about: "formatting and clippy",
        kind: Kind::Lint,
        beside: false,
    },
    Layer {
        name: "unit",
        about: "unit, property, program and namespace tests",
        kind: Kind::Cargo {
            arguments: &["--workspace", "--no-fail-fast"],
        },
        beside: false,
    },
    Layer {
        name: "loom",
        about: "the flow table's protocol under every interleaving",
        kind: Kind::CargoWith {
            arguments: &["-p", "lb-common", "--release", "--test", "loom"],
            rustflags: "--cfg loom",
        },
        beside: false,
    },
    // Miri runs a packet in milliseconds and a table in minutes: only tests
    // that need little of it.
    Layer {
        name: "miri",
        about: "undefined behaviour in the flow table and the schedulers",
        kind: Kind::Miri {
            arguments: &[
                "-p",
                "lb-common",
                "--lib",
                "--",
                "lifecycle",
                "vectors::round",
                "vectors::weighted",
                "vectors::nobody",
                "frame",
            ],
        },
        beside: false,
    },
    Layer {
        name: "miri-engine",
        about: "undefined behaviour on a packet's whole walk",
        kind: Kind::Miri {
            arguments: &[
                "-p",
                "lb-common",
                "--test",
                "engine",
                "--",
                "a_removed_server",
                "a_reused_port",
                "the_longest",
                "quiesced",
            ],
        },
        beside: false,
    },
    Layer {
        name: "verify",
        about: "the kernel's verifier, against the budget; Debian 12's in a virtual machine",
        // The pickiest of all that lvx claims.
        kind: Kind::Verify { kernels: &["6.1"] },
        beside: true,
    },
    // The other scenarios are compared with recordings of the kernel, in `unit`.
    Layer {
        name: "oracle",
        about: "a sample against the kernel's IPVS, live in a virtual machine",
        kind: Kind::Oracle {
            scenarios: &["rr", "tcp-states", "udp"],
        },
        beside: true,
    },
    Layer {
        name: "devices",
        about: "a sample of bonds, VLANs, tunnels and SCTP around lvx, in the virtual machine",
        // Each director takes its time to load there: three of the seven.
        kind: Kind::Devices {
            only: &[
                "bond by its ports",
                "VLAN in VLAN",
                "ipip",
                "gue",
                "gre",
                "sctp",
            ],
        },
        beside: true,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::LAYERS;

    #[test]
    fn names_are_unique_so_that_only_picks_one() {
        let names: HashSet<_> = LAYERS.iter().map(|layer| layer.name).collect();
        assert_eq!(names.len(), LAYERS.len());
    }
}
