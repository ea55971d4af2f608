//! Words that options take: those that people write first, then those that
//! somebody tries.

/// A pool: most draws come from the first list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    pub(super) usual: &'static [&'static str],
    pub(super) odd: &'static [&'static str],
}

pub(super) const SERVICE: Pool = Pool {
    usual: &[
        "10.0.0.1:80",
        "10.0.0.1:80",
        "10.0.0.1:http",
        "10.0.0.1:53",
        "www:80",
        "[2001:db8::1]:80",
        "[2001:db8::1]:80",
        "172.16.0.1:443",
        "10.0.0.1:0",
    ],
    odd: &[
        "10.0.0.1",
        "10.0.0.1:domain",
        "10.0.0.1:tftp",
        "10.0.0.1:diameter",
        "www.example.com:https",
        "localhost:80",
        "both:80",
        "2001:db8::1",
        "2001:db8::1:90",
        "[2001:db8::1]",
        "[2001:db8::1]:0",
        "[2001:db8::1]:http",
        "[2001:DB8:0:0::1]:80",
        "[::]:80",
        "[::]:0",
        "::",
        "[::ffff:1.2.3.4]:80",
        "[::1.2.3.4]:80",
        "[fe80::1]:80",
        "[fe80::1%eth0]:80",
        "[v6only]:80",
        "v6only:80",
        "[10.0.0.1]:80",
        "[10.0.0.1]",
        "[www]:80",
        "[]:80",
        "[",
        "[::1",
        "]:80",
        "10.0.0.1:",
        ":80",
        ":",
        "80",
        "080",
        "10.0.0.256:80",
        "10.0.0.1.1:80",
        "host.invalid:80",
        "host.invalid",
        "10.0.0.1:65535",
        "10.0.0.1:65536",
        "10.0.0.1:99999",
        "10.0.0.1:99999999999999999999",
        "10.0.0.1:-1",
        "10.0.0.1:-0",
        "10.0.0.1:+7",
        "10.0.0.1: 6",
        "10.0.0.1:6 ",
        "10.0.0.1:08",
        "10.0.0.1:0x9",
        "10.0.0.1:nosuch",
        "10.0.0.1:HTTP",
        "10.0.0.1:80:90",
        "10.0.0.1::90",
        "10.0.0.1 :80",
        " 10.0.0.1:80",
        "10.0.0.1 x:80",
        "10.1:80",
        "10.1",
        "0xa000001:81",
        "0XA000001:81",
        "010.0.0.1:80",
        "0:80",
        "0.0.0.0:80",
        "0.0.0.0:0",
        "0.0.0.0",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "127.0.0.1:80",
        "200.1.1.1:1",
        "averyveryverylonghostname.sub.example.com:80",
        "a-very-long-name.of-a-service.which-goes.on-and-on-and-on.and-even-further.example.com:8080",
        "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
        "",
        " ",
        "-",
    ],
};

pub(super) const MARK: Pool = Pool {
    usual: &["1", "5", "77"],
    odd: &[
        "0",
        "4294967295",
        "4294967296",
        "2147483648",
        "-1",
        "-4294967295",
        "+3",
        " 3",
        "3 ",
        "010",
        "0x10",
        "0x",
        "0xg",
        "99999999999999999999",
        "18446744073709551617",
        "",
        "x",
        "1.5",
    ],
};

pub(super) const SERVER: Pool = Pool {
    usual: &[
        "192.168.1.1",
        "192.168.1.1:80",
        "192.168.1.1:8080",
        "192.168.1.2:80",
        "web2:8080",
        "[2001:db8::2]:80",
        "[2001:db8::2]:8080",
        "2001:db8::2",
    ],
    odd: &[
        "192.168.1.1:http-alt",
        "192.168.1.1:nosuch",
        "192.168.1.1:tftp",
        "192.168.1.1:0",
        "192.168.1.1:65536",
        "192.168.1.1:",
        "192.168.1.256",
        "host.invalid",
        "averyveryverylonghostname.sub.example.com:8080",
        "a-very-long-name.of-a-service.which-goes.on-and-on-and-on.and-even-further.example.com:80",
        "200.1.1.1:80",
        "0.0.0.0",
        "0.0.0.0:80",
        "0.1.2.3:80",
        "224.0.0.1:80",
        "240.0.0.1:80",
        "255.255.255.255:80",
        "127.0.0.1:80",
        "10.0.0.1:80",
        "[::]:80",
        "[::1]:80",
        "[ff02::1]:80",
        "[fe80::2]:80",
        "[::ffff:1.2.3.4]:80",
        "[fec0::1]:80",
        "[2001:db8::2]",
        "[192.168.1.1]:80",
        "[v6only]:80",
        "8080",
        "",
    ],
};

pub(super) const SCHEDULER: Pool = Pool {
    usual: &[
        "rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq", "fo", "ovf", "lblc", "lblcr",
    ],
    odd: &[
        "twos",
        "nosuch",
        "",
        "RR",
        " rr",
        "averyveryverylongschedulername",
        "rr,wrr",
        "../rr",
    ],
};

pub(super) const FLAGS: Pool = Pool {
    usual: &[
        "sh-port",
        "sh-fallback",
        "sh-fallback,sh-port",
        "mh-port",
        "mh-fallback,mh-port",
        "flag-1",
        "flag-2,flag-1",
    ],
    odd: &[
        "flag-3",
        "flag-1,flag-2,flag-3",
        "",
        ",",
        ",flag-1,,flag-2,",
        "flag-4",
        "sh-port,nosuch",
        "SH-PORT",
        " flag-1",
        "sh-port,mh-port",
        "flag-1 flag-2",
    ],
};

pub(super) const PERSISTENCE: Pool = Pool {
    usual: &["1", "300", "600"],
    odd: &[
        "0",
        "2678400",
        "2678401",
        "-1",
        "+5",
        "010",
        "0x10",
        "",
        "5s",
        "4294967297",
        "rr",
        " 7",
    ],
};

pub(super) const MASK: Pool = Pool {
    usual: &["255.255.255.0", "255.255.0.0", "64", "128"],
    odd: &[
        "0",
        "129",
        "1",
        "255.255.255.255",
        "0.0.0.0",
        "255.0.255.0",
        "0xffffff00",
        "255.255.255",
        "255.255.255.256",
        "netmask",
        "nosuch",
        "",
        "::",
        "ffff::",
        "/24",
    ],
};

pub(super) const WEIGHT: Pool = Pool {
    usual: &["0", "1", "5", "100"],
    odd: &[
        "65535",
        "65536",
        "2147483647",
        "2147483648",
        "-1",
        "-0",
        "+2",
        "010",
        "0x10",
        "",
        "1.5",
        "99999999999999999999",
        "4294967296",
        " 1",
        "1 ",
    ],
};

pub(super) const THRESHOLD: Pool = Pool {
    usual: &["0", "100", "200"],
    odd: &["2147483647", "2147483648", "-1", "", "x", "010", "+3"],
};

pub(super) const TUNNEL: Pool = Pool {
    usual: &["ipip", "gue", "gre"],
    odd: &["", "GUE", "vxlan", "gue ", "gueX"],
};

pub(super) const PORT: Pool = Pool {
    usual: &["6080", "5555"],
    odd: &["0", "1", "65535", "65536", "-1", "", "http", "+80", "0x50"],
};

pub(super) const ENGINE: Pool = Pool {
    usual: &["nosuch"],
    odd: &["", "averyveryverylongenginename", "SIP"],
};

pub(super) const SMALL: Pool = Pool {
    usual: &["1", "5", "255"],
    odd: &["0", "256", "-1", "", "x", "65507", "65508", "1400"],
};

pub(super) const GROUP: Pool = Pool {
    usual: &["224.0.0.81", "239.1.2.3", "ff02::81"],
    odd: &[
        "10.0.0.1",
        "",
        "nosuch",
        "2001:db8::1",
        "224.0.0",
        "224.1",
        ":",
        "ff02::81:",
        "224.0.0.256",
        "localhost",
    ],
};

pub(super) const INTERFACE: Pool = Pool {
    usual: &["lo", "eth0"],
    odd: &["", "averyveryverylonginterfacename", "nosuch"],
};

pub(super) const ROLE: Pool = Pool {
    usual: &["master", "backup"],
    odd: &["", "Master", "mast", "masterx", "both"],
};

pub(super) const SECONDS: Pool = Pool {
    usual: &["0", "900", "120", "10"],
    odd: &["2678400", "2678401", "-1", "", "x", "+5", "010", "0x10"],
};

/// Words that do not belong anywhere.
pub(super) const STRAY: &[&str] = &[
    "x",
    "",
    "-",
    "--",
    "--",
    "#",
    "ipvsadm",
    "80",
    "10.0.0.1:80",
    "rr",
    "--nosuch",
    "-k",
    "-?",
    "-add-service",
    "--add-serv",
    "--numeric=1",
    "-n=1",
    "--sort",
    "-W",
    "--weigh",
    "-A",
    "-L",
    "--list",
    "--numeric",
    "-n",
    "-6",
    "-é",
    "--=",
    "--=x",
    "-=",
];
