//! Kernel modules with those they need, in the order to load them.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use lvx_tests::lab::{run, tool};

use super::{image::Image, packages::Unpacked};

/// Puts modules into the image as `/modules/NNN-NAME.ko`, decompressed, numbered
/// in the order to load them. A module that this kernel lacks (some are built in,
/// some came later) is left out.
///
/// # Errors
/// When the package holds no modules, or one cannot be read.
pub fn add(image: &mut Image, kernel: &Unpacked, wanted: &[&str]) -> Result<()> {
    let release = kernel.release()?;
    let base = kernel.root.join("lib/modules").join(&release);
    let index = base.join("modules.dep");
    if !index.is_file() {
        // Debian's package leaves this to its installation.
        run(Command::new(tool("depmod"))
            .arg("-b")
            .arg(&kernel.root)
            .arg(&release))?;
    }
    let text =
        fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
    for (number, path) in order(&text, wanted).iter().enumerate() {
        let name = stem(path);
        image.file(
            &format!("/modules/{number:03}-{name}.ko"),
            0o644,
            content(&base.join(path))?,
        );
    }
    Ok(())
}

/// Paths of the modules wanted and of what they need, each once, needs first.
/// `modules.dep` names the needs of a module in the reverse order of loading.
fn order(modules_dep: &str, wanted: &[&str]) -> Vec<String> {
    let index: HashMap<_, _> = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (stem(path), (path, needs)))
        .collect();
    let mut seen = HashSet::new();
    wanted
        .iter()
        .filter_map(|name| index.get(*name))
        .flat_map(|(path, needs)| needs.split_whitespace().rev().chain([*path]))
        .filter(|path| seen.insert(*path))
        .map(str::to_owned)
        .collect()
}

/// `ip_vs` of `kernel/net/netfilter/ipvs/ip_vs.ko.xz`.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

fn content(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = run(Command::new(tool("xz")).arg("-dc").arg(path))?;
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let index =
            "k/a.ko.xz: k/b.ko.xz k/c.ko.xz\nk/b.ko.xz: k/c.ko.xz\nk/c.ko.xz:\nk/d.ko: k/c.ko.xz\n";
        assert_eq!(
            order(index, &["a", "d", "none"]),
            ["k/c.ko.xz", "k/b.ko.xz", "k/a.ko.xz", "k/d.ko"]
        );
    }
}
