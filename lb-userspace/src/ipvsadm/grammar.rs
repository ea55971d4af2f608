//! The whole `ipvsadm` grammar in one place: commands, options, which options
//! a command takes, and the help line of each. The parser, the checks and the
//! usage text all read these tables and nothing else.

use Argument::{None as NoArgument, Optional, Required};

/// Declares [`Class`] with the names messages use, in the order in which
/// misplaced options are reported.
macro_rules! classes {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// What an option is called in messages; options of one class exclude
        /// each other. Declared in the order of the checks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Class { $($variant),* }

        impl Class {
            /// Every class, in the order of the checks.
            pub(super) const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in messages.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

classes! {
    Numeric = "numeric",
    Connection = "connection",
    Service = "service-address",
    Scheduler = "scheduler",
    Persistent = "persistent",
    Netmask = "netmask",
    RealServer = "real-server",
    Forward = "forwarding-method",
    Weight = "weight",
    UThreshold = "u-threshold",
    LThreshold = "l-threshold",
    McastInterface = "mcast-interface",
    Timeout = "timeout",
    Daemon = "daemon",
    Stats = "stats",
    Rate = "rate",
    Thresholds = "thresholds",
    PersistentConn = "persistent-conn",
    NoSort = "nosort",
    SyncId = "syncid",
    Exact = "exact",
    Ops = "ops",
    Pe = "pe",
    SchedFlags = "sched-flags",
    McastGroup = "mcast-group",
    McastPort = "mcast-port",
    McastTtl = "mcast-ttl",
    SyncMaxlen = "sync-maxlen",
    TunInfo = "tun-info",
    TunType = "tun-type",
    TunPort = "tun-port",
    TunNocsum = "tun-nocsum",
    TunCsum = "tun-csum",
    TunRemcsum = "tun-remcsum",
    Toa = "toa",
    Strict = "strict",
}

/// A command letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandId {
    Add,
    Edit,
    Delete,
    Flush,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
}

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptionId {
    Tcp,
    Udp,
    Sctp,
    Mark,
    Ipv6,
    Scheduler,
    SchedFlags,
    Persistent,
    Netmask,
    Pe,
    Ops,
    Toa,
    RealServer,
    Gatewaying,
    Ipip,
    Masquerading,
    Fullnat,
    Weight,
    UThreshold,
    LThreshold,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Numeric,
    Connection,
    Stats,
    Rate,
    Exact,
    Thresholds,
    PersistentConn,
    TunInfo,
    Timeout,
    Daemon,
    NoSort,
    Sort,
    Strict,
    McastInterface,
    SyncId,
    SyncMaxlen,
    McastGroup,
    McastPort,
    McastTtl,
}

/// Whether a word follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// None may follow.
    None,
    /// One must follow; the help's name of it.
    Required(&'static str),
    /// The next word is taken unless it starts with a dash.
    Optional(&'static str),
}

/// A command.
#[derive(Debug)]
pub(super) struct CommandSpec {
    pub(super) id: CommandId,
    pub(super) short: &'static [char],
    pub(super) long: &'static str,
    pub(super) argument: Argument,
    /// The name in messages; not always the long option's.
    pub(super) name: &'static str,
    /// Classes that must be given.
    pub(super) needs: &'static [Class],
    /// Classes of which one may be given.
    pub(super) one_of: &'static [Class],
    /// Classes that may be given.
    pub(super) may: &'static [Class],
    pub(super) help: &'static str,
}

/// An option.
#[derive(Debug)]
pub(super) struct OptionSpec {
    pub(super) id: OptionId,
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    pub(super) argument: Argument,
    /// `None`: allowed with every command, any number of times.
    pub(super) class: Option<Class>,
    pub(super) block: Block,
    pub(super) help: &'static str,
}

/// Where the usage text shows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    VirtualService,
    Options,
    Daemon,
    /// lvx has it and ipvsadm does not: shown by lvx only.
    Extension,
}

const SERVICE_PARAMETERS: &[Class] = &[
    Class::Scheduler,
    Class::Persistent,
    Class::Netmask,
    Class::Ops,
    Class::Pe,
    Class::SchedFlags,
    Class::Toa,
];
const SERVER_PARAMETERS: &[Class] = &[
    Class::Forward,
    Class::Weight,
    Class::UThreshold,
    Class::LThreshold,
    Class::TunType,
    Class::TunPort,
    Class::TunNocsum,
    Class::TunCsum,
    Class::TunRemcsum,
];

/// One row of [`COMMANDS`].
macro_rules! command {
    ($id:ident, $short:expr, $long:literal, $argument:expr, $name:literal,
     needs $needs:expr, one_of $one_of:expr, may $may:expr, $help:literal) => {
        CommandSpec {
            id: CommandId::$id,
            short: &$short,
            long: $long,
            argument: $argument,
            name: $name,
            needs: &$needs,
            one_of: &$one_of,
            may: $may,
            help: $help,
        }
    };
}

/// Every command.
#[rustfmt::skip]
pub(super) const COMMANDS: &[CommandSpec] = &[
    command!(Add, ['A'], "add-service", NoArgument, "add-service",
        needs [Class::Service], one_of [], may SERVICE_PARAMETERS, "add a virtual service"),
    command!(Edit, ['E'], "edit-service", NoArgument, "edit-service",
        needs [Class::Service], one_of [], may SERVICE_PARAMETERS, "set all parameters of a service anew"),
    command!(Delete, ['D'], "delete-service", NoArgument, "delete-service",
        needs [Class::Service], one_of [], may &[], "delete a service and its servers"),
    command!(Flush, ['C'], "clear", NoArgument, "flush",
        needs [], one_of [], may &[], "delete everything"),
    command!(AddServer, ['a'], "add-server", NoArgument, "add-server",
        needs [Class::Service, Class::RealServer], one_of [], may SERVER_PARAMETERS, "add a real server to a service"),
    command!(EditServer, ['e'], "edit-server", NoArgument, "edit-server",
        needs [Class::Service, Class::RealServer], one_of [], may SERVER_PARAMETERS, "set all parameters of a server anew"),
    command!(DeleteServer, ['d'], "delete-server", NoArgument, "delete-server",
        needs [Class::Service, Class::RealServer], one_of [], may &[], "take a server out of a service"),
    command!(List, ['L', 'l'], "list", NoArgument, "list",
        needs [], one_of [Class::Connection, Class::Service, Class::Timeout, Class::Daemon],
        may &[Class::Numeric, Class::Stats, Class::Rate, Class::Thresholds, Class::PersistentConn, Class::NoSort,
            Class::SyncId, Class::Exact, Class::TunInfo],
        "show services (all, or the one given)"),
    command!(Zero, ['Z'], "zero", NoArgument, "zero",
        needs [], one_of [], may &[Class::Service], "set counters to zero"),
    command!(Save, ['S'], "save", NoArgument, "save",
        needs [], one_of [], may &[Class::Numeric], "write the table as commands to stdout"),
    command!(Restore, ['R'], "restore", NoArgument, "restore",
        needs [], one_of [], may &[Class::Strict], "carry out commands read from stdin"),
    command!(Set, [], "set", NoArgument, "set",
        needs [], one_of [], may &[], "TCP TCPFIN UDP: set time-outs, in seconds"),
    command!(StartDaemon, [], "start-daemon", Required("{master|backup}"), "start-daemon",
        needs [], one_of [], may &[Class::McastInterface, Class::SyncId, Class::McastGroup, Class::McastPort,
            Class::McastTtl, Class::SyncMaxlen],
        "start synchronising connections"),
    command!(StopDaemon, [], "stop-daemon", Required("{master|backup}"), "stop-daemon",
        needs [], one_of [], may &[Class::SyncId], "stop it"),
    command!(Help, ['h'], "help", NoArgument, "help", needs [], one_of [], may &[], "show this text"),
    command!(Version, ['v'], "version", NoArgument, "version", needs [], one_of [], may &[], "show the version"),
];

/// One row of [`OPTIONS`].
macro_rules! option {
    ($id:ident, $short:expr, $long:literal, $argument:expr, $class:expr, $block:ident, $help:literal) => {
        OptionSpec {
            id: OptionId::$id,
            short: $short,
            long: $long,
            argument: $argument,
            class: $class,
            block: Block::$block,
            help: $help,
        }
    };
}

/// Every option.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option!(Tcp, Some('t'), "tcp-service", Required("HOST[:PORT]"), Some(Class::Service), VirtualService, "TCP"),
    option!(Udp, Some('u'), "udp-service", Required("HOST[:PORT]"), Some(Class::Service), VirtualService, "UDP"),
    option!(Sctp, None, "sctp-service", Required("HOST[:PORT]"), Some(Class::Service), VirtualService, "SCTP"),
    option!(Mark, Some('f'), "fwmark-service", Required("MARK"), Some(Class::Service), VirtualService,
        "packets with this firewall mark"),
    option!(Ipv6, Some('6'), "ipv6", NoArgument, None, VirtualService, "after -f: IPv6 packets"),
    option!(Scheduler, Some('s'), "scheduler", Required("NAME"), Some(Class::Scheduler), Options,
        "how servers are chosen (wlc)"),
    option!(SchedFlags, Some('b'), "sched-flags", Required("FLAG,.."), Some(Class::SchedFlags), Options,
        "flags of the scheduler"),
    option!(Persistent, Some('p'), "persistent", Optional("[SECONDS]"), Some(Class::Persistent), Options,
        "keep a client on its server (360)"),
    option!(Netmask, Some('M'), "netmask", Required("MASK"), Some(Class::Netmask), Options,
        "and its whole network: mask or prefix length"),
    option!(Pe, None, "pe", Required("ENGINE"), Some(Class::Pe), Options, "persistence by content: sip"),
    option!(Ops, Some('o'), "ops", NoArgument, Some(Class::Ops), Options, "UDP: schedule each packet"),
    option!(Toa, None, "toa", NoArgument, Some(Class::Toa), Extension,
        "TCP: tell FULLNAT servers the client's address, in option 254"),
    option!(RealServer, Some('r'), "real-server", Required("HOST[:PORT]"), Some(Class::RealServer), Options,
        "the server; its port is the service's if not given"),
    option!(Gatewaying, Some('g'), "gatewaying", NoArgument, Some(Class::Forward), Options,
        "direct routing (default)"),
    option!(Ipip, Some('i'), "ipip", NoArgument, Some(Class::Forward), Options, "tunnelling"),
    option!(Masquerading, Some('m'), "masquerading", NoArgument, Some(Class::Forward), Options, "NAT"),
    option!(Fullnat, None, "fullnat", NoArgument, Some(Class::Forward), Extension,
        "NAT of both ends: servers see a local address ('lvx laddr')"),
    option!(Weight, Some('w'), "weight", Required("N"), Some(Class::Weight), Options, "share of the server (1)"),
    option!(UThreshold, Some('x'), "u-threshold", Required("N"), Some(Class::UThreshold), Options,
        "no new connections above this many"),
    option!(LThreshold, Some('y'), "l-threshold", Required("N"), Some(Class::LThreshold), Options,
        "and again below this many"),
    option!(TunType, None, "tun-type", Required("ipip|gue|gre"), Some(Class::TunType), Options, "kind of tunnel (ipip)"),
    option!(TunPort, None, "tun-port", Required("PORT"), Some(Class::TunPort), Options, "gue: UDP port"),
    option!(TunNocsum, None, "tun-nocsum", NoArgument, Some(Class::TunNocsum), Options, "gue, gre: no checksum"),
    option!(TunCsum, None, "tun-csum", NoArgument, Some(Class::TunCsum), Options, "gue, gre: checksum"),
    option!(TunRemcsum, None, "tun-remcsum", NoArgument, Some(Class::TunRemcsum), Options, "gue: remote checksum"),
    option!(Numeric, Some('n'), "numeric", NoArgument, Some(Class::Numeric), Options, "addresses and ports as numbers"),
    option!(Connection, Some('c'), "connection", NoArgument, Some(Class::Connection), Options, "show connections"),
    option!(Stats, None, "stats", NoArgument, Some(Class::Stats), Options, "show counters"),
    option!(Rate, None, "rate", NoArgument, Some(Class::Rate), Options, "show rates"),
    option!(Exact, Some('X'), "exact", NoArgument, Some(Class::Exact), Options, "no K, M, G, T"),
    option!(Thresholds, None, "thresholds", NoArgument, Some(Class::Thresholds), Options, "show thresholds"),
    option!(PersistentConn, None, "persistent-conn", NoArgument, Some(Class::PersistentConn), Options,
        "show persistent connections"),
    option!(TunInfo, None, "tun-info", NoArgument, Some(Class::TunInfo), Options, "show tunnels"),
    option!(Timeout, None, "timeout", NoArgument, Some(Class::Timeout), Options, "show time-outs"),
    option!(Daemon, None, "daemon", NoArgument, Some(Class::Daemon), Options, "show synchronisation"),
    option!(NoSort, None, "nosort", NoArgument, Some(Class::NoSort), Options, "leave the order as it is kept"),
    option!(Sort, None, "sort", NoArgument, None, Options, "the default"),
    option!(Strict, None, "strict", NoArgument, Some(Class::Strict), Extension,
        "-R, ipvsadm-restore: all lines or, when one is refused, none"),
    option!(McastInterface, None, "mcast-interface", Required("NAME"), Some(Class::McastInterface), Daemon, "eth0"),
    option!(SyncId, None, "syncid", Required("N"), Some(Class::SyncId), Daemon, "0"),
    option!(SyncMaxlen, None, "sync-maxlen", Required("BYTES"), Some(Class::SyncMaxlen), Daemon, "from the MTU"),
    option!(McastGroup, None, "mcast-group", Required("ADDRESS"), Some(Class::McastGroup), Daemon, "224.0.0.81"),
    option!(McastPort, None, "mcast-port", Required("PORT"), Some(Class::McastPort), Daemon, "8848"),
    option!(McastTtl, None, "mcast-ttl", Required("N"), Some(Class::McastTtl), Daemon, "1"),
];

/// A command or an option.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Command(&'static CommandSpec),
    Option(&'static OptionSpec),
}

impl Entry {
    /// Whether a word follows.
    pub(super) fn argument(self) -> Argument {
        match self {
            Self::Command(command) => command.argument,
            Self::Option(option) => option.argument,
        }
    }

    /// The entry of a letter.
    pub(super) fn of_short(letter: char) -> Option<Self> {
        let command = COMMANDS
            .iter()
            .find(|command| command.short.contains(&letter));
        let option = || OPTIONS.iter().find(|option| option.short == Some(letter));
        command
            .map(Self::Command)
            .or_else(|| option().map(Self::Option))
    }

    /// The entry of a complete long name.
    pub(super) fn of_long(name: &str) -> Option<Self> {
        let command = COMMANDS.iter().find(|command| command.long == name);
        let option = || OPTIONS.iter().find(|option| option.long == name);
        command
            .map(Self::Command)
            .or_else(|| option().map(Self::Option))
    }
}

impl CommandId {
    /// Its row.
    pub(super) fn spec(self) -> &'static CommandSpec {
        COMMANDS
            .iter()
            .find(|command| command.id == self)
            .expect("every command has a row")
    }
}

impl OptionId {
    /// Its row.
    pub(super) fn spec(self) -> &'static OptionSpec {
        OPTIONS
            .iter()
            .find(|option| option.id == self)
            .expect("every option has a row")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_taken_twice() {
        let mut shorts: Vec<char> = COMMANDS
            .iter()
            .flat_map(|c| c.short.iter().copied())
            .collect();
        shorts.extend(OPTIONS.iter().filter_map(|o| o.short));
        let mut longs: Vec<&str> = COMMANDS.iter().map(|c| c.long).collect();
        longs.extend(OPTIONS.iter().map(|o| o.long));
        for (at, short) in shorts.iter().enumerate() {
            assert!(!shorts[..at].contains(short), "-{short}");
        }
        for (at, long) in longs.iter().enumerate() {
            assert!(!longs[..at].contains(long), "--{long}");
        }
    }

    #[test]
    fn every_class_has_an_option_and_a_command() {
        for class in Class::ALL {
            assert!(
                OPTIONS.iter().any(|o| o.class == Some(*class)),
                "{}",
                class.name()
            );
            let used = |c: &CommandSpec| [c.needs, c.one_of, c.may].concat().contains(class);
            assert!(COMMANDS.iter().any(used), "{}", class.name());
        }
    }
}
