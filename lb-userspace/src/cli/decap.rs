use std::{fmt::Write as _, net::IpAddr};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use nix::{
    ifaddrs::getifaddrs,
    net::if_::{if_indextoname, if_nametoindex},
    sys::socket::SockaddrLike as _,
};

use super::run::ModeArg;
use crate::{
    daemon::files::Files,
    dataplane::{Decap, DecapState, Wanted, decap_state, remove},
};

/// Arguments of `lvx decap`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Interface that tunnels come in by; may be given again. Its addresses are
    /// what tunnels are addressed to
    #[arg(long, short, value_name = "NAME", required_unless_present_any = ["remove", "status"])]
    interface: Vec<String>,
    /// Take only packets to this address out of tunnels; may be given again
    #[arg(long, value_name = "ADDR", requires = "interface")]
    vip: Vec<IpAddr>,
    /// UDP port of GUE
    #[arg(long, value_name = "PORT", default_value_t = 6080,
          value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: u16,
    /// How to attach: in the driver, in the generic hook, or the first that works
    #[arg(long, value_enum, default_value_t = ModeArg::Auto)]
    mode: ModeArg,
    /// Stop taking packets out, and remove the program
    #[arg(long, conflicts_with_all = ["interface", "status"])]
    remove: bool,
    /// Show what is taken out, and what became of frames
    #[arg(long, conflicts_with = "interface")]
    status: bool,
    /// Show it as JSON
    #[arg(long, requires = "status")]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("permission denied: lvx decap needs root");
    }
    let files = Files::here()?;
    let pins = files.decap_pins();
    if args.remove {
        if !pins.exists() {
            bail!("nothing is taken out of tunnels in this network namespace");
        }
        remove(&pins)?;
        files.forget_empty();
        return Ok(());
    }
    if args.status {
        let state = decap_state(&pins)?;
        let state = state.context(
            "nothing is taken out of tunnels in this network namespace: \
             start it with 'lvx decap --interface …'",
        )?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&state)?);
        } else {
            print!("{}", text(&state));
        }
        return Ok(());
    }
    let mut interfaces = Vec::new();
    for name in &args.interface {
        let index = if_nametoindex(name.as_str())
            .with_context(|| format!("there is no interface {name}"))?;
        interfaces.push((index, name));
    }
    let wanted = Wanted {
        own: addresses_of(&args.interface)?,
        vips: args.vip.clone(),
        gue_port: args.gue_port,
    };
    if wanted.own.is_empty() {
        bail!(
            "{} has no address that a director could send tunnels to",
            args.interface.join(", ")
        );
    }
    files.prepare()?;
    let mut decap = Decap::load(&pins, &wanted)?;
    let attached = interfaces.iter().try_for_each(|(index, name)| {
        let attached = decap.attach(*index, name, args.mode.into())?;
        if let Some(why) = attached.fallback {
            eprintln!("lvx: {name}: attached in generic mode, which is slower: {why}");
        }
        Ok(())
    });
    if let Err(error) = attached {
        if decap_state(&pins)
            .is_ok_and(|state| state.is_some_and(|state| state.interfaces.is_empty()))
        {
            // The first error is the one to tell.
            let _ = remove(&pins);
            files.forget_empty();
        }
        return Err(error);
    }
    decap.keep_only(
        &interfaces
            .iter()
            .map(|(index, _)| *index)
            .collect::<Vec<_>>(),
    )
}

/// The addresses of these interfaces; a link-local one is no server's.
fn addresses_of(interfaces: &[String]) -> Result<Vec<IpAddr>> {
    let all = getifaddrs().context("cannot list the addresses")?;
    let of_interface = all.filter(|entry| interfaces.contains(&entry.interface_name));
    let addresses = of_interface.filter_map(|entry| {
        let address = entry.address?;
        match address.family()? {
            nix::sys::socket::AddressFamily::Inet => {
                Some(IpAddr::from(address.as_sockaddr_in()?.ip()))
            }
            nix::sys::socket::AddressFamily::Inet6 => {
                let address = address.as_sockaddr_in6()?.ip();
                (!address.is_unicast_link_local()).then_some(IpAddr::from(address))
            }
            _ => None,
        }
    });
    Ok(addresses.collect())
}

fn text(state: &DecapState) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<14}{value}");
    };
    let list = |addresses: &[IpAddr]| {
        let shown: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
        shown.join(", ")
    };
    let interfaces: Vec<_> = state
        .interfaces
        .iter()
        .map(|(index, mode)| {
            let name = if_indextoname(*index).map_or_else(
                |_| format!("gone ({index})"),
                |name| name.to_string_lossy().into_owned(),
            );
            format!("{name} ({mode})")
        })
        .collect();
    line("interfaces", interfaces.join(", "));
    line("tunnels to", list(&state.wanted.own));
    line(
        "packets to",
        if state.wanted.vips.is_empty() {
            "every address".into()
        } else {
            list(&state.wanted.vips)
        },
    );
    line("GUE port", state.wanted.gue_port.to_string());
    for (outcome, frames) in state.frames.iter().filter(|(_, frames)| *frames > 0) {
        line("frames", format!("{frames:>12}  {outcome}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_told() {
        let state = DecapState {
            interfaces: vec![(1, "native")],
            wanted: Wanted {
                own: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
                vips: Vec::new(),
                gue_port: 6080,
            },
            frames: vec![("unwrapped-gue", 3), ("unwrapped-gre", 0)],
        };
        assert_eq!(
            text(&state),
            "interfaces    lo (native)\n\
             tunnels to    192.0.2.1, 2001:db8::1\n\
             packets to    every address\n\
             GUE port      6080\n\
             frames                   3  unwrapped-gue\n"
        );
    }
}
