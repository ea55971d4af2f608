//! Health checks as they are configured, and what they have found.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Dest, DestId, ServiceId};

/// How the servers of a service are checked, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCheck {
    /// What is asked.
    pub check: Check,
    /// When, and how often it may fail.
    pub timing: Timing,
    /// Port that is asked; else the server's, or the check's own where that is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Address that checks come from; else one that is no service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// What becomes of a server that fails.
    pub on_failure: OnFailure,
    /// The server that stands in when none is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sorry: Option<Dest>,
    /// What is asked of single servers instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<(DestId, Own)>,
}

/// What is asked of one server instead of what is asked of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Instead of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Instead of the expected text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Instead of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// What becomes of a server that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is removed: its connections go on as after `ipvsadm -d`.
    Remove,
    /// It gets weight 0: its connections and its persistent clients stay.
    Quiesce,
}

/// When a server is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timing {
    /// From the beginning of a check to that of the next, in milliseconds.
    pub interval: u32,
    /// How long a check may take, in milliseconds.
    pub timeout: u32,
    /// Failures in a row after which a server is down.
    pub failures: u32,
    /// Successes in a row after which it is up again.
    pub successes: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: 5_000,
            timeout: 3_000,
            failures: 2,
            successes: 1,
        }
    }
}

/// What is asked of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Nothing: it is up.
    On,
    /// Nothing: it is down.
    Off,
    /// An ICMP echo.
    Ping {
        /// Echoes of which one must be answered, each within the time-out.
        tries: u32,
    },
    /// A TCP connection.
    Tcp,
    /// A TLS handshake.
    Tls,
    /// A datagram: down when the host answers that nobody listens.
    Udp {
        /// What is sent.
        send: String,
        /// A regular expression for the answer; without one silence is good.
        expect: Option<String>,
    },
    /// A page by HTTP or HTTPS.
    Http(Http),
    /// A name or address looked up.
    Dns {
        /// Name, or an address for its name.
        name: String,
        /// By TCP.
        tcp: bool,
        /// A regular expression for one of the answers.
        expect: Option<String>,
    },
    /// The greeting of a mail server.
    Smtp,
    /// The greeting of a news server.
    Nntp,
    /// What a server says, line by line.
    Text {
        /// What is sent first.
        send: String,
        /// A regular expression for one of the lines.
        expect: String,
    },
    /// A query to MySQL or MariaDB.
    Mysql(Sql),
    /// A query to PostgreSQL.
    Postgres(Sql),
    /// A program: exit status 0 is up.
    Command {
        /// Its path.
        program: String,
        /// It is a Perl program, whether executable or not.
        perl: bool,
    },
    /// Connections by TCP, and the other check at first, after a failure, and
    /// once after so many.
    Mixed {
        /// Connections between two of the other checks.
        connections: u32,
        /// The other check.
        other: Box<Check>,
    },
}

/// A page and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Http {
    /// `https`.
    pub tls: bool,
    /// Whether the certificate must be good for `host`.
    pub verify: bool,
    /// The request is for a proxy: the whole address.
    pub proxy: bool,
    /// `GET`, `HEAD`, ….
    pub method: String,
    /// Path, beginning with a slash, or a whole address.
    pub path: String,
    /// The virtual host; else the server's address.
    pub host: Option<String>,
    /// First and last of the good status codes.
    pub status: Vec<(u16, u16)>,
    /// A regular expression for the body.
    pub expect: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            tls: false,
            verify: false,
            proxy: false,
            method: "GET".into(),
            path: "/".into(),
            host: None,
            status: vec![(200, 299)],
            expect: None,
        }
    }
}

/// A login and a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sql {
    /// User.
    pub login: String,
    /// Password.
    pub password: String,
    /// Database.
    pub database: String,
    /// What must give a row; empty: the login alone.
    pub query: String,
}

impl Check {
    /// As it is named in `lvx.toml` and shown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Ping { .. } => "ping",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp { .. } => "udp",
            Self::Http(Http { tls: true, .. }) => "https",
            Self::Http(_) => "http",
            Self::Dns { .. } => "dns",
            Self::Smtp => "smtp",
            Self::Nntp => "nntp",
            Self::Text { .. } => "text",
            Self::Mysql(_) => "mysql",
            Self::Postgres(_) => "postgresql",
            Self::Command { .. } => "command",
            Self::Mixed { other, .. } => other.name(),
        }
    }

    /// Port that it asks where a server has none; 0 where there is no usual one.
    pub fn usual_port(&self) -> u16 {
        match self {
            Self::Http(Http { tls: true, .. }) => 443,
            Self::Http(Http { proxy: true, .. }) => 3128,
            Self::Http(_) => 80,
            Self::Dns { .. } => 53,
            Self::Smtp => 25,
            Self::Nntp => 119,
            Self::Mysql(_) => 3306,
            Self::Postgres(_) => 5432,
            Self::Mixed { other, .. } => other.usual_port(),
            Self::On
            | Self::Off
            | Self::Ping { .. }
            | Self::Tcp
            | Self::Tls
            | Self::Udp { .. }
            | Self::Text { .. }
            | Self::Command { .. } => 0,
        }
    }

    /// Whether it goes to a port at all.
    pub fn needs_port(&self) -> bool {
        !matches!(
            self,
            Self::On | Self::Off | Self::Ping { .. } | Self::Command { .. }
        )
    }

    /// The same with another request and another expected text.
    #[must_use]
    pub fn with(&self, own: &Own) -> Self {
        let mut check = self.clone();
        if let Some(request) = &own.request {
            check.set_request(request);
        }
        if let Some(text) = &own.expect {
            check.set_expected(text);
        }
        check
    }

    /// Makes a password unreadable.
    pub(super) fn hide_password(&mut self) {
        match self {
            Self::Mysql(sql) | Self::Postgres(sql) if !sql.password.is_empty() => {
                sql.password = "(hidden)".into();
            }
            Self::Mixed { other, .. } => other.hide_password(),
            _ => {}
        }
    }

    fn set_request(&mut self, request: &str) {
        match self {
            Self::Http(http) => http.path = request.to_owned(),
            Self::Dns { name, .. } => *name = request.to_owned(),
            Self::Udp { send, .. } | Self::Text { send, .. } => *send = request.to_owned(),
            Self::Mysql(sql) | Self::Postgres(sql) => sql.query = request.to_owned(),
            Self::Mixed { other, .. } => other.set_request(request),
            _ => {}
        }
    }

    fn set_expected(&mut self, text: &str) {
        match self {
            Self::Http(Http { expect, .. })
            | Self::Dns { expect, .. }
            | Self::Udp { expect, .. } => *expect = Some(text.to_owned()),
            Self::Text { expect, .. } => *expect = text.to_owned(),
            Self::Mixed { other, .. } => other.set_expected(text),
            _ => {}
        }
    }
}

impl ServiceCheck {
    /// What is asked of a server.
    pub fn of(&self, dest: DestId) -> Check {
        let own = self.own(dest);
        own.map_or_else(|| self.check.clone(), |own| self.check.with(own))
    }

    /// What is asked of it alone.
    pub fn own(&self, dest: DestId) -> Option<&Own> {
        let own = self.servers.iter().find(|(id, _)| *id == dest);
        own.map(|(_, own)| own)
    }
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// New: it gets no clients before its first good check.
    Waiting,
    /// It lives.
    Up,
    /// It does not.
    Down,
}

impl Condition {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A change of a server's condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// What it became.
    pub to: Condition,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Why.
    pub reason: String,
}

/// What the checks of a server have come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its service.
    pub service: ServiceId,
    /// The server.
    pub dest: DestId,
    /// It lives.
    pub up: bool,
    /// Why.
    pub reason: String,
}

/// Answer to [`Request::Health`](super::Request::Health): a checked service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// The service.
    pub service: ServiceId,
    /// Whose it is, if a file declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What is asked.
    pub check: String,
    /// When.
    pub timing: Timing,
    /// What becomes of a server that fails.
    pub on_failure: OnFailure,
    /// The server that stands in, and whether it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sorry: Option<(DestId, bool)>,
    /// Its servers in the order of the configuration.
    pub servers: Vec<ServerHealth>,
}

/// A checked server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// The server.
    pub server: DestId,
    /// Its condition.
    pub state: Condition,
    /// Its weight by the configuration.
    pub weight: u32,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Why.
    pub reason: String,
    /// What it was before, the latest last.
    pub history: Vec<Transition>,
    /// The last check, if there was one since the daemon started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastCheck>,
}

/// The last check of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCheck {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// Failures in a row, this one included.
    pub failures: u32,
    /// Why it failed; `None` when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use crate::config;

    #[test]
    fn who_may_list_sees_no_password() {
        let text = "name = \"x\"\n[[service]]\nmark = 7\ncheck = { type = \"mysql\", login = \"me\", password = \"geheim\", connections = 2 }\n";
        let (mut config, _) = config::read(text).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert!(config::text(&config).contains("geheim"));
        config.hide_passwords();
        let text = config::text(&config);
        assert!(
            text.contains("(hidden)") && !text.contains("geheim"),
            "{text}"
        );
    }
}
