//! An ldirectord.cf as it stands, read by lvx itself.

use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Director, Start, lvx},
    http,
    lab::{Lab, Namespace, OneArm, nginx},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
const PATIENCE: Duration = Duration::from_secs(15);

/// Recipe: HTTP with a sorry server, with this laboratory's addresses.
const WEB: &str = "checktimeout=3
checkinterval=1
autoreload=yes
quiescent=no
virtual=192.168.0.200:80
        real=192.168.0.10:80 gate
        real=192.168.0.20:80 gate
        fallback=127.0.0.1:80 gate
        service=http
        scheduler=rr
        protocol=tcp
        checktype=negotiate
        checkport=80
        request=\"index.html\"
        receive=\"80\"
";

fn write(lab: &Lab, text: &str) -> PathBuf {
    let file = lab.dir().join("ldirectord.cf");
    // As editors do: a new file in the place of the old one.
    let new = lab.dir().join("ldirectord.cf.new");
    fs::write(&new, text).expect("the laboratory works");
    fs::rename(&new, &file).expect("the laboratory works");
    file
}

fn start<'lab>(ns: &'lab Namespace, file: &Path) -> Director<'lab> {
    let start = Start::default().ldirectord_cf(file);
    Director::start_with(ns, start).expect("the laboratory works")
}

/// The table without its heading, with blanks squeezed.
fn table(director: &Director<'_>) -> Vec<String> {
    let list = director.ipvsadm(&["-Ln"]).ok();
    let lines = list.lines().skip(3);
    lines
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[0] {
                "->" => format!("{} {} {}", words[1], words[2], words[3]),
                _ => words.join(" "),
            }
        })
        .collect()
}

#[track_caller]
fn wait_for(director: &Director<'_>, what: &str, wanted: &[&str]) -> Duration {
    let started = Instant::now();
    loop {
        let found = table(director);
        if found == wanted {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{what}: wanted {wanted:#?}, got {found:#?}\n{}",
            director.lvx(&["health"])
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn wait_for_log(director: &Director<'_>, part: &str) {
    let limit = Instant::now() + PATIENCE;
    while !director.log().contains(part) {
        assert!(Instant::now() < limit, "no {part} in {}", director.log());
        thread::sleep(Duration::from_millis(10));
    }
}

fn page(lab: &Lab, server: &str) -> PathBuf {
    let dir = lab.dir().join(format!("nginx-{server}"));
    dir.join("pages/index.html")
}

#[test]
fn http_with_a_sorry_server_as_the_recipe_has_it() {
    let mut lab = OneArm::new().expect("the laboratory works");
    let own = nginx(&lab.director.ns, "sorry", &[80]).expect("the laboratory works");
    let file = write(&lab.lab, WEB);
    let director = start(&lab.director.ns, &file);
    let head = "TCP 192.168.0.200:80 rr";
    let (one, two) = ("192.168.0.10:80 Route 1", "192.168.0.20:80 Route 1");
    wait_for(&director, "all are up", &[head, one, two]);
    let answers = http::sequence(&lab.client.ns, SERVICE, 10).expect("the laboratory works");
    assert_eq!(answers.iter().filter(|name| *name == "rs1").count(), 5);

    // Editing the page of a server takes it out within about a second.
    let good = fs::read_to_string(page(&lab.lab, "rs2")).expect("the laboratory works");
    fs::write(page(&lab.lab, "rs2"), "nothing\n").expect("the laboratory works");
    let gone = wait_for(&director, "a page is edited", &[head, one]);
    fs::write(page(&lab.lab, "rs2"), good).expect("the laboratory works");
    let back = wait_for(&director, "it is as it was", &[head, one, two]);
    println!("edited page: out after {gone:?}, in again after {back:?}");
    assert!(gone.max(back) < Duration::from_secs(3), "{gone:?} {back:?}");

    // With both gone clients get the director's own page.
    lab.servers[0].stop();
    lab.servers[1].stop();
    let sorry = "127.0.0.1:80 Route 1";
    wait_for(&director, "both are down", &[head, sorry]);
    assert_eq!(
        http::wait_for_answer(&lab.client.ns, SERVICE, PATIENCE).expect("the laboratory works"),
        "sorry"
    );
    lab.servers[1].start().expect("the laboratory works");
    wait_for(&director, "the second is up", &[head, two]);

    // The file changes: weight 0 instead of removal, another service, none of them lost.
    let more = WEB.replace("quiescent=no", "quiescent=yes")
        + "virtual=5\n\treal=192.168.0.20:80 gate 2\n\tchecktype=connect\n";
    write(&lab.lab, &more);
    let quiet = "192.168.0.10:80 Route 0";
    wait_for(
        &director,
        "quiescent, and a mark",
        &[head, quiet, two, "FWM 5 wrr", "192.168.0.20:80 Route 2"],
    );
    // A wrong one leaves everything as it is, and says where.
    write(&lab.lab, &more.replace("scheduler=rr", "scheduler=rrr"));
    wait_for_log(&director, "ldirectord.cf:10: no scheduler rrr");
    wait_for_log(&director, "the old configuration stays");
    wait_for(
        &director,
        "as before",
        &[head, quiet, two, "FWM 5 wrr", "192.168.0.20:80 Route 2"],
    );
    // What is no longer in it goes; what is by hand stays.
    director.configure("-A -t 192.168.0.200:81 -s rr");
    write(&lab.lab, WEB);
    wait_for(
        &director,
        "the mark is gone",
        &[head, two, "TCP 192.168.0.200:81 rr"],
    );
    let shown = director.lvx(&["show"]).ok();
    assert!(shown.contains("ldirectord.cf"), "{shown}");
    lab.servers[0].start().expect("the laboratory works");
    wait_for(
        &director,
        "all are up again",
        &[head, one, two, "TCP 192.168.0.200:81 rr"],
    );
    drop(own);
}

#[test]
fn a_wrong_file_is_told_before_anything_runs() {
    let lab = OneArm::new().expect("the laboratory works");
    let bad = WEB.replace("checkinterval=1", "checkintervall=1") + "\treal=192.168.0.30:80\n";
    let file = write(&lab.lab, &bad);
    let name = file.display().to_string();
    let ns = &lab.director.ns;
    let wanted = [
        format!("{name}:2: unknown directive: checkintervall"),
        format!("{name}:16: a method must follow the server"),
    ];
    for words in [
        &["run", "--interface", "eth0", "--ldirectord-cf", &name][..],
        &["config", "check", &name],
    ] {
        let answer = lvx(ns, words).expect("the laboratory works");
        assert_eq!(answer.code, 2, "{answer}");
        for line in &wanted {
            assert!(answer.stderr.contains(line), "{answer}");
        }
    }
    let file = write(&lab.lab, &format!("emailalert=\"a@b.c\"\n{WEB}"));
    let name = file.display().to_string();
    let good = lvx(ns, &["config", "check", &name]).expect("the laboratory works");
    assert_eq!(good.code, 0, "{good}");
    assert!(
        good.stderr.contains(":1: emailalert: not acted on"),
        "{good}"
    );
    assert!(
        good.stdout
            .contains("good: 1 services, 1 of them checked, 2 servers"),
        "{good}"
    );
    // As lvx.toml it is the same.
    let toml = lvx(ns, &["config", "convert", &name])
        .expect("the laboratory works")
        .stdout;
    let other = lab.lab.dir().join("lvx.toml");
    fs::write(&other, &toml).expect("the laboratory works");
    let again = lvx(ns, &["config", "convert", &other.display().to_string()])
        .expect("the laboratory works");
    assert_eq!(again.ok(), toml);
}
