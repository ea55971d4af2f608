//! ICMP echoes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};

use super::{Stage, Trouble, Whom, late};

/// Bytes after the echo's header: 64 in all, as `ping` sends.
const PAYLOAD: [u8; 56] = [0; 56];

/// A socket for each family and source address.
#[derive(Default)]
pub(in crate::health) struct Pingers(Mutex<HashMap<(bool, Option<IpAddr>), Client>>);

impl Pingers {
    fn client(&self, whom: Whom) -> Result<Client, Trouble> {
        let v4 = whom.at.is_ipv4();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = all.get(&(v4, whom.source)) {
            return Ok(client.clone());
        }
        let mut config = Config::builder().kind(if v4 { ICMP::V4 } else { ICMP::V6 });
        if let Some(source) = whom.source {
            config = config.bind(SocketAddr::new(source, 0));
        }
        let client =
            Client::new(&config.build()).map_err(|error| Trouble::Here(error.to_string()))?;
        all.insert((v4, whom.source), client.clone());
        Ok(client)
    }

    /// One of these echoes must be answered, within `limit` each.
    pub(super) async fn ping(
        &self,
        whom: Whom,
        tries: u32,
        limit: Duration,
        stage: &Stage,
    ) -> Result<(), Trouble> {
        stage.reached(Stage::ANSWER);
        let client = self.client(whom)?;
        let identifier = PingIdentifier(rand::random());
        let mut pinger = client.pinger(whom.at.ip(), identifier).await;
        pinger.timeout(limit);
        let mut end = Err(Trouble::Server(late("no echo", limit)));
        for number in 0..tries.max(1) {
            end = match pinger.ping(PingSequence(number as u16), &PAYLOAD).await {
                Ok(_) => return Ok(()),
                Err(SurgeError::IOError(error)) => Err(Trouble::of(&error)),
                Err(SurgeError::Timeout { .. }) => Err(Trouble::Server(late("no echo", limit))),
                Err(error) => Err(Trouble::Server(format!("echo: {error}"))),
            };
        }
        end
    }
}
