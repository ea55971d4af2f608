use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Dest, Pool, PrefixSet, Rule, ServiceCheck, ServiceId, ServiceSpec, Timeouts};

/// A configuration, or those sections of one that a file holds. A section that
/// is absent is not spoken of; one that is there is complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Services with their servers, in the order in which they are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<ServiceConfig>>,
    /// Every pool of local addresses, the director's and those of services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<Pool>>,
    /// Time-outs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Settings that are not the default, by name without `net.ipv4.vs.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<BTreeMap<String, i64>>,
    /// Mark rules, IPv4's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<Vec<Rule>>,
    /// Filter rules, IPv4's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<Rule>>,
    /// Sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sets: Option<Vec<PrefixSet>>,
    /// Of a file with a name: the name, to which its services belong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<Declaration>,
    /// Of a running configuration: the services that files declare, as they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<Declared>,
}

impl Config {
    /// Makes the passwords of checks unreadable, for who may list and not change.
    pub fn hide_passwords(&mut self) {
        let declared = self.declared.iter_mut().map(|one| &mut one.service);
        let services = self.services.iter_mut().flatten().chain(declared);
        for check in services.filter_map(|service| service.check.as_mut()) {
            check.check.hide_password();
        }
    }
}

/// The name of a file, and where it declares what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declaration {
    /// Whom the services belong to.
    pub name: String,
    /// Path of the file.
    pub file: String,
    /// Lines of its services.
    pub lines: Vec<(ServiceId, usize)>,
}

/// A service as a file declares it, whatever has become of it since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// The file's name.
    pub owner: String,
    /// Path of the file.
    pub file: String,
    /// Line of the service in it.
    pub line: usize,
    /// What it says.
    pub service: ServiceConfig,
}

/// A service with its servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// Its key.
    pub id: ServiceId,
    /// Its parameters.
    pub spec: ServiceSpec,
    /// Its servers, the oldest first.
    pub dests: Vec<Dest>,
    /// How its servers are checked, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Box<ServiceCheck>>,
}
