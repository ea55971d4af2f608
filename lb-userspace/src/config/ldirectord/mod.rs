//! Reads ldirectord.cf as ldirectord 4.12 does: a line at a time, blocks by
//! their indentation. What lvx does not act on is told as a warning, what it
//! cannot do as an error; nothing is ignored in silence.

mod lines;
mod service;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use self::{
    lines::{Line, lines},
    service::{Defaults, Virtual},
    words::Fallback,
};
use super::place::{Fault, Places};
use crate::{
    ipvsadm::Names,
    model::{Config, Declaration, ServiceConfig, ServiceId},
};

/// What a file says.
#[derive(Debug)]
pub struct Ldirectord {
    /// Its services, which belong to it.
    pub config: Config,
    /// Where they are in it.
    pub places: Places,
    /// It is read again when it changes.
    pub autoreload: bool,
    /// What is in it and lvx does not act on.
    pub warnings: Vec<Fault>,
}

/// Reads a file. Its services belong to `owner`.
///
/// # Errors
/// What is wrong and where.
pub(crate) fn read(text: &str, owner: &str, names: &dyn Names) -> Result<Ldirectord, Vec<Fault>> {
    let mut reader = Reader {
        names,
        faults: Vec::new(),
        warnings: Vec::new(),
        defaults: Defaults::default(),
        autoreload: false,
    };
    let mut virtuals: Vec<Virtual> = Vec::new();
    let mut inside = false;
    for line in lines(text) {
        if line.indented && inside {
            if let Some(last) = virtuals.last_mut()
                && let Err(why) = last.line(&line, names)
            {
                reader.fault(&line, why);
            }
            continue;
        }
        inside = false;
        if line.text.is_empty() {
            continue;
        }
        if line.indented {
            reader.fault(
                &line,
                "an indented line must follow its virtual= line directly",
            );
            continue;
        }
        match line.directive() {
            Some(("virtual" | "virtual6", value)) => {
                let v6 = line.text.starts_with("virtual6");
                match Virtual::new(&line, value, v6, names) {
                    Ok(new) => {
                        virtuals.push(new);
                        inside = true;
                    }
                    Err(why) => {
                        reader.fault(&line, why);
                        // Its lines are looked at nevertheless.
                        virtuals.push(Virtual::broken(&line, v6));
                        inside = true;
                    }
                }
            }
            _ => {
                if let Err(why) = reader.global(&line) {
                    reader.fault(&line, why);
                }
            }
        }
    }
    reader.finish(virtuals, owner)
}

struct Reader<'a> {
    names: &'a dyn Names,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    defaults: Defaults,
    autoreload: bool,
}

impl Reader<'_> {
    fn fault(&mut self, line: &Line<'_>, why: impl Into<String>) {
        self.faults.push(line.fault(why));
    }

    /// A directive that stands for all services.
    fn global(&mut self, line: &Line<'_>) -> Result<(), String> {
        let Some((name, value)) = line.directive() else {
            if line.text.trim() == "supervised" {
                self.unused(line, "supervised");
                return Ok(());
            }
            return Err(format!("unknown directive: {}", line.text.trim()));
        };
        let defaults = &mut self.defaults;
        match name {
            "checktimeout" => defaults.checktimeout = Some(words::positive(value)?),
            "negotiatetimeout" => defaults.negotiatetimeout = Some(words::positive(value)?),
            "checkinterval" => defaults.checkinterval = words::positive(value)?,
            "checkcount" => defaults.checkcount = words::positive(value)?,
            "failurecount" => defaults.failurecount = words::positive(value)?,
            "autoreload" => self.autoreload = words::yes_no(value)?,
            "quiescent" => defaults.quiescent = words::yes_no(value)?,
            "fallback" => defaults.fallback = Some(Fallback::read(value, false, self.names)?),
            "fallback6" => defaults.fallback6 = Some(Fallback::read(value, true, self.names)?),
            "readdquiescent" | "cleanstop" | "fork" | "supervised" => {
                words::yes_no(value)?;
                // yes and no come to the same here, or are what lvx does anyhow.
                if name == "cleanstop" && value.trim() == "yes" {
                    self.unused(line, "cleanstop: services stay when the daemon stops");
                }
            }
            "logfile" | "emailalert" | "emailalertfrom" | "emailalertfreq" | "emailalertstatus"
            | "smtp" | "callback" | "execute" | "maintenancedir" | "fallbackcommand" => {
                if value.trim().is_empty() {
                    return Err(format!("{name} needs a value"));
                }
                self.unused(line, name);
            }
            "timeout" | "connecttimeout" => {
                return Err(format!(
                    "{name} is obsolete: checktimeout and negotiatetimeout have taken its place"
                ));
            }
            _ => return Err(format!("unknown directive: {name}")),
        }
        Ok(())
    }

    fn unused(&mut self, line: &Line<'_>, what: &str) {
        self.warnings
            .push(line.fault(format!("{what}: not acted on by lvx")));
    }

    fn finish(mut self, virtuals: Vec<Virtual>, owner: &str) -> Result<Ldirectord, Vec<Fault>> {
        let mut places = Places::default();
        let mut seen: HashMap<ServiceId, usize> = HashMap::new();
        let mut services: Vec<ServiceConfig> = Vec::new();
        for one in virtuals {
            let (line, broken) = (one.line, one.is_broken());
            let mut warnings = Vec::new();
            match one.service(&self.defaults, &mut places, &mut warnings) {
                Ok(service) => {
                    if let Some(first) = seen.insert(service.id, line) {
                        self.faults.push(Fault {
                            line,
                            column: 1,
                            text: format!("duplicate virtual server, of line {first}"),
                        });
                    }
                    places.services.insert(service.id, (line, 1));
                    services.push(service);
                }
                Err(_) if broken => {}
                Err(faults) => self.faults.extend(faults),
            }
            self.warnings.extend(warnings);
        }
        if !self.faults.is_empty() {
            self.faults.sort_by_key(|fault| (fault.line, fault.column));
            return Err(self.faults);
        }
        self.warnings.sort_by_key(|fault| fault.line);
        let lines = services.iter();
        let lines = lines.map(|service| (service.id, seen.get(&service.id).copied().unwrap_or(1)));
        let declaration = Declaration {
            name: owner.to_owned(),
            file: String::new(),
            lines: lines.collect(),
        };
        Ok(Ldirectord {
            config: Config {
                services: Some(services),
                declaration: Some(declaration),
                ..Config::default()
            },
            places,
            autoreload: self.autoreload,
            warnings: self.warnings,
        })
    }
}
