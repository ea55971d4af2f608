//! `lvx save`: everything that is configured, for `lvx apply`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;

use super::{terminal::show, unexpected};
use crate::{
    config,
    daemon::client::Client,
    model::{Config, Declaration, Request, Response},
};

/// Arguments of `lvx save`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// The services that the file of this name declares, as they are now;
    /// without it, all that belongs to no file
    #[arg(long)]
    name: Option<String>,
}

pub(super) fn main(args: &Args) -> Result<()> {
    let running = running(&mut Client::default())?;
    let mut counts = BTreeMap::new();
    for declared in &running.declared {
        *counts.entry(declared.owner.clone()).or_insert(0) += 1;
    }
    let mine = config::belonging(running, args.name.as_deref());
    let Some(name) = &args.name else {
        let mut text = String::new();
        for (name, count) in counts {
            text += &format!("# not here: {count} services of {name} ('lvx save --name {name}')\n");
        }
        show(&(text + &config::text(&mine)));
        return Ok(());
    };
    if !counts.contains_key(name) {
        bail!("no file of the name {name} was applied: 'lvx show' says whose services are");
    }
    let mine = Config {
        services: mine.services,
        declaration: Some(Declaration {
            name: name.clone(),
            file: String::new(),
            lines: Vec::new(),
        }),
        ..Config::default()
    };
    show(&config::text(&mine));
    Ok(())
}

/// What is configured now.
pub(super) fn running(client: &mut Client) -> Result<Config> {
    match client.request(&Request::Config)? {
        Response::Config(config) => Ok(*config),
        other => Err(unexpected(&other)),
    }
}
