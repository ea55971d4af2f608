//! Checks of databases, against MariaDB and PostgreSQL.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lb_userspace::model::{Condition, ServiceHealth};
use lvx_tests::{
    director::{Director, Start},
    lab::{Background, Namespace, OneArm, run, tool},
};

const PATIENCE: Duration = Duration::from_secs(30);
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// Recipe: MySQL over a range of servers, with this laboratory's addresses and
/// shorter times.
const PORTAL: &str = "checkinterval=1
negotiatetimeout=2
virtual = 192.168.0.200:3306
        real=192.168.0.10->192.168.0.12:3306 gate 10
        fallback=127.0.0.1:3306
        service=mysql
        scheduler=wrr
        protocol=tcp
        checktype=negotiate
        login=\"readuser\"
        passwd=\"genericpassword\"
        database=\"portal\"
        request=\"SELECT * FROM link\"
";

/// MariaDB with a table that has a row and one that has none.
fn mariadb(ns: &Namespace, dir: &Path) -> Background {
    let data = dir.join("mariadb");
    if !data.exists() {
        let mut install = Command::new(tool("mariadb-install-db"));
        install
            .args(["--no-defaults", "--user=root", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()));
        run(&mut install).expect("the laboratory works");
        let first = "CREATE DATABASE portal;
CREATE TABLE portal.link (name TEXT);
INSERT INTO portal.link VALUES ('one');
CREATE TABLE portal.empty (name TEXT);
CREATE USER readuser IDENTIFIED BY 'genericpassword';
GRANT SELECT ON portal.* TO readuser;
";
        fs::write(dir.join("first.sql"), first).expect("the laboratory works");
    }
    let mut command = ns.command(tool("mariadbd"));
    command.args(["--no-defaults", "--user=root", "--bind-address=0.0.0.0"]);
    command.args(["--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"]);
    command.arg(format!("--datadir={}", data.display()));
    command.arg(format!("--socket={}", dir.join("mariadb.sock").display()));
    let first = dir.join("first.sql");
    if first.exists() {
        let once = dir.join("once.sql");
        fs::rename(first, &once).expect("the laboratory works");
        command.arg(format!("--init-file={}", once.display()));
    }
    ns.spawn("mariadb", command).expect("the laboratory works")
}

/// PostgreSQL, which does not run as root.
fn postgres(ns: &Namespace, dir: &Path) -> Background {
    let data = dir.join("postgres");
    fs::create_dir(&data).expect("the laboratory works");
    let as_user = |mut command: Command, program: &str| {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(format!("{POSTGRES}/{program}"));
        command.current_dir("/");
        command
    };
    let password = dir.join("password");
    fs::write(&password, "secret\n").expect("the laboratory works");
    let owner = |path: &Path| {
        run(Command::new("chown").arg("postgres").arg(path)).expect("the laboratory works");
    };
    owner(&data);
    owner(&password);
    let mut initdb = as_user(Command::new(tool("setpriv")), "initdb");
    initdb.args([
        "--no-sync",
        "--auth=scram-sha-256",
        "--username=check",
        "--pgdata",
    ]);
    initdb.arg(&data);
    initdb.arg(format!("--pwfile={}", password.display()));
    run(&mut initdb).expect("the laboratory works");
    fs::write(
        data.join("pg_hba.conf"),
        "host all all 0.0.0.0/0 scram-sha-256\n",
    )
    .expect("the laboratory works");
    let mut command = as_user(ns.command(tool("setpriv")), "postgres");
    command.arg("-D").arg(&data).arg("-k").arg(&data);
    command.args(["-c", "listen_addresses=*", "-c", "fsync=off"]);
    ns.spawn("postgres", command).expect("the laboratory works")
}

/// Waits until the servers of each service are in this condition, with this in
/// the reason.
#[track_caller]
fn wait_for(director: &Director<'_>, what: &str, wanted: &[(&str, Condition, &str)]) {
    let limit = Instant::now() + PATIENCE;
    loop {
        let answer = director.lvx(&["health", "--json"]).ok();
        let all: Vec<ServiceHealth> = serde_json::from_str(&answer).expect("the laboratory works");
        let good = |(name, condition, part): &(&str, Condition, &str)| {
            let service = all.iter().find(|service| service.service.name() == *name);
            let servers = service
                .map(|service| &service.servers[..])
                .unwrap_or_default();
            !servers.is_empty()
                && servers.iter().all(|server| {
                    let last = server.last.as_ref().and_then(|last| last.error.as_ref());
                    let reason = last.unwrap_or(&server.reason);
                    server.state == *condition && reason.contains(part)
                })
        };
        if wanted.iter().all(good) {
            return;
        }
        let text = director.lvx(&["health"]);
        assert!(Instant::now() < limit, "{what}: {text}\n{}", director.log());
        thread::sleep(Duration::from_millis(50));
    }
}

fn signal(process: &Background, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(process.pid() as i32);
    nix::sys::signal::kill(pid, signal).expect("the laboratory works");
}

#[test]
fn a_login_and_a_query_that_gives_a_row() {
    use Condition::{Down, Up};
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    let lab = OneArm::new().expect("the laboratory works");
    let dir = lab.lab.dir().to_owned();
    let [one, two] = [&lab.servers[0].node.ns, &lab.servers[1].node.ns];
    one.ip("addr add 192.168.0.11/24 dev eth0\naddr add 192.168.0.12/24 dev eth0")
        .expect("the laboratory works");
    let maria = mariadb(one, &dir);
    let _postgres = postgres(two, &dir);
    let file = dir.join("ldirectord.cf");
    fs::write(&file, PORTAL).expect("the laboratory works");
    let start = Start::default().ldirectord_cf(&file);
    let director = Director::start_with(&lab.director.ns, start).expect("the laboratory works");
    let check = |port: u16, server: &str, words: &str| {
        format!(
            "[[service]]\ntcp = \"192.168.0.200:{port}\"\n\
             check = {{ interval = 0.5, timeout = 2, {words} }}\nserver = [{{ address = \"{server}\" }}]\n"
        )
    };
    let maria_check = |port, rest: &str| {
        check(
            port,
            "192.168.0.10",
            &format!("type = \"mysql\", port = 3306, login = \"readuser\", {rest}"),
        )
    };
    let pg_check = |port, rest: &str| {
        check(
            port,
            "192.168.0.20",
            &format!("type = \"postgresql\", port = 5432, login = \"check\", {rest}"),
        )
    };
    let text = [
        maria_check(1, "password = \"wrong\""),
        maria_check(2, "password = \"genericpassword\", database = \"portal\", request = \"SELECT * FROM empty\""),
        maria_check(3, "password = \"genericpassword\", request = \"SELECT\""),
        pg_check(11, "password = \"secret\", database = \"postgres\", request = \"SELECT datname FROM pg_database\""),
        pg_check(12, "password = \"wrong\", database = \"postgres\""),
        pg_check(13, "password = \"secret\", database = \"postgres\", request = \"SELECT 1 WHERE false\""),
        pg_check(14, "password = \"secret\", database = \"nosuch\""),
    ]
    .concat();
    let toml = dir.join("lvx.toml");
    fs::write(&toml, text).expect("the laboratory works");
    director
        .lvx(&["apply", "-f", &toml.display().to_string()])
        .ok();
    let portal = "tcp:192.168.0.200:3306";
    wait_for(
        &director,
        "both databases run",
        &[
            (portal, Up, "mysql check good"),
            ("tcp:192.168.0.200:1", Down, "MySQL: Access denied"),
            ("tcp:192.168.0.200:2", Down, "the query gave no row"),
            (
                "tcp:192.168.0.200:3",
                Down,
                "MySQL: You have an error in your SQL syntax",
            ),
            ("tcp:192.168.0.200:11", Up, "postgresql check good"),
            ("tcp:192.168.0.200:12", Down, "PostgreSQL: the login fails"),
            ("tcp:192.168.0.200:13", Down, "the query gave no row"),
            (
                "tcp:192.168.0.200:14",
                Down,
                "PostgreSQL: database \"nosuch\" does not exist",
            ),
        ],
    );
    let list = director.ipvsadm(&["-Ln", "-t", "192.168.0.200:3306"]).ok();
    for last in 10..=12 {
        assert!(
            list.contains(&format!("-> 192.168.0.{last}:3306")),
            "{list}"
        );
    }
    // From the address that is no VIP, also when the kernel would take another.
    lab.director
        .ns
        .ip("route replace 192.168.0.0/24 dev eth0 src 192.168.0.200")
        .expect("the laboratory works");
    signal(&maria, SIGSTOP);
    wait_for(&director, "it hangs", &[(portal, Down, "within 2 s")]);
    signal(&maria, SIGCONT);
    wait_for(&director, "it goes on", &[(portal, Up, "mysql check good")]);
    drop(maria);
    wait_for(
        &director,
        "it is stopped",
        &[(portal, Down, "connection refused")],
    );
    let list = director.ipvsadm(&["-Ln", "-t", "192.168.0.200:3306"]).ok();
    assert!(list.contains("-> 127.0.0.1:3306"), "{list}");
    let _maria = mariadb(one, &dir);
    wait_for(&director, "it is back", &[(portal, Up, "mysql check good")]);
}
