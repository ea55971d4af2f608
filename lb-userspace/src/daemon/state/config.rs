//! The configuration as files have it, and the change to one of those.

use std::collections::HashMap;

use super::{Loads, RawStats, Service, State};
use crate::{
    config::{changes, scope},
    model::{
        Chain, Config, Declaration, Declared, DestId, Refusal, Request, Rule, ServiceConfig,
        ServiceId, Since,
    },
};

/// A service as files have it.
fn service_config(id: ServiceId, service: &Service) -> ServiceConfig {
    ServiceConfig {
        id,
        spec: service.spec.clone(),
        dests: service.configured(),
        check: service
            .health
            .as_ref()
            .map(|health| Box::new(health.check.clone())),
    }
}

impl State {
    /// Everything that is configured.
    pub fn config(&self, stats: &dyn RawStats) -> Config {
        let services = self
            .services()
            .map(|(id, service)| service_config(*id, service));
        let rules = |chain| -> Vec<Rule> {
            let listed = self.list_rules(chain, stats).into_iter();
            listed.map(|listed| listed.rule).collect()
        };
        Config {
            services: Some(services.collect()),
            pools: Some(self.pool_list()),
            timeouts: Some(self.settings.timeouts),
            sysctls: Some(self.settings.sysctls.clone()),
            marks: Some(rules(Chain::Mark)),
            filters: Some(rules(Chain::Filter)),
            sets: Some(self.list_sets()),
            declaration: None,
            declared: self.declared.values().cloned().collect(),
        }
    }

    /// What has become of a declared service.
    pub fn since(&self, declared: &Declared) -> Since {
        let id = declared.service.id;
        let Some(service) = self.services.get(&id) else {
            return Since::Removed;
        };
        let only = |service: ServiceConfig| Config {
            services: Some(vec![service]),
            ..Config::default()
        };
        let (now, then) = (
            only(service_config(id, service)),
            only(declared.service.clone()),
        );
        if changes(&now, &then).is_empty() {
            Since::Kept
        } else {
            Since::Changed
        }
    }

    /// Takes down what a file with a name declares.
    fn declare(&mut self, wanted: &Config) {
        let Some(Declaration { name, file, lines }) = &wanted.declaration else {
            return;
        };
        let lines: HashMap<ServiceId, usize> = lines.iter().copied().collect();
        let services = wanted.services.iter().flatten();
        let new = services.map(|service| Declared {
            owner: name.clone(),
            file: file.clone(),
            line: lines.get(&service.id).copied().unwrap_or(1),
            service: service.clone(),
        });
        let new: Vec<Declared> = new.collect();
        let old = self.declared.values().filter(|one| one.owner == *name);
        if old.eq(&new) {
            return;
        }
        self.declared.retain(|_, one| one.owner != *name);
        self.declared
            .extend(new.into_iter().map(|one| (one.service.id, one)));
        self.dirty = true;
    }

    /// Makes the configuration what `wanted` says, in one transaction with what
    /// else is in it. Services that belong to others are left alone.
    ///
    /// # Errors
    /// The first change that is refused. Nothing is done then.
    pub fn apply_config(
        &mut self,
        wanted: &Config,
        stats: &dyn RawStats,
        loads: &dyn Loads,
        now: u64,
    ) -> Result<(), Box<(Request, Refusal)>> {
        let running = scope(self.config(stats), wanted)
            .map_err(|refused| Box::new((refused.0, Refusal::Other(refused.1))))?;
        let changes = changes(&running, wanted);
        let before = self.clone();
        self.from_file = true;
        for change in changes {
            if let Err(refusal) = self.apply(&change, stats, loads, now) {
                *self = before;
                return Err(Box::new((change, refusal)));
            }
        }
        self.from_file = false;
        self.declare(wanted);
        Ok(())
    }

    /// Gives a server weight 0, or the last other one that it had.
    pub(super) fn drain(&mut self, id: ServiceId, dest: DestId, undo: bool) -> Result<(), Refusal> {
        let service = self.services.get(&id).ok_or(Refusal::NoSuchService)?;
        let configured = service.configured().into_iter();
        let mut configured = configured.filter(|known| known.id == dest);
        let old = configured.next().ok_or(Refusal::NoSuchDest)?;
        let last = service.last_weight(dest).unwrap_or(0);
        let mut new = old;
        new.spec.weight = if undo { last } else { 0 };
        if undo && new.spec.weight == 0 {
            return Err(Refusal::Other(
                "lvx: this server was added with weight 0: 'lvx ipvsadm -e … -w WEIGHT' gives it another"
                    .into(),
            ));
        }
        if new == old {
            return Ok(());
        }
        self.edit_dest(id, new)
    }

    /// Slot of a configured server.
    pub fn dest_slot(&self, id: &ServiceId, dest: DestId) -> Result<u32, Refusal> {
        let service = self.services.get(id).ok_or(Refusal::NoSuchService)?;
        let mut nodes = service.dests.iter();
        let node = nodes.find(|node| node.dest.id == dest);
        // One that its checks have taken out still has connections.
        let mut trash = self.trash();
        let mut trashed =
            || trash.find(|trashed| trashed.service == *id && trashed.dest.id == dest);
        node.map(|node| node.slot)
            .or_else(|| trashed().map(|trashed| trashed.slot))
            .ok_or(Refusal::NoSuchDest)
    }

    /// Slots of servers below which all that were ever used are.
    pub fn dest_slots_used(&self) -> u32 {
        self.dest_slots.ever_used()
    }
}

#[cfg(test)]
mod tests {
    use lb_common::layout::Stats;

    use super::*;
    use crate::{
        config,
        daemon::state::{Limits, Service},
    };

    /// Nothing counts, nothing refers.
    struct Idle;

    impl RawStats for Idle {
        fn raw(&self, _: u32) -> Stats {
            Stats::default()
        }
    }

    impl Loads for Idle {
        fn references(&self, _: u32) -> u64 {
            0
        }
    }

    const LIMITS: Limits = Limits {
        services: 3,
        dests: 4,
        table: 16,
        sched_tables: 1,
        seed: 1,
        rules: 1 << 12,
    };

    fn wanted(text: &str) -> Config {
        config::read(text)
            .unwrap_or_else(|faults| panic!("{faults:?}"))
            .0
    }

    fn apply(state: &mut State, text: &str) -> Result<(), Box<(Request, Refusal)>> {
        state.apply_config(&wanted(text), &Idle, &Idle, 0)
    }

    const TWO: &str = "[[service]]\ntcp = \"10.0.0.1:80\"\nscheduler = \"mh\"\n\
                       server = [{ address = \"10.1.0.1\", weight = 3 }, { address = \"10.1.0.2\" }]\n\
                       [[service]]\nmark = 7\n[sysctl]\nsloppy_tcp = 1\n";

    #[test]
    fn a_refused_configuration_leaves_everything_as_it_was() {
        let mut state = State::new(LIMITS);
        apply(&mut state, TWO).unwrap();
        state.finish();
        let before = state.to_text();
        for (text, refused) in [
            // The last of many services does not fit.
            (
                "[timeouts]\ntcp = 5\n[[service]]\nmark = 1\n[[service]]\nmark = 2\n[[service]]\nmark = 3\n[[service]]\nmark = 4\n",
                "the table of services is full",
            ),
            (
                "[[service]]\ntcp = \"10.0.0.1:80\"\nserver = [{ address = \"224.0.0.1\" }]\n",
                "Invalid operation",
            ),
            (
                "[[service]]\nmark = 9\nscheduler = \"mh\"\n[[service]]\nmark = 8\nscheduler = \"mh\"\n",
                "mh services",
            ),
            (
                "[rules]\nfilter = [\"-m set --match-set no src -j DROP\"]\n",
                "there is no set no",
            ),
        ] {
            let error = apply(&mut state, text).unwrap_err().1.to_string();
            assert!(error.contains(refused), "{error}");
            assert!(!state.is_dirty(), "{refused}");
            assert_eq!(state.to_text(), before, "{refused}");
        }
        // And what it has given back in between is nobody else's.
        apply(&mut state, "service = []\n").unwrap();
        assert_eq!(state.services().len(), 0);
        assert_eq!(state.settings().sysctls.len(), 1, "that was not spoken of");
    }

    #[test]
    fn what_stays_keeps_its_slot_and_place() {
        let mut state = State::new(LIMITS);
        apply(&mut state, TWO).unwrap();
        state.finish();
        let slots = |state: &State| -> Vec<_> {
            let service: &Service = state.service(&"tcp:10.0.0.1:80".parse().unwrap()).unwrap();
            let nodes = service.dests.iter();
            nodes
                .map(|node| (node.dest.id.to_string(), node.slot))
                .collect()
        };
        let old = slots(&state);
        assert_eq!(old[0].0, "10.1.0.2:80", "the newest first");
        // In another order, with another weight, and one more.
        let other = TWO.replace(
            "{ address = \"10.1.0.1\", weight = 3 }, { address = \"10.1.0.2\" }",
            "{ address = \"10.1.0.3\" }, { address = \"10.1.0.2\" }, { address = \"10.1.0.1\", weight = 4 }",
        );
        apply(&mut state, &other).unwrap();
        let new = slots(&state);
        assert_eq!(new[1..], old);
        assert_eq!(new[0].0, "10.1.0.3:80");
        let again = wanted(&config::text(&state.config(&Idle)));
        state.finish();
        state.apply_config(&again, &Idle, &Idle, 0).unwrap();
        assert!(!state.is_dirty(), "what it says is what it is");
    }

    /// As a command line sends it.
    fn named(name: &str, text: &str) -> Config {
        let mut config = wanted(&format!("name = \"{name}\"\n{text}"));
        config.declaration.as_mut().unwrap().file = format!("/etc/{name}.toml");
        config
    }

    #[test]
    fn a_file_touches_what_it_owns() {
        let service = |port: u32, weight: u32| {
            format!(
                "[[service]]\ntcp = \"10.0.0.1:{port}\"\nserver = [{{ address = \"10.1.0.1\", weight = {weight} }}]\n"
            )
        };
        let id = |port: u32| -> ServiceId { format!("tcp:10.0.0.1:{port}").parse().unwrap() };
        let limits = Limits {
            services: 9,
            dests: 9,
            ..LIMITS
        };
        let mut state = State::new(limits);
        let give = |state: &mut State, config: &Config| {
            let applied = state.apply_config(config, &Idle, &Idle, 0);
            applied.map_err(|refused| refused.1.to_string())
        };
        let ports = |state: &State| -> Vec<String> {
            let mut all: Vec<_> = state.services().map(|(id, _)| id.name()).collect();
            all.sort();
            all
        };
        give(&mut state, &wanted(&service(1, 1))).unwrap();
        give(&mut state, &named("web", &service(2, 1))).unwrap();
        give(&mut state, &named("mail", &service(3, 1))).unwrap();
        assert_eq!(ports(&state), [1, 2, 3].map(|port| id(port).name()));
        // Each clears its own.
        give(&mut state, &named("mail", "service = []\n")).unwrap();
        give(&mut state, &wanted("service = []\n")).unwrap();
        assert_eq!(ports(&state), [id(2).name()]);
        // Nobody takes what another declares; both places are told.
        for other in [wanted(&service(2, 5)), named("mail", &service(2, 5))] {
            let before = state.to_text();
            let why = give(&mut state, &other).unwrap_err();
            assert_eq!(
                why,
                "lvx: it belongs to web, which declares it in /etc/web.toml:3"
            );
            assert_eq!(state.to_text(), before);
        }
        // What is manual passes to the file that declares it, and stays as it is.
        give(&mut state, &wanted(&service(1, 1))).unwrap();
        state.finish();
        give(&mut state, &named("mail", &service(1, 1))).unwrap();
        assert!(state.is_dirty(), "it must be saved");
        state.finish();
        give(&mut state, &named("mail", &service(1, 1))).unwrap();
        assert!(!state.is_dirty());

        // By hand everything may be done; it is seen, also after a restart.
        let since = |state: &State| -> Vec<Since> {
            state.declared().map(|one| state.since(one)).collect()
        };
        assert_eq!(since(&state), [Since::Kept, Since::Kept]);
        let dest = state.service(&id(2)).unwrap().dests[0].dest;
        let mut drained = dest;
        drained.spec.weight = 0;
        for change in [
            Request::EditDest(id(2), drained),
            Request::DeleteService(id(1)),
        ] {
            state.apply(&change, &Idle, &Idle, 0).unwrap();
        }
        let mut state = State::from_text(&state.to_text(), limits).unwrap();
        assert_eq!(since(&state), [Since::Changed, Since::Removed]);
        give(&mut state, &named("web", &service(2, 1))).unwrap();
        give(&mut state, &named("mail", &service(1, 1))).unwrap();
        assert_eq!(since(&state), [Since::Kept, Since::Kept]);
        assert_eq!(state.service(&id(2)).unwrap().dests[0].dest, dest);
    }

    #[test]
    fn a_weight_goes_and_comes_back() {
        let mut state = State::new(LIMITS);
        apply(&mut state, TWO).unwrap();
        let id = "tcp:10.0.0.1:80".parse().unwrap();
        let dest = |addr: &str| DestId {
            addr: addr.parse().unwrap(),
            port: 80,
        };
        let weight = |state: &State| {
            let mut nodes = state.service(&id).unwrap().dests.iter();
            let node = nodes.find(|node| node.dest.id == dest("10.1.0.1"));
            node.unwrap().dest.spec.weight
        };
        let mut ask = |request| {
            state
                .apply(&request, &Idle, &Idle, 0)
                .map(|()| weight(&state))
        };
        let server = dest("10.1.0.1");
        assert_eq!(
            ask(Request::Undrain(id, server)),
            Ok(3),
            "it was not drained"
        );
        assert_eq!(ask(Request::Drain(id, server)), Ok(0));
        assert_eq!(ask(Request::Drain(id, server)), Ok(0));
        assert_eq!(ask(Request::Undrain(id, server)), Ok(3));
        let nobody = dest("10.1.0.9");
        assert_eq!(ask(Request::Drain(id, nobody)), Err(Refusal::NoSuchDest));
        let none = "tcp:10.0.0.9:80".parse().unwrap();
        assert_eq!(
            ask(Request::Drain(none, server)),
            Err(Refusal::NoSuchService)
        );
        apply(&mut state, &TWO.replace("weight = 3", "weight = 0")).unwrap();
        let fresh = TWO.replace("10.1.0.2", "10.1.0.4").replace(
            "address = \"10.1.0.4\"",
            "address = \"10.1.0.4\", weight = 0",
        );
        apply(&mut state, &fresh).unwrap();
        let undo = Request::Undrain(id, dest("10.1.0.4"));
        let error = state.apply(&undo, &Idle, &Idle, 0).unwrap_err().to_string();
        assert!(error.contains("added with weight 0"), "{error}");
    }
}
