//! Pools of local addresses. A service's pool is kept under the service's name,
//! whether that exists or not: a restored or reloaded configuration finds it
//! again.

use super::State;
use crate::model::{Family, LocalRange, Pool, Refusal, ServiceId};

/// Most addresses in a pool: an old and a new one of them have room in the
/// table at the same time.
const MOST: usize = 1024;

impl State {
    /// Every pool that is not empty.
    pub fn pools(&self) -> impl Iterator<Item = (Option<ServiceId>, &[LocalRange])> {
        let pools = self.locals.iter();
        pools.map(|(service, ranges)| (*service, ranges.as_slice()))
    }

    /// Every pool, to be shown.
    pub fn pool_list(&self) -> Vec<Pool> {
        let pool = |(service, ranges): (_, &[LocalRange])| Pool {
            service,
            ranges: ranges.to_vec(),
        };
        self.pools().map(pool).collect()
    }

    /// Whose pool the connections of a service are made from: its own, else the
    /// director's if that has addresses of its family, else nobody's.
    pub fn pool_of(&self, id: &ServiceId) -> Option<Option<ServiceId>> {
        [Some(*id), None]
            .into_iter()
            .find(|owner| self.pool_ranges(*owner, id.family()).next().is_some())
    }

    /// The part of a pool that is of one family.
    pub fn pool_ranges(
        &self,
        owner: Option<ServiceId>,
        family: Family,
    ) -> impl Iterator<Item = LocalRange> {
        let ranges = self.locals.get(&owner).into_iter().flatten().copied();
        ranges.filter(move |range| range.family() == family)
    }

    pub(super) fn add_local(
        &mut self,
        owner: Option<ServiceId>,
        news: &[LocalRange],
    ) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal::Other(format!("lvx: {text}")));
        let mut ranges = self.locals.get(&owner).cloned().unwrap_or_default();
        for new in news {
            if let Some(fault) = new.fault() {
                return refuse(fault);
            }
            if owner.is_some_and(|id| id.family() != new.family()) {
                return refuse(format!(
                    "{new} is not of the service's family: its servers could not be reached from it"
                ));
            }
            if let Some(old) = ranges.iter().find(|old| old.overlaps(*new)) {
                return refuse(format!(
                    "{old} is in this pool already: 'lvx laddr del' it first to change it"
                ));
            }
            ranges.push(*new);
        }
        if ranges.iter().flat_map(|range| range.addresses()).count() > MOST {
            return refuse(format!("a pool holds at most {MOST} addresses"));
        }
        if !ranges.is_empty() {
            self.locals.insert(owner, ranges);
            self.dirty = true;
        }
        Ok(())
    }

    pub(super) fn delete_local(
        &mut self,
        owner: Option<ServiceId>,
        gone: &[LocalRange],
    ) -> Result<(), Refusal> {
        let mut ranges = self.locals.get(&owner).cloned().unwrap_or_default();
        for one in gone {
            let same = |range: &LocalRange| (range.addr, range.prefix) == (one.addr, one.prefix);
            let Some(found) = ranges.iter().position(same) else {
                return Err(Refusal::Other(format!(
                    "lvx: {one} is not in this pool: 'lvx laddr list' shows what is"
                )));
            };
            ranges.remove(found);
        }
        if ranges.is_empty() {
            self.locals.shift_remove(&owner);
        } else {
            self.locals.insert(owner, ranges);
        }
        self.dirty = true;
        Ok(())
    }
}
