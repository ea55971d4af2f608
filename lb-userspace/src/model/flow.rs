use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Connection, Method, Prefix, Protocol, ServiceId};

/// A connection or template, with what `-L -c` does not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// What `-L -c` tells.
    #[serde(flatten)]
    pub connection: Connection,
    /// Whose server it has; `None` when that is gone.
    pub owner: Option<ServiceId>,
    /// How its packets reach the server.
    pub method: Method,
    /// It is a persistence template.
    pub template: bool,
}

/// Addresses and perhaps a port of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Addresses.
    pub addr: Prefix,
    /// Port; `None` is any.
    #[serde(default)]
    pub port: Option<u16>,
}

impl End {
    fn matches(&self, end: (IpAddr, u16)) -> bool {
        self.addr.contains(end.0) && self.port.is_none_or(|port| port == end.1)
    }
}

impl std::str::FromStr for End {
    type Err = String;

    /// Reads `ADDRESS`, `ADDRESS/LENGTH`, `ADDRESS:PORT`, `[ADDRESS]:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(end) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self {
                addr: Prefix::host(end.ip()),
                port: Some(end.port()),
            });
        }
        let addr = text.trim_start_matches('[').trim_end_matches(']').parse();
        let addr = addr
            .map_err(|_| format!("`{text}' is neither ADDRESS, ADDRESS/LENGTH nor ADDRESS:PORT"))?;
        Ok(Self { addr, port: None })
    }
}

/// Which connections: those that all that is given applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowFilter {
    /// CIP.
    pub client: Option<End>,
    /// VIP.
    pub vip: Option<End>,
    /// RIP.
    pub server: Option<End>,
    /// Protocol.
    pub protocol: Option<Protocol>,
    /// State, as it is listed.
    pub state: Option<String>,
    /// Service that the server belongs to.
    pub service: Option<ServiceId>,
    /// Templates: only them, or none.
    pub templates: Option<bool>,
}

impl FlowFilter {
    /// Whether this one is asked for.
    pub fn matches(&self, flow: &Flow) -> bool {
        let Connection {
            protocol,
            ref state,
            client,
            service,
            dest,
            ..
        } = flow.connection;
        let end = |end: &Option<End>, of| end.is_none_or(|end| end.matches(of));
        end(&self.client, client)
            && end(&self.vip, service)
            && end(&self.server, dest)
            && self.protocol.is_none_or(|one| one.number() == protocol)
            && (self.state.as_ref()).is_none_or(|one| one.eq_ignore_ascii_case(state))
            && self.service.is_none_or(|one| flow.owner == Some(one))
            && self.templates.is_none_or(|one| flow.template == one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    fn flow() -> Flow {
        Flow {
            connection: Connection {
                protocol: 6,
                expires: 5,
                state: "ESTABLISHED".into(),
                client: ([10, 1, 2, 3].into(), 4000),
                service: ([10, 0, 0, 1].into(), 80),
                dest: ([192, 168, 0, 1].into(), 8080),
                pe: None,
            },
            owner: Some(ServiceId::Mark {
                mark: 7,
                family: Family::V4,
            }),
            method: Method::Masq,
            template: false,
        }
    }

    #[test]
    fn everything_that_is_given_must_apply() {
        let end = |text: &str| Some(text.parse::<End>().unwrap());
        let none = FlowFilter::default;
        for (filter, want) in [
            (none(), true),
            (
                FlowFilter {
                    client: end("10.1.0.0/16"),
                    ..none()
                },
                true,
            ),
            (
                FlowFilter {
                    client: end("10.2.0.0/16"),
                    ..none()
                },
                false,
            ),
            (
                FlowFilter {
                    client: end("10.1.2.3:4001"),
                    ..none()
                },
                false,
            ),
            (
                FlowFilter {
                    vip: end("10.0.0.1:80"),
                    ..none()
                },
                true,
            ),
            (
                FlowFilter {
                    server: end("192.168.0.1"),
                    vip: end("::/0"),
                    ..none()
                },
                false,
            ),
            (
                FlowFilter {
                    protocol: Some(Protocol::Udp),
                    ..none()
                },
                false,
            ),
            (
                FlowFilter {
                    state: Some("established".into()),
                    ..none()
                },
                true,
            ),
            (
                FlowFilter {
                    service: flow().owner,
                    ..none()
                },
                true,
            ),
            (
                FlowFilter {
                    templates: Some(true),
                    ..none()
                },
                false,
            ),
        ] {
            assert_eq!(filter.matches(&flow()), want, "{filter:?}");
        }
        let six: End = "[fd00::1]:80".parse().unwrap();
        assert_eq!(
            (six.addr.to_string(), six.port),
            ("fd00::1/128".into(), Some(80))
        );
        assert!("10.0.0.1:x".parse::<End>().is_err());
    }
}
