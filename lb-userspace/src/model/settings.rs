//! What applies to every service: time-outs and the `net.ipv4.vs.*` settings.

use std::collections::BTreeMap;

use lb_common::{
    conn::tcp::state::{ESTABLISHED, FIN_WAIT},
    layout::{Knobs, Settings as Record},
    time::seconds,
};
use serde::{Deserialize, Serialize};

use super::Refusal;

/// Prefix of every name.
pub const PREFIX: &str = "net.ipv4.vs.";

/// The greatest time-out of `--set`, in seconds: 31 days.
pub const MAX_TIMEOUT: u32 = 31 * 24 * 60 * 60;

/// The time-outs that can be set (`--set`), in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP in ESTABLISHED.
    pub tcp: u32,
    /// TCP in FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}

/// What setting one does in lvx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it does in the kernel.
    Kernels,
    /// Nothing yet.
    NotBuilt,
    /// Nothing, for this reason.
    None(&'static str),
}

/// One of the `net.ipv4.vs.*` settings.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl {
    /// Its name, without [`PREFIX`].
    pub name: &'static str,
    /// The kernel's default, as it is printed.
    pub default: &'static str,
    /// Smallest and greatest value, of one with [`Effect::Kernels`].
    pub range: (i64, i64),
    /// What it does.
    pub effect: Effect,
}

const ANY: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const NO_CONNTRACK: &str = "lvx works before conntrack, and without it";
const NO_ROUTE: &str = "replies leave by the way that the client's packets came";
const NO_ESTIMATOR: &str = "rates are estimated by the daemon";

const fn kernels(name: &'static str, default: &'static str) -> Sysctl {
    Sysctl {
        name,
        default,
        range: ANY,
        effect: Effect::Kernels,
    }
}

const fn ranged(name: &'static str, default: &'static str, range: (i64, i64)) -> Sysctl {
    Sysctl {
        range,
        ..kernels(name, default)
    }
}

const fn later(name: &'static str, default: &'static str) -> Sysctl {
    Sysctl {
        effect: Effect::NotBuilt,
        ..kernels(name, default)
    }
}

const fn without(name: &'static str, default: &'static str, why: &'static str) -> Sysctl {
    Sysctl {
        effect: Effect::None(why),
        ..kernels(name, default)
    }
}

/// All of them, in the order of their names.
pub const SYSCTLS: &[Sysctl] = &[
    ranged("am_droprate", "10", (0, i32::MAX as i64)),
    ranged("amemthresh", "1024", (0, i32::MAX as i64)),
    later("backup_only", "0"),
    later("cache_bypass", "0"),
    kernels("conn_reuse_mode", "1"),
    without("conntrack", "0", NO_CONNTRACK),
    ranged("drop_entry", "0", (0, 3)),
    ranged("drop_packet", "0", (0, 3)),
    without("est_cpulist", "", NO_ESTIMATOR),
    without("est_nice", "0", NO_ESTIMATOR),
    kernels("expire_nodest_conn", "0"),
    kernels("expire_quiescent_template", "0"),
    without(
        "ignore_tunneled",
        "0",
        "what comes out of a tunnel has passed lvx already",
    ),
    later("lblc_expiration", "86400"),
    later("lblcr_expiration", "86400"),
    later("nat_icmp_send", "0"),
    later("pmtu_disc", "1"),
    without("run_estimation", "1", NO_ESTIMATOR),
    later("schedule_icmp", "0"),
    ranged("secure_tcp", "0", (0, 3)),
    kernels("sloppy_sctp", "0"),
    kernels("sloppy_tcp", "0"),
    without("snat_reroute", "1", NO_ROUTE),
    later("sync_persist_mode", "0"),
    later("sync_ports", "1"),
    later("sync_qlen_max", "0"),
    later("sync_refresh_period", "0"),
    later("sync_retries", "0"),
    later("sync_sock_size", "0"),
    later("sync_threshold", "3 50"),
    later("sync_version", "1"),
];

/// The setting of this name, with [`PREFIX`] or without; `/` may stand for `.`.
pub fn sysctl(name: &str) -> Option<&'static Sysctl> {
    let name = name.replace('/', ".");
    let name = name.strip_prefix(PREFIX).unwrap_or(&name);
    SYSCTLS.iter().find(|sysctl| sysctl.name == name)
}

/// Time-outs and settings of a director.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What `--set` set.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What was set to something else than the default, by name without
    /// [`PREFIX`].
    #[serde(default)]
    pub sysctls: BTreeMap<String, i64>,
}

impl Settings {
    /// Takes new time-outs; 0 leaves one as it is.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn set_timeouts(&mut self, new: Timeouts) -> Result<(), Refusal> {
        let Timeouts { tcp, tcp_fin, udp } = new;
        if [tcp, tcp_fin, udp].iter().any(|value| *value > MAX_TIMEOUT) {
            return Err(Refusal::Invalid);
        }
        let timeouts = &mut self.timeouts;
        for (to, value) in [
            (&mut timeouts.tcp, tcp),
            (&mut timeouts.tcp_fin, tcp_fin),
            (&mut timeouts.udp, udp),
        ] {
            if value != 0 {
                *to = value;
            }
        }
        Ok(())
    }

    /// Gives a setting another value.
    ///
    /// # Errors
    /// When there is no such setting, it has no effect, or the value is out of range.
    pub fn set(&mut self, name: &str, value: i64) -> Result<(), Refusal> {
        let Some(sysctl) = sysctl(name) else {
            return Err(Refusal::Other(format!(
                "lvx: no setting {name}: 'lvx sysctl' lists them"
            )));
        };
        let full = format!("{PREFIX}{}", sysctl.name);
        match sysctl.effect {
            Effect::Kernels => {}
            Effect::NotBuilt => return Err(Refusal::Unsupported(full)),
            Effect::None(why) => {
                return Err(Refusal::Other(format!(
                    "lvx: {full} has no meaning here: {why}"
                )));
            }
        }
        let (least, most) = sysctl.range;
        if !(least..=most).contains(&value) {
            return Err(Refusal::Other(format!(
                "lvx: {full} is from {least} to {most}, not {value}"
            )));
        }
        if value.to_string() == sysctl.default {
            self.sysctls.remove(sysctl.name);
        } else {
            self.sysctls.insert(sysctl.name.into(), value);
        }
        Ok(())
    }

    /// The value of a setting, as it is printed.
    pub fn value(&self, sysctl: &Sysctl) -> String {
        match self.sysctls.get(sysctl.name) {
            Some(value) => value.to_string(),
            None => sysctl.default.into(),
        }
    }

    fn number(&self, name: &str) -> i64 {
        let default = || sysctl(name).and_then(|sysctl| sysctl.default.parse().ok());
        let set = self.sysctls.get(name).copied();
        set.or_else(default).unwrap_or_default()
    }

    /// Whether a mode of the defence (`drop_entry`, `drop_packet`, `secure_tcp`) is in
    /// force when so many more connections would find room: 3 always, 1 and 2 when
    /// they are fewer than `amemthresh`.
    fn defends(&self, mode: &str, room: u64) -> bool {
        match self.number(mode) {
            1 | 2 => (room as i64) < self.number("amemthresh"),
            3 => true,
            _ => false,
        }
    }

    /// Whether how much room there is matters to anything.
    pub fn looks_at_room(&self) -> bool {
        let modes = ["drop_entry", "drop_packet", "secure_tcp"];
        modes.iter().any(|mode| matches!(self.number(mode), 1 | 2))
    }

    /// Whether half-open connections are to be dropped at random.
    pub fn drops_entries(&self, room: u64) -> bool {
        self.defends("drop_entry", room)
    }

    /// Of how many packets that would start a connection one is dropped; 0 is none.
    fn drop_rate(&self, room: u64) -> u32 {
        if !self.defends("drop_packet", room) {
            return 0;
        }
        let rate = match self.number("drop_packet") {
            3 => self.number("am_droprate"),
            // Not 0: there is less room than that.
            _ => {
                let threshold = self.number("amemthresh");
                threshold / (threshold - room as i64)
            }
        };
        u32::try_from(rate).unwrap_or(0)
    }

    /// The bits that packets read.
    fn knobs(&self, room: u64) -> u32 {
        let reuse = self.number("conn_reuse_mode");
        let bits = [
            (Knobs::REUSE, reuse != 0),
            (Knobs::REUSE_FIN_WAIT, reuse & 2 != 0),
            (Knobs::EXPIRE_NODEST, self.number("expire_nodest_conn") != 0),
            (
                Knobs::EXPIRE_QUIESCENT,
                self.number("expire_quiescent_template") != 0,
            ),
            (Knobs::SLOPPY_TCP, self.number("sloppy_tcp") != 0),
            (Knobs::SLOPPY_SCTP, self.number("sloppy_sctp") != 0),
            (Knobs::SECURE_TCP, self.defends("secure_tcp", room)),
        ];
        let set = bits.iter().filter(|(_, set)| *set);
        set.fold(0, |all, (bit, _)| all | bit)
    }

    /// The record that packets read: `old` with these settings, while so many more
    /// connections would find room.
    pub fn record(&self, old: Record, room: u64) -> Record {
        let mut record = Record {
            udp: seconds(self.timeouts.udp),
            knobs: self.knobs(room),
            drop_rate: self.drop_rate(room),
            ..old
        };
        record.tcp[usize::from(ESTABLISHED)] = seconds(self.timeouts.tcp);
        record.tcp[usize::from(FIN_WAIT)] = seconds(self.timeouts.tcp_fin);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_kernels() {
        let defaults = Record::kernel_defaults();
        assert_eq!(Settings::default().record(defaults, 0), defaults);
        let names: Vec<_> = SYSCTLS.iter().map(|sysctl| sysctl.name).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn time_outs_of_zero_stay() {
        let mut settings = Settings::default();
        let new = Timeouts {
            tcp: 10,
            tcp_fin: 0,
            udp: 30,
        };
        settings.set_timeouts(new).unwrap();
        let want = Timeouts {
            tcp_fin: 120,
            ..new
        };
        assert_eq!(settings.timeouts, want);
        let record = settings.record(Record::kernel_defaults(), 0);
        assert_eq!(record.tcp[usize::from(ESTABLISHED)], seconds(10));
        assert_eq!(record.tcp[usize::from(FIN_WAIT)], seconds(120));
        assert_eq!(record.udp, seconds(30));
        let long = Timeouts {
            udp: MAX_TIMEOUT + 1,
            ..new
        };
        assert_eq!(settings.set_timeouts(long), Err(Refusal::Invalid));
        assert_eq!(settings.timeouts, want);
    }

    #[test]
    fn settings_become_bits() {
        let mut settings = Settings::default();
        let knobs = |settings: &Settings| settings.record(Record::kernel_defaults(), 0).knobs;
        for (mode, bits) in [
            (0, 0),
            (1, Knobs::REUSE),
            (2, Knobs::REUSE | Knobs::REUSE_FIN_WAIT),
            (3, Knobs::REUSE | Knobs::REUSE_FIN_WAIT),
            (4, Knobs::REUSE),
        ] {
            settings.set("net.ipv4.vs.conn_reuse_mode", mode).unwrap();
            assert_eq!(knobs(&settings), bits, "{mode}");
        }
        settings.set("conn_reuse_mode", 1).unwrap();
        assert_eq!(settings, Settings::default(), "the default is not kept");
        settings.set("net/ipv4/vs/sloppy_tcp", 1).unwrap();
        assert_eq!(knobs(&settings), Knobs::REUSE | Knobs::SLOPPY_TCP);
    }

    #[test]
    fn the_defence_looks_at_the_room() {
        let of = |mode| {
            let mut settings = Settings::default();
            settings.set("secure_tcp", mode).unwrap();
            settings.set("drop_packet", mode).unwrap();
            settings.set("drop_entry", mode).unwrap();
            settings.set("am_droprate", 7).unwrap();
            settings
        };
        let at = |settings: &Settings, room| {
            let record = settings.record(Record::kernel_defaults(), room);
            let secure = record.knobs & Knobs::SECURE_TCP != 0;
            (secure, record.drop_rate, settings.drops_entries(room))
        };
        assert_eq!(at(&of(0), 0), (false, 0, false));
        for mode in [1, 2] {
            assert_eq!(at(&of(mode), 1024), (false, 0, false));
            assert_eq!(at(&of(mode), 1023), (true, 1024, true));
            assert_eq!(at(&of(mode), 512), (true, 2, true));
            assert_eq!(at(&of(mode), 0), (true, 1, true));
            assert!(of(mode).looks_at_room());
        }
        assert_eq!(at(&of(3), 1 << 20), (true, 7, true));
        assert!(!of(3).looks_at_room() && !of(0).looks_at_room());
    }

    #[test]
    fn what_cannot_be_set() {
        let mut settings = Settings::default();
        let text = |result: Result<(), Refusal>| result.unwrap_err().to_string();
        assert_eq!(
            text(settings.set("conntrack", 1)),
            format!("lvx: net.ipv4.vs.conntrack has no meaning here: {NO_CONNTRACK}")
        );
        assert_eq!(
            text(settings.set("cache_bypass", 1)),
            "lvx: not supported yet: net.ipv4.vs.cache_bypass"
        );
        assert!(text(settings.set("drop_entry", 4)).contains("from 0 to 3, not 4"));
        assert!(text(settings.set("am_droprate", -1)).contains("from 0"));
        assert!(text(settings.set("no_such", 1)).contains("no setting no_such"));
        assert!(text(settings.set("sloppy_tcp", 1 << 40)).contains("from"));
        assert_eq!(settings, Settings::default());
    }
}
