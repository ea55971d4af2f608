//! The Debian packages that building and testing need, and why.

use std::path::Path;

use crate::shell;

/// A Debian package and how to see whether what it brings is there, from
/// Debian or not.
pub(crate) struct Package {
    /// Its name for `apt-get install`.
    pub(crate) name: &'static str,
    /// What it is needed for, as the end of "… : …".
    pub(crate) reason: &'static str,
    needed: Needed,
    sign: Sign,
}

#[derive(PartialEq, Eq)]
enum Needed {
    Always,
    /// Only to build `bpf-linker`, which is then kept.
    ForLinker,
}

enum Sign {
    Program(&'static str),
    File(&'static str),
}

use Needed::{Always, ForLinker};
use Sign::{File, Program};

#[rustfmt::skip]
const PACKAGES: &[Package] = &[
    Package { name: "gcc", needed: Always, sign: Program("cc"), reason: "links every Rust program" },
    Package { name: "libc6-dev", needed: Always, sign: File("/usr/include/stdio.h"), reason: "links every Rust program" },
    Package { name: "iproute2", needed: Always, sign: Program("ip"), reason: "the demo and the tests make network namespaces with it" },
    Package { name: "nginx", needed: Always, sign: Program("nginx"), reason: "the real servers of the demo and the tests; never started as a service" },
    Package { name: "haproxy", needed: Always, sign: Program("haproxy"), reason: "what the benchmark compares with; never started as a service" },
    Package { name: "curl", needed: Always, sign: Program("curl"), reason: "the client of the tests" },
    Package { name: "dnsmasq-base", needed: Always, sign: Program("dnsmasq"), reason: "a real name server for the tests; never started as a service" },
    Package { name: "ldnsutils", needed: Always, sign: Program("drill"), reason: "asks it" },
    Package { name: "ldirectord", needed: Always, sign: Program("ldirectord"), reason: "a test has it drive lvx; never started as a service" },
    Package { name: "mariadb-server-core", needed: Always, sign: Program("mariadbd"), reason: "a real database for the tests of health checks; never started as a service" },
    Package { name: "mariadb-client-core", needed: Always, sign: Program("my_print_defaults"), reason: "makes its first tables" },
    Package { name: "postgresql-15", needed: Always, sign: File("/usr/lib/postgresql/15/bin/postgres"), reason: "another; never started as a service" },
    Package { name: "iptables", needed: Always, sign: Program("iptables-save"), reason: "tests of what lvx says about packet filters" },
    Package { name: "nftables", needed: Always, sign: Program("nft"), reason: "tests of what lvx says about packet filters" },
    Package { name: "prometheus-node-exporter", needed: Always, sign: Program("prometheus-node-exporter"), reason: "tests of the files that 'lvx run --proc-dir' keeps; never started as a service" },
    Package { name: "qemu-system-x86", needed: Always, sign: Program("qemu-system-x86_64"), reason: "the virtual machine that has the kernel's IPVS" },
    Package { name: "busybox-static", needed: Always, sign: Program("busybox"), reason: "the shell of that machine" },
    Package { name: "kmod", needed: Always, sign: Program("depmod"), reason: "finds the modules that its kernel needs" },
    Package { name: "xz-utils", needed: Always, sign: Program("xz"), reason: "unpacks them" },
    Package { name: "binutils", needed: Always, sign: Program("strip"), reason: "makes programs small for it" },
    Package { name: "llvm-22-dev", needed: ForLinker, sign: File("/usr/lib/llvm-22/lib/libLLVM.so"), reason: "bpf-linker is built on it" },
    Package { name: "libpolly-22-dev", needed: ForLinker, sign: File("/usr/lib/llvm-22/lib/libPolly.a"), reason: "a library that LLVM names" },
    Package { name: "libzstd-dev", needed: ForLinker, sign: File("/usr/include/zstd.h"), reason: "a library that LLVM names" },
    Package { name: "zlib1g-dev", needed: ForLinker, sign: File("/usr/include/zlib.h"), reason: "a library that LLVM names" },
    Package { name: "g++", needed: ForLinker, sign: Program("c++"), reason: "the C++ library that LLVM names" },
];

impl Package {
    fn is_there(&self) -> bool {
        match self.sign {
            Program(name) => shell::find_program(name).is_some(),
            File(path) => Path::new(path).exists(),
        }
    }
}

/// The packages that are missing; those for building `bpf-linker` only when
/// it has to be built.
pub(crate) fn missing(build_linker: bool) -> Vec<&'static Package> {
    PACKAGES
        .iter()
        .filter(|package| build_linker || package.needed == Always)
        .filter(|package| !package.is_there())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_package_is_listed_once_with_a_reason() {
        let names: HashSet<_> = PACKAGES.iter().map(|package| package.name).collect();
        assert_eq!(names.len(), PACKAGES.len());
        assert!(PACKAGES.iter().all(|package| !package.reason.is_empty()));
    }

    #[test]
    fn a_sign_is_looked_for_where_it_says() {
        let package = |sign| Package {
            name: "x",
            reason: "x",
            needed: Always,
            sign,
        };
        assert!(package(Program("sh")).is_there());
        assert!(!package(Program("no-such-program-of-lvx")).is_there());
        assert!(package(File("/proc/self/status")).is_there());
        assert!(!package(File("/proc/no-such-file")).is_there());
    }
}
