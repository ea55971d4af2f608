//! `lvx save`: everything that is configured, for `lvx apply`.

use anyhow::Result;

use super::{terminal::show, unexpected};
use crate::{
    config,
    daemon::client::Client,
    model::{Config, Request, Response},
};

pub(super) fn main() -> Result<()> {
    let text = config::text(&running(&mut Client::default())?);
    show(&text);
    Ok(())
}

/// What is configured now.
pub(super) fn running(client: &mut Client) -> Result<Config> {
    match client.request(&Request::Config)? {
        Response::Config(config) => Ok(*config),
        other => Err(unexpected(&other)),
    }
}
