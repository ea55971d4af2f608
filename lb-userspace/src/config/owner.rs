//! Which services of a director a file speaks of: those that its name owns, or,
//! without a name, those that no file declares.

use std::collections::{HashMap, HashSet};

use crate::model::{Config, Declared, Request, ServiceId};

/// `running` without the services that `wanted` must leave alone.
///
/// # Errors
/// A service in `wanted` that another file declares: as the change that would
/// be made, and why not.
pub fn scope(running: Config, wanted: &Config) -> Result<Config, Box<(Request, String)>> {
    let name = owner(wanted);
    let declared = by_service(&running.declared);
    for service in wanted.services.iter().flatten() {
        if let Some(other) = declared.get(&service.id)
            && Some(other.owner.as_str()) != name
        {
            let why = format!(
                "lvx: it belongs to {}, which declares it in {}:{}",
                other.owner, other.file, other.line
            );
            let change = Request::AddService(service.id, service.spec.clone());
            return Err(Box::new((change, why)));
        }
    }
    Ok(part(running, wanted))
}

/// As [`scope`], for showing: services that both speak of are compared, whoever
/// they belong to.
pub fn part(running: Config, wanted: &Config) -> Config {
    let named: HashSet<ServiceId> = wanted.services.iter().flatten().map(|one| one.id).collect();
    restrict(running, owner(wanted), &named)
}

/// What belongs to the file of this name; without one, what belongs to none.
pub fn belonging(running: Config, name: Option<&str>) -> Config {
    restrict(running, name, &HashSet::new())
}

fn owner(config: &Config) -> Option<&str> {
    config.declaration.as_ref().map(|it| it.name.as_str())
}

fn by_service(declared: &[Declared]) -> HashMap<ServiceId, &Declared> {
    declared.iter().map(|one| (one.service.id, one)).collect()
}

fn restrict(mut running: Config, name: Option<&str>, named: &HashSet<ServiceId>) -> Config {
    let declared = by_service(&running.declared);
    if let Some(services) = &mut running.services {
        services.retain(|service| {
            let owner = declared.get(&service.id).map(|one| one.owner.as_str());
            owner == name || named.contains(&service.id)
        });
    }
    running
}
