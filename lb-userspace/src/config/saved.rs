//! Reads the commands that `ipvsadm -S` wrote. They become a configuration with
//! the sections that they speak of; order and defaults are ipvsadm's.

use super::place::{Fault, Places};
use crate::{
    ipvsadm,
    model::{Config, Request, ServiceConfig, ServiceId, Settings},
};

/// Whether the first line that says something is a command.
pub(super) fn looks_like(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| line.starts_with('-') || line.starts_with("ipvsadm"))
}

/// Reads such a file.
///
/// # Errors
/// Each line that is no change, or that could not be done after those before it.
pub(super) fn read(text: &str) -> Result<(Config, Places), Vec<Fault>> {
    let mut services: Vec<ServiceConfig> = Vec::new();
    let mut index = std::collections::HashMap::new();
    let mut settings: Option<Settings> = None;
    let mut places = Places::default();
    let mut faults = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let change = match ipvsadm::change(line) {
            Ok(None) => continue,
            Ok(Some(change)) => change,
            Err(text) => {
                let (line, text) = (number, text);
                faults.push(Fault { line, column, text });
                continue;
            }
        };
        let at = (number, column);
        let done = match change {
            Request::SetTimeouts(timeouts) => {
                places.timeouts = Some(at);
                let settings = settings.get_or_insert_with(Settings::default);
                settings
                    .set_timeouts(timeouts)
                    .map_err(|refusal| refusal.to_string())
            }
            Request::Clear => {
                services.clear();
                index.clear();
                Ok(())
            }
            change => fold(&mut services, &mut index, &mut places, at, change),
        };
        if let Err(text) = done {
            let line = number;
            faults.push(Fault { line, column, text });
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let config = Config {
        services: Some(services),
        timeouts: settings.map(|settings| settings.timeouts),
        ..Config::default()
    };
    Ok((config, places))
}

type Index = std::collections::HashMap<ServiceId, usize>;

fn fold(
    services: &mut Vec<ServiceConfig>,
    index: &mut Index,
    places: &mut Places,
    at: (usize, usize),
    change: Request,
) -> Result<(), String> {
    let find = |index: &Index, id| index.get(id).copied().ok_or("No such service");
    let server = |index: &Index, id| index.get(id).copied().ok_or("Service not defined");
    let position = |service: &ServiceConfig, dest| {
        let found = service.dests.iter().position(|known| known.id == dest);
        found.ok_or("No such destination")
    };
    match change {
        Request::AddService(id, spec) => {
            if index.contains_key(&id) {
                return Err("Service already exists".into());
            }
            index.insert(id, services.len());
            places.services.insert(id, at);
            let dests = Vec::new();
            services.push(ServiceConfig {
                id,
                spec,
                dests,
                check: None,
            });
        }
        Request::EditService(id, spec) => {
            services[find(index, &id)?].spec = spec;
            places.services.insert(id, at);
        }
        Request::DeleteService(id) => {
            services.remove(find(index, &id)?);
            *index = services
                .iter()
                .zip(0..)
                .map(|(one, at)| (one.id, at))
                .collect();
        }
        Request::AddDest(id, dest) => {
            let service = &mut services[server(index, &id)?];
            if position(service, dest.id).is_ok() {
                return Err("Destination already exists".into());
            }
            places.dests.insert((id, dest.id), at);
            service.dests.push(dest);
        }
        Request::EditDest(id, dest) => {
            let service = &mut services[server(index, &id)?];
            let found = position(service, dest.id)?;
            places.dests.insert((id, dest.id), at);
            service.dests[found] = dest;
        }
        Request::DeleteDest(id, dest) => {
            let service = &mut services[server(index, &id)?];
            let found = position(service, dest)?;
            service.dests.remove(found);
        }
        _ => return Err("not a line of a saved table".into()),
    }
    Ok(())
}
