//! `lvx sysctl`: the `net.ipv4.vs.*` settings, as `sysctl` shows and sets them.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args as ClapArgs;

use super::unexpected;
use crate::{
    daemon::client::Client,
    model::{Effect, PREFIX, Request, Response, SYSCTLS, Settings, Sysctl, sysctl},
};

/// Arguments of `lvx sysctl`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Set: every word must be NAME=VALUE
    #[arg(short, long)]
    write: bool,
    /// Values alone, without names
    #[arg(short = 'n', long)]
    values: bool,
    /// All settings (as without a name)
    #[arg(short, long)]
    all: bool,
    /// net.ipv4.vs.conn_reuse_mode shows it, net.ipv4.vs.conn_reuse_mode=0 sets it
    #[arg(value_name = "NAME[=VALUE]")]
    words: Vec<String>,
}

pub(super) fn main(args: &Args) -> Result<()> {
    ensure!(
        !args.write || args.words.iter().all(|word| word.contains('=')),
        "-w wants NAME=VALUE"
    );
    let mut client = Client::default();
    for word in &args.words {
        if let Some((name, value)) = word.split_once('=') {
            set(&mut client, name.trim(), value.trim())?;
        }
    }
    let settings = match client.request(&Request::Settings)? {
        Response::Settings(settings) => settings,
        other => return Err(unexpected(&other)),
    };
    print!("{}", text(&settings, args)?);
    Ok(())
}

fn set(client: &mut Client, name: &str, value: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "permission denied: setting needs root"
    );
    known(name)?;
    let number = value
        .parse()
        .with_context(|| format!("{name} is a number, not '{value}'"))?;
    match client.request(&Request::SetSysctl(name.into(), number))? {
        Response::Ok => Ok(()),
        Response::Refused(refusal) => bail!("{refusal}"),
        other => Err(unexpected(&other)),
    }
}

fn known(name: &str) -> Result<&'static Sysctl> {
    sysctl(name).ok_or_else(|| anyhow!("no setting {name}: 'lvx sysctl' lists them"))
}

/// What is shown: all settings, or those that are named.
fn text(settings: &Settings, args: &Args) -> Result<String> {
    let mut out = String::new();
    if args.words.is_empty() || args.all {
        for sysctl in SYSCTLS {
            line(&mut out, settings, sysctl, args.values);
        }
        return Ok(out);
    }
    for word in &args.words {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        line(&mut out, settings, known(name.trim())?, args.values);
    }
    Ok(out)
}

fn line(out: &mut String, settings: &Settings, sysctl: &Sysctl, values: bool) {
    let value = settings.value(sysctl);
    // A string takes every write.
    let _ = if values {
        writeln!(out, "{value}")
    } else {
        let note = match sysctl.effect {
            Effect::Kernels => String::new(),
            Effect::NotBuilt => "  # not supported yet".into(),
            Effect::None(why) => format!("  # no meaning here: {why}"),
        };
        writeln!(out, "{PREFIX}{} = {value}{note}", sysctl.name)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Args {
        Args {
            write: false,
            values: false,
            all: false,
            words: words.iter().map(|word| (*word).into()).collect(),
        }
    }

    #[test]
    fn shown_as_sysctl_shows_them() {
        let mut settings = Settings::default();
        settings.set("conn_reuse_mode", 2).unwrap();
        let one = text(&settings, &args(&["net.ipv4.vs.conn_reuse_mode"])).unwrap();
        assert_eq!(one, "net.ipv4.vs.conn_reuse_mode = 2\n");
        let set = text(&settings, &args(&["sloppy_tcp=0"])).unwrap();
        assert_eq!(set, "net.ipv4.vs.sloppy_tcp = 0\n");
        let all = text(&settings, &args(&[])).unwrap();
        assert_eq!(all.lines().count(), SYSCTLS.len());
        assert!(all.contains("net.ipv4.vs.cache_bypass = 0  # not supported yet\n"));
        assert!(all.contains("net.ipv4.vs.conntrack = 0  # no meaning here: "));
        assert!(text(&settings, &args(&["nonsense"])).is_err());
    }
}
