//! What the linked object must hold and must not.
//!
//! A panic in an eBPF program is an endless loop at best; the verifier may
//! accept a branch that leads there. So none may be left after optimisation:
//! every panic goes through `core::panicking`, whose functions would still be
//! in the symbol table. The object must also carry BTF, or the kernel refuses
//! its timers and global functions.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSymbol};

/// Part of the mangled name of everything in `core::panicking`, in both of
/// rustc's mangling schemes.
const PANICKING: &str = "4core9panicking";

/// Checks the bytes of a linked eBPF object. The error names what is wrong.
pub fn check(bytes: &[u8]) -> Result<()> {
    let file = object::File::parse(bytes).context("the linked eBPF object is not an ELF file")?;
    let panics: Vec<&str> = file
        .symbols()
        .filter_map(|symbol| symbol.name().ok())
        .filter(is_panic)
        .collect();
    if !panics.is_empty() {
        bail!(
            "the eBPF program can panic: its symbol table has {}\n\
             find the indexing, slicing, unwrap, division or overflow check that calls it",
            panics.join(", ")
        );
    }
    if file.section_by_name(".BTF").is_none() {
        bail!("the linked eBPF object has no .BTF section: was it linked with --btf?");
    }
    Ok(())
}

fn is_panic(name: &&str) -> bool {
    name.contains(PANICKING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_known_in_both_manglings() {
        assert!(is_panic(
            &"_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE"
        ));
        assert!(is_panic(
            &"_RNvNtCs7kCxBCBBHtS_4core9panicking18panic_bounds_check"
        ));
        assert!(!is_panic(&"lvx"));
        assert!(!is_panic(&"_ZN9lb_common9panicking5countE"));
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        let error = check(b"#!/bin/sh").unwrap_err().to_string();
        assert!(error.contains("not an ELF file"), "{error}");
    }
}
