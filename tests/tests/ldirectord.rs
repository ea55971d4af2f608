//! Debian's ldirectord, as it comes, with lvx as its /sbin/ipvsadm: real servers
//! go down and up, and every command and every answer is as with the real
//! ipvsadm. `tests/ldirectord/*.txt` hold what that answered to the same commands
//! in the oracle's machine:
//!
//! ```text
//! LVX_RECORD=1 cargo test -p lvx-tests --test ldirectord
//! cargo xtask commands --record tests/ldirectord/*.txt
//! ```
//!
//! The first writes the commands that ldirectord runs, the second has the real ipvsadm
//! answer them and tells what differs. ldirectord knows its director by these answers alone.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Director, Start, binary},
    lab::{Background, Lab, Namespace, nginx, tool},
};

/// How long ldirectord may take until the table is as it should be.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stands at /sbin/ipvsadm: lvx, and what it was asked and said in a file.
const WRAPPER: &str = r#"#!/bin/sh
mkdir DIR/busy
out=$(mktemp DIR/out.XXXXXX)
DIR/programs/ipvsadm "$@" >$out 2>$out.errors
status=$?
{
    echo "$ ipvsadm $*"
    sed 's/^/O|/; s/$/$/' $out
    sed 's/^/E|/; s/$/$/' $out.errors
    echo "rc=$status"
} >>DIR/commands
cat $out
cat $out.errors >&2
rm $out $out.errors
rmdir DIR/busy
exit $status
"#;

/// The check of the UDP servers: up while their web server answers.
const ANSWERS: &str =
    "#!/bin/sh\nexec curl --silent --output /dev/null --max-time 8 http://$3:8080/\n";

/// The laboratory of the life cycles: a director, and two servers, the first
/// of which has two addresses.
struct Scene<'lab> {
    director: Director<'lab>,
    servers: [&'lab Namespace; 2],
    nginx: [Option<Background>; 2],
    ldirectord: Option<Background>,
    dir: PathBuf,
}

fn cable(director: &Namespace, port: &str, server: &Namespace) {
    director
        .ip(&format!(
            "link add {port} type veth peer name eth0 netns {}\nlink set {port} up",
            server.name()
        ))
        .expect("the laboratory works");
}

/// The director and the two servers.
fn hosts(lab: &Lab) -> [Namespace; 3] {
    let [director, one, two] =
        ["director", "one", "two"].map(|role| lab.namespace(role).expect("the laboratory works"));
    for ns in [&director, &one] {
        ns.enable_ipv6().expect("the laboratory works");
    }
    // Where the clients would be.
    director
        .ip("link add eth0 type veth peer name clients\nlink set eth0 up\nlink set clients up")
        .expect("the laboratory works");
    cable(&director, "eth1", &one);
    cable(&director, "eth2", &two);
    director
        .ip("addr add 10.0.0.1/24 dev eth0
addr add 2001:db8::1/64 dev eth0 nodad
addr add 192.168.1.254/24 dev eth1
addr add fd00:1::fe/64 dev eth1 nodad
addr add 192.168.2.254/24 dev eth2")
        .expect("the laboratory works");
    one.ip("link set eth0 up
addr add 192.168.1.1/24 dev eth0
addr add 192.168.1.2/24 dev eth0
addr add fd00:1::1/64 dev eth0 nodad")
        .expect("the laboratory works");
    two.ip("link set eth0 up\naddr add 192.168.2.1/24 dev eth0")
        .expect("the laboratory works");
    [director, one, two]
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).expect("the laboratory works");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the laboratory works");
}

impl<'lab> Scene<'lab> {
    fn new(lab: &Lab, hosts: &'lab [Namespace; 3]) -> Self {
        Self::with(lab, hosts, None)
    }

    /// Without ldirectord: lvx reads the configuration itself.
    fn built_in(lab: &Lab, hosts: &'lab [Namespace; 3], config: &str) -> Self {
        Self::with(lab, hosts, Some(config))
    }

    fn with(lab: &Lab, [director, one, two]: &'lab [Namespace; 3], config: Option<&str>) -> Self {
        let dir = lab.dir().to_owned();
        let mut start = Start::default().interfaces(&["eth0", "eth1", "eth2"]);
        if let Some(config) = config {
            let path = dir.join("built-in.cf");
            let place = dir.display().to_string();
            fs::write(&path, config.replace("DIR", &place)).expect("the laboratory works");
            start = start.ldirectord_cf(&path);
        }
        let director = Director::start_with(director, start).expect("the laboratory works");
        fs::create_dir(dir.join("programs")).expect("the laboratory works");
        let lvx = fs::canonicalize(binary().expect("the laboratory works"))
            .expect("the laboratory works");
        symlink(lvx, dir.join("programs/ipvsadm")).expect("the laboratory works");
        let place = dir.display().to_string();
        script(&dir.join("wrapper"), &WRAPPER.replace("DIR", &place));
        script(&dir.join("true"), "#!/bin/sh\n");
        script(&dir.join("answers"), ANSWERS);
        let mut scene = Self {
            director,
            servers: [one, two],
            nginx: [None, None],
            ldirectord: None,
            dir,
        };
        scene.up(0);
        scene.up(1);
        scene
    }

    fn up(&mut self, server: usize) {
        let name = format!("xxxx{server}");
        self.nginx[server] =
            Some(nginx(self.servers[server], &name, &[8080, 443]).expect("the laboratory works"));
    }

    fn down(&mut self, server: usize) {
        self.nginx[server] = None;
    }

    /// `ldirectord CONFIG start` in the foreground, in a mount namespace where
    /// /sbin/ipvsadm is the wrapper. Perl's hashes have a fixed order, so that
    /// the commands have one.
    fn start(&mut self, config: &str) {
        let place = self.dir.display().to_string();
        let path = self.dir.join("lab.cf");
        fs::write(&path, config.replace("DIR", &place)).expect("the laboratory works");
        let ipvsadm = Path::new("/sbin/ipvsadm");
        assert!(
            ipvsadm.exists() && Path::new("/usr/sbin/ldirectord").exists(),
            "ldirectord is not installed: run `cargo xtask setup`"
        );
        let mut command: Command = self.director.ns().command(tool("unshare"));
        command.args(["--mount", "sh", "-c"]).arg(format!(
            "mount --bind {place}/wrapper /sbin/ipvsadm && cd / && exec /usr/sbin/ldirectord -d {} start",
            path.display()
        ));
        command.env("PERL_HASH_SEED", "0");
        command.env("PERL_PERTURB_KEYS", "0");
        let ns = self.director.ns();
        self.ldirectord = Some(
            ns.spawn("ldirectord", command)
                .expect("the laboratory works"),
        );
    }

    /// Waits until the table has these servers, as `ADDRESS:PORT WEIGHT` in the
    /// order of the listing, and writes down that it has.
    fn wait(&mut self, what: &str, servers: &[&str]) {
        let started = Instant::now();
        let limit = started + PATIENCE;
        loop {
            let list = self.director.ipvsadm(&["-Ln"]).ok();
            let found: Vec<String> = list
                .lines()
                .filter(|line| line.starts_with("  -> ") && !line.contains("RemoteAddress"))
                .map(|line| {
                    let words: Vec<_> = line.split_whitespace().collect();
                    format!("{} {}", words[1], words[3])
                })
                .collect();
            if found == servers {
                println!("{what} after {:.1} s", started.elapsed().as_secs_f64());
                break;
            }
            if let Some(status) = self.ldirectord.as_mut().and_then(Background::ended) {
                panic!("ldirectord ended, {status}: {}", self.log());
            }
            assert!(
                Instant::now() < limit,
                "{what}: expected {servers:?}, got\n{list}\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        self.note(what);
    }

    /// Writes into the file of commands, when none is under way.
    fn note(&self, what: &str) {
        while self.dir.join("busy").exists() {
            thread::sleep(Duration::from_millis(5));
        }
        let mut commands = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.dir.join("commands"))
            .expect("the laboratory works");
        writeln!(commands, "# {what}").expect("the laboratory works");
    }

    fn log(&self) -> String {
        let ldirectord = self.ldirectord.as_ref().map(Background::log);
        ldirectord.unwrap_or_else(|| self.director.log())
    }

    /// SIGTERM: it takes its services away.
    fn stop(&mut self) {
        let mut ldirectord = self.ldirectord.take().expect("the laboratory works");
        let pid = nix::unistd::Pid::from_raw(ldirectord.pid() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)
            .expect("the laboratory works");
        assert!(
            ldirectord.wait(PATIENCE).is_some(),
            "it does not end: {}",
            ldirectord.log()
        );
        assert_eq!(self.director.ipvsadm(&["-Sn"]).ok(), "");
        self.note("after its end");
    }

    /// What was asked and answered, against what the real ipvsadm answered.
    fn compare(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("ldirectord/{name}.txt"));
        let commands = fs::read_to_string(self.dir.join("commands")).expect("the laboratory works");
        if std::env::var_os("LVX_RECORD").is_some() {
            fs::write(&path, format!("@ clear\n{commands}")).expect("the laboratory works");
            return;
        }
        let recorded = fs::read_to_string(&path).expect("the laboratory works");
        let (mut recorded, mut commands) = (phases(&recorded), phases(&commands));
        assert_eq!(take_refused(&mut recorded), take_refused(&mut commands));
        for (recorded, now) in recorded.iter().zip(&commands) {
            assert_eq!(recorded, now, "{}", self.log());
        }
        assert_eq!(recorded.len(), commands.len(), "{}", self.log());
    }
}

/// What a transcript's commands changed and how each was answered, by phase: in
/// alphabetical order, because it is chance in which service's check an outage begins,
/// and how often the table is listed meanwhile.
fn phases(text: &str) -> Vec<Vec<String>> {
    let lines = plain(text);
    let phases = lines.split(|line| line.starts_with("# "));
    phases
        .map(|phase| {
            let mut commands: Vec<String> = Vec::new();
            for line in phase {
                if line.starts_with("$ ") {
                    commands.push(line.clone());
                } else if let Some(command) = commands.last_mut() {
                    command.push('\n');
                    command.push_str(line);
                }
            }
            commands.retain(|command| !command.starts_with("$ ipvsadm -L"));
            commands.sort_unstable();
            commands
        })
        .collect()
}

/// Takes out what was refused, and so changed nothing: it may come after the table
/// is as it should be, which ends the phase.
fn take_refused(phases: &mut [Vec<String>]) -> BTreeSet<String> {
    let mut refused = BTreeSet::new();
    for phase in phases {
        refused.extend(phase.extract_if(.., |command| !command.ends_with("rc=0")));
    }
    refused
}

/// The lines of a transcript but for the size of the table of connections
/// (D-size).
fn plain(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| *line != "@ clear")
        .map(|line| {
            line.split_once("(size=")
                .map_or(line, |(before, _)| before)
                .to_owned()
        })
        .collect()
}

/// The commands of a part of a transcript, in alphabetical order.
fn changes<'a>(text: &'a str, after: &str, until: &str) -> Vec<&'a str> {
    let from = text.split_once(after).expect("the part is there").1;
    let part = from.split_once(until).expect("its end is there").0;
    let mut lines: Vec<_> = part
        .lines()
        .filter_map(|line| line.strip_prefix("$ ipvsadm "))
        .filter(|line| !line.starts_with("-L"))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn servers_that_fail_are_quiesced() {
    let lab = Lab::new().unwrap();
    let hosts = hosts(&lab);
    let mut scene = Scene::new(&lab, &hosts);
    scene.start(include_str!("../ldirectord/quiescent.cf"));
    let table = |weights: [&str; 3]| {
        [
            "192.168.1.1:25 1".to_owned(),
            format!("192.168.1.1:8080 {}", weights[0]),
            format!("192.168.1.2:8080 {}", weights[1]),
            format!("192.168.2.1:8080 {}", weights[2]),
            "192.168.1.1:0 1".to_owned(),
        ]
    };
    let wait = |scene: &mut Scene<'_>, what, weights| {
        let servers = table(weights);
        scene.wait(what, &servers.each_ref().map(String::as_str));
    };
    wait(&mut scene, "all are up", ["5", "5", "3"]);
    scene.down(1);
    wait(&mut scene, "the second is down", ["5", "5", "0"]);
    scene.down(0);
    wait(&mut scene, "both are down", ["0", "0", "0"]);
    scene.up(1);
    wait(&mut scene, "the second is up", ["0", "0", "3"]);
    scene.stop();

    // What was observed of ldirectord 4.12 with kernel IPVS in such a laboratory.
    let commands = fs::read_to_string(scene.dir.join("commands")).unwrap();
    assert_eq!(
        changes(&commands, "# all are up", "# the second is down"),
        ["-e -t 10.0.0.1:80 -r 192.168.2.1:8080 -m -w 0"]
    );
    assert_eq!(
        changes(&commands, "# the second is down", "# both are down"),
        [
            "-e -t 10.0.0.1:80 -r 192.168.1.1:8080 -m -w 0",
            "-e -t 10.0.0.1:80 -r 192.168.1.2:8080 -m -w 0"
        ]
    );
    assert_eq!(
        changes(&commands, "# both are down", "# the second is up"),
        ["-e -t 10.0.0.1:80 -x 20 -y 10 -r 192.168.2.1:8080 -m -w 3"]
    );
    assert_eq!(
        changes(&commands, "# the second is up", "# after its end"),
        [
            "-D -f 9",
            "-D -t 10.0.0.1:25",
            "-D -t 10.0.0.1:80",
            "-d -f 9 -r 192.168.1.1:0",
            "-d -t 10.0.0.1:25 -r 192.168.1.1:0",
            "-d -t 10.0.0.1:80 -r 192.168.2.1:8080"
        ]
    );
    scene.compare("quiescent");
}

/// Servers of `six.cf` that go and come; `more` are in the table, too, while none is
/// up.
fn play_six(scene: &mut Scene<'_>, more: &[&'static str]) {
    let all = [
        "192.168.1.1:8080 5",
        "192.168.1.2:8080 5",
        "192.168.2.1:8080 3",
        "192.168.2.1:443 2",
        "192.168.1.1:53 1",
        "192.168.2.1:53 4",
        "[fd00:1::1]:8080 1",
        "192.168.1.1:0 1",
        "[fd00:1::1]:0 1",
    ];
    scene.wait("all are up", &all);
    scene.down(1);
    scene.wait(
        "the second is down",
        &[
            "192.168.1.1:8080 5",
            "192.168.1.2:8080 5",
            "127.0.0.1:443 1",
            "192.168.2.1:443 0",
            "192.168.1.1:53 1",
            "[fd00:1::1]:8080 1",
            "192.168.1.1:0 1",
            "[fd00:1::1]:0 1",
        ],
    );
    scene.down(0);
    let mut none = vec![
        "127.0.0.1:80 1",
        "127.0.0.1:443 1",
        "192.168.2.1:443 0",
        "127.0.0.1:53 1",
        "[::1]:80 1",
    ];
    none.extend(more);
    scene.wait("both are down", &none);
    scene.up(0);
    scene.up(1);
    scene.wait("both are up", &all);
}

#[test]
fn six_services_whose_servers_come_and_go() {
    let lab = Lab::new().unwrap();
    let hosts = hosts(&lab);
    let mut scene = Scene::new(&lab, &hosts);
    scene.start(include_str!("../ldirectord/six.cf"));
    play_six(&mut scene, &[]);
    scene.stop();
    scene.compare("six");
}

/// The events of the two tests above, with lvx in the place of ldirectord: the same
/// tables one after the other.
#[test]
fn lvx_itself_does_what_ldirectord_does() {
    let lab = Lab::new().unwrap();
    let hosts = hosts(&lab);
    let mut scene = Scene::built_in(&lab, &hosts, include_str!("../ldirectord/quiescent.cf"));
    let table = |weights: [&str; 3]| {
        [
            "192.168.1.1:25 1".to_owned(),
            format!("192.168.1.1:8080 {}", weights[0]),
            format!("192.168.1.2:8080 {}", weights[1]),
            format!("192.168.2.1:8080 {}", weights[2]),
            "192.168.1.1:0 1".to_owned(),
        ]
    };
    let wait = |scene: &mut Scene<'_>, what, weights| {
        let servers = table(weights);
        scene.wait(what, &servers.each_ref().map(String::as_str));
    };
    wait(&mut scene, "all are up", ["5", "5", "3"]);
    scene.down(1);
    wait(&mut scene, "the second is down", ["5", "5", "0"]);
    scene.down(0);
    wait(&mut scene, "both are down", ["0", "0", "0"]);
    scene.up(1);
    wait(&mut scene, "the second is up", ["0", "0", "3"]);
    scene.up(0);
    wait(&mut scene, "both are up", ["5", "5", "3"]);

    // The other file takes its place.
    let place = lab.dir().display().to_string();
    let six = include_str!("../ldirectord/six.cf").replace("DIR", &place);
    fs::write(lab.dir().join("built-in.cf"), six).unwrap();
    let pid = nix::unistd::Pid::from_raw(scene.director.pid().unwrap() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    // The last two are D-ld-fallback: ldirectord gives marks no global fallback.
    let more = ["127.0.0.1:8888 1", "[::1]:8888 1"];
    play_six(&mut scene, &more);
}
