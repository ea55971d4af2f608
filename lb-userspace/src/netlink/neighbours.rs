//! Keeping next hops resolved. XDP bypasses the stack, so nothing else would
//! make the kernel ask for a server's station address or notice that it moved.
//!
//! Since Linux 5.16 a neighbour entry can be *managed* (`NTF_EXT_MANAGED`): the
//! kernel then resolves it without traffic. Ours carry a protocol number of
//! their own, so that they are recognised after a restart and entries of the
//! operator are never touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

/// `proto 76` in `ip -d neigh`: the mark of lvx. Free in the kernel's
/// `rtnetlink.h` and in iproute2's `rt_protos`.
pub(super) const PROTOCOL: u8 = 76;

/// How often an entry is asked for again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Link and address of a neighbour.
pub(super) type Key = (u32, IpAddr);

/// What matters of a neighbour entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Station address, if the entry's state allows to use it.
    pub(super) mac: Option<[u8; 6]>,
    /// The kernel keeps it resolved by itself.
    pub(super) managed: bool,
    /// Carries [`PROTOCOL`].
    pub(super) ours: bool,
    /// Never asked for: permanent, or on a link without address resolution.
    pub(super) fixed: bool,
    /// Learned by a control plane (`extern_learn`).
    pub(super) external: bool,
    /// Confirmed, or about to be.
    pub(super) fresh: bool,
    /// Asked for in vain.
    pub(super) failed: bool,
}

/// The kernel's neighbour table.
pub(super) type Table = BTreeMap<Key, Neighbour>;

impl Neighbour {
    /// This entry after `before`: one that failed and is asked for again, as
    /// happens each second, has failed until it answers.
    pub(super) fn after(self, before: Option<&Self>) -> Self {
        let failed_before = before.is_some_and(|entry| entry.failed);
        Self {
            failed: self.failed || failed_before && self.mac.is_none(),
            ..self
        }
    }
}

/// What to tell the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Make the entry managed.
    Install(Key),
    /// Ask for it once; `managed` says what the entry is and stays.
    Probe {
        /// Which entry.
        key: Key,
        /// Whether it is managed.
        managed: bool,
    },
    /// Delete an entry lvx made.
    Remove(Key),
}

/// Whether the kernel has managed neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Support {
    /// Not tried yet.
    #[default]
    Unknown,
    /// It does.
    Managed,
    /// It is too old: entries are probed instead.
    Absent,
}

/// Decides what to install, probe and remove.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    pub(super) support: Support,
    made: BTreeSet<Key>,
    asked: BTreeMap<Key, Instant>,
}

impl Keeper {
    /// Compares `wanted` with the kernel's `table`. With `sweep`, entries which
    /// an earlier lvx left behind are removed too.
    pub(super) fn plan(
        &mut self,
        wanted: &BTreeSet<Key>,
        table: &Table,
        now: Instant,
        sweep: bool,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        self.asked.retain(|key, _| wanted.contains(key));
        for key in wanted {
            let entry = table.get(key).copied().unwrap_or_default();
            if entry.fixed || entry.external {
                self.made.remove(key);
                continue;
            }
            if entry.managed && entry.ours {
                self.made.insert(*key);
            }
            let action = if !entry.managed && self.support != Support::Absent {
                Action::Install(*key)
            } else if entry.mac.is_none() || (!entry.managed && !entry.fresh) {
                // The kernel itself repeats a failed managed entry every five
                // seconds; a server that comes back need not wait so long.
                Action::Probe {
                    key: *key,
                    managed: entry.managed,
                }
            } else {
                continue;
            };
            if self
                .asked
                .get(key)
                .is_none_or(|last| now.duration_since(*last) >= RETRY)
            {
                self.asked.insert(*key, now);
                actions.push(action);
            }
        }
        let ours = |key: &Key| {
            table
                .get(key)
                .is_some_and(|e| e.managed && e.ours && !e.fixed)
        };
        let gone: Vec<Key> = self.made.difference(wanted).copied().collect();
        for key in gone {
            self.made.remove(&key);
            if ours(&key) {
                actions.push(Action::Remove(key));
            }
        }
        if sweep {
            for key in table
                .keys()
                .filter(|key| ours(key) && !wanted.contains(key))
            {
                if !actions.contains(&Action::Remove(*key)) {
                    actions.push(Action::Remove(*key));
                }
            }
        }
        actions
    }

    /// The kernel lost the entry: it may be asked for at once.
    pub(super) fn forget(&mut self, key: &Key) {
        self.asked.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (3, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const MAC: Option<[u8; 6]> = Some([2, 0, 0, 0, 0, 9]);

    #[test]
    fn who_failed_has_failed_until_it_answers() {
        let silent = Neighbour::default();
        let failed = Neighbour {
            failed: true,
            ..silent
        };
        let there = Neighbour { mac: MAC, ..silent };
        assert!(!silent.after(None).failed, "asked for the first time");
        assert!(failed.after(Some(&silent)).failed);
        assert!(silent.after(Some(&failed)).failed, "asked for again");
        assert!(!there.after(Some(&failed)).failed);
        assert!(!silent.after(Some(&there)).failed);
    }

    fn ours() -> Neighbour {
        Neighbour {
            mac: MAC,
            managed: true,
            ours: true,
            fresh: true,
            ..Neighbour::default()
        }
    }

    fn plan(
        keeper: &mut Keeper,
        wanted: &[Key],
        entry: Option<Neighbour>,
        sweep: bool,
    ) -> Vec<Action> {
        let table = entry.into_iter().map(|e| (KEY, e)).collect();
        keeper.plan(
            &wanted.iter().copied().collect(),
            &table,
            Instant::now(),
            sweep,
        )
    }

    #[test]
    fn a_wanted_entry_is_made_managed_and_removed_when_it_is_no_longer_wanted() {
        let mut keeper = Keeper::default();
        assert_eq!(
            plan(&mut keeper, &[KEY], None, false),
            [Action::Install(KEY)]
        );
        assert_eq!(plan(&mut keeper, &[KEY], Some(ours()), false), []);
        assert_eq!(
            plan(&mut keeper, &[], Some(ours()), false),
            [Action::Remove(KEY)]
        );
        assert_eq!(plan(&mut keeper, &[], Some(ours()), false), []);
    }

    #[test]
    fn entries_of_the_operator_are_left_alone() {
        for entry in [
            Neighbour {
                mac: MAC,
                fixed: true,
                ..Neighbour::default()
            },
            Neighbour {
                mac: MAC,
                external: true,
                ..Neighbour::default()
            },
            Neighbour {
                mac: MAC,
                managed: true,
                ..Neighbour::default()
            },
        ] {
            let mut keeper = Keeper::default();
            assert_eq!(
                plan(&mut keeper, &[KEY], Some(entry), true),
                [],
                "{entry:?}"
            );
            assert_eq!(plan(&mut keeper, &[], Some(entry), true), [], "{entry:?}");
        }
    }

    #[test]
    fn an_entry_the_operator_made_permanent_is_not_removed() {
        let mut keeper = Keeper::default();
        assert_eq!(plan(&mut keeper, &[KEY], Some(ours()), false), []);
        let fixed = Neighbour {
            fixed: true,
            ..ours()
        };
        assert_eq!(plan(&mut keeper, &[KEY], Some(fixed), false), []);
        assert_eq!(plan(&mut keeper, &[], Some(fixed), true), []);
    }

    #[test]
    fn what_an_earlier_run_left_is_swept_only_on_demand() {
        let mut keeper = Keeper::default();
        assert_eq!(plan(&mut keeper, &[], Some(ours()), false), []);
        assert_eq!(
            plan(&mut keeper, &[], Some(ours()), true),
            [Action::Remove(KEY)]
        );
    }

    #[test]
    fn requests_for_one_entry_are_a_second_apart() {
        let mut keeper = Keeper::default();
        let (wanted, start) = (BTreeSet::from([KEY]), Instant::now());
        let at = |keeper: &mut Keeper, ms| {
            keeper.plan(
                &wanted,
                &Table::new(),
                start + Duration::from_millis(ms),
                false,
            )
        };
        assert_eq!(at(&mut keeper, 0).len(), 1);
        assert_eq!(at(&mut keeper, 999).len(), 0);
        assert_eq!(at(&mut keeper, 1000).len(), 1);
        keeper.forget(&KEY);
        assert_eq!(at(&mut keeper, 1001).len(), 1);
    }

    #[test]
    fn an_old_kernel_is_asked_until_the_entry_is_fresh() {
        let mut keeper = Keeper {
            support: Support::Absent,
            ..Keeper::default()
        };
        let probe = [Action::Probe {
            key: KEY,
            managed: false,
        }];
        assert_eq!(plan(&mut keeper, &[KEY], None, false), probe);
        keeper.forget(&KEY);
        let stale = Neighbour {
            mac: MAC,
            ..Neighbour::default()
        };
        assert_eq!(plan(&mut keeper, &[KEY], Some(stale), false), probe);
        keeper.forget(&KEY);
        let fresh = Neighbour {
            mac: MAC,
            fresh: true,
            ..Neighbour::default()
        };
        assert_eq!(plan(&mut keeper, &[KEY], Some(fresh), false), []);
        assert_eq!(plan(&mut keeper, &[], Some(fresh), true), []);
    }

    #[test]
    fn a_failed_managed_entry_is_probed_and_stays_managed() {
        let mut keeper = Keeper::default();
        let failed = Neighbour {
            mac: None,
            fresh: false,
            ..ours()
        };
        assert_eq!(
            plan(&mut keeper, &[KEY], Some(failed), false),
            [Action::Probe {
                key: KEY,
                managed: true
            }]
        );
    }
}
