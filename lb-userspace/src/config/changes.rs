use std::collections::{HashMap, HashSet};

use crate::model::{
    Chain, Config, DestId, Family, LocalRange, Pool, Request, RuleChange, ServiceConfig, ServiceId,
    sysctl,
};

/// The changes that make `from`, which must be complete, what the sections of
/// `to` say. What is the same in both is not touched: servers keep their
/// connections, counters and place in the list. What goes comes first.
pub fn changes(from: &Config, to: &Config) -> Vec<Request> {
    let mut all = Vec::new();
    if let Some(to) = &to.services {
        services(from.services.as_deref().unwrap_or_default(), to, &mut all);
    }
    if let Some(to) = &to.pools {
        pools(from.pools.as_deref().unwrap_or_default(), to, &mut all);
    }
    if let Some(timeouts) = to.timeouts
        && from.timeouts != Some(timeouts)
    {
        all.push(Request::SetTimeouts(timeouts));
    }
    if let Some(to) = &to.sysctls {
        let empty = Default::default();
        let from = from.sysctls.as_ref().unwrap_or(&empty);
        let default = |name: &str| sysctl(name).and_then(|sysctl| sysctl.default.parse().ok());
        let back = from.keys().filter(|name| !to.contains_key(*name));
        let back = back.filter_map(|name| Some((name.clone(), default(name)?)));
        let set = to.iter().map(|(name, value)| (name.clone(), *value));
        let set =
            set.filter(|(name, value)| from.get(name).copied().or(default(name)) != Some(*value));
        all.extend(
            back.chain(set)
                .map(|(name, value)| Request::SetSysctl(name, value)),
        );
    }
    rules(from, to, &mut all);
    all
}

fn services(from: &[ServiceConfig], to: &[ServiceConfig], all: &mut Vec<Request>) {
    let old: HashMap<ServiceId, &ServiceConfig> =
        from.iter().map(|service| (service.id, service)).collect();
    let kept: HashSet<ServiceId> = to.iter().map(|service| service.id).collect();
    let gone = from.iter().filter(|service| !kept.contains(&service.id));
    all.extend(gone.map(|service| Request::DeleteService(service.id)));
    for service in to {
        if let Some(old) = old.get(&service.id) {
            let kept: HashSet<DestId> = service.dests.iter().map(|dest| dest.id).collect();
            let gone = old.dests.iter().filter(|dest| !kept.contains(&dest.id));
            all.extend(gone.map(|dest| Request::DeleteDest(service.id, dest.id)));
        }
    }
    for service in to {
        let mut known = HashMap::new();
        match old.get(&service.id) {
            None => {
                all.push(Request::AddService(service.id, service.spec.clone()));
                if service.check.is_some() {
                    all.push(Request::SetCheck(service.id, service.check.clone()));
                }
            }
            Some(old) => {
                if old.spec != service.spec {
                    all.push(Request::EditService(service.id, service.spec.clone()));
                }
                if old.check != service.check {
                    all.push(Request::SetCheck(service.id, service.check.clone()));
                }
                known = old.dests.iter().map(|dest| (dest.id, dest)).collect();
            }
        }
        for dest in &service.dests {
            match known.get(&dest.id) {
                None => all.push(Request::AddDest(service.id, *dest)),
                Some(old) if *old != dest => all.push(Request::EditDest(service.id, *dest)),
                Some(_) => {}
            }
        }
    }
}

/// A pool whose addresses stay but in another order is made anew, too.
fn pools(from: &[Pool], to: &[Pool], all: &mut Vec<Request>) {
    let of = |pools: &[Pool], owner| -> Vec<LocalRange> {
        let mine = pools.iter().filter(|pool| pool.service == owner);
        mine.flat_map(|pool| pool.ranges.clone()).collect()
    };
    let mut owners: Vec<Option<ServiceId>> = Vec::new();
    for pool in from.iter().chain(to) {
        if !owners.contains(&pool.service) {
            owners.push(pool.service);
        }
    }
    for owner in owners {
        let (old, new) = (of(from, owner), of(to, owner));
        let gone: Vec<_> = old
            .iter()
            .filter(|old| !new.contains(old))
            .copied()
            .collect();
        let come: Vec<_> = new
            .iter()
            .filter(|new| !old.contains(new))
            .copied()
            .collect();
        let kept = old.iter().filter(|old| new.contains(old));
        let (gone, come) = if kept.chain(&come).eq(&new) {
            (gone, come)
        } else {
            (old, new)
        };
        if !gone.is_empty() {
            all.push(Request::DeleteLocal(owner, gone));
        }
        if !come.is_empty() {
            all.push(Request::AddLocal(owner, come));
        }
    }
}

fn rules(from: &Config, to: &Config, all: &mut Vec<Request>) {
    let mut push = |change| all.push(Request::Rules(change));
    let old_sets = from.sets.as_deref().unwrap_or_default();
    let chains = [
        (Chain::Mark, from.marks.as_deref(), to.marks.as_deref()),
        (
            Chain::Filter,
            from.filters.as_deref(),
            to.filters.as_deref(),
        ),
    ];
    let mut anew = false;
    let mut gone = Vec::new();
    if let Some(sets) = &to.sets {
        let find = |name: &str| sets.iter().find(|set| set.name == name);
        // A set cannot pass to the other family while rules ask for it.
        let turned: Vec<_> = old_sets
            .iter()
            .filter(|old| find(&old.name).is_some_and(|new| new.family != old.family))
            .collect();
        if !turned.is_empty() {
            anew = true;
            for (chain, ..) in chains {
                push(RuleChange::Flush(chain, None));
            }
            for set in turned {
                push(RuleChange::DestroySet(set.name.clone()));
            }
        }
        for set in sets {
            if !old_sets.contains(set) {
                let (name, members) = (set.name.clone(), set.members.clone());
                push(RuleChange::FillSet(name, set.family, members));
            }
        }
        let missing = old_sets.iter().filter(|old| find(&old.name).is_none());
        gone.extend(missing.map(|set| set.name.clone()));
    }
    for (chain, old, new) in chains {
        let old = old.unwrap_or_default();
        let new = new.unwrap_or(old);
        if anew && !new.is_empty() || old != new {
            push(RuleChange::Replace(chain, new.to_vec()));
        }
    }
    for name in gone {
        push(RuleChange::DestroySet(name));
    }
}

/// The family of a rule, as a number to sort by.
pub(super) fn family_order(family: Family) -> u8 {
    u8::from(family == Family::V6)
}
