//! Whatever comes in by the control socket: the daemon lives, answers others, and
//! has a configuration that can be saved and compiled.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lb_userspace::{
    config,
    model::{Config, Request},
};
use lvx_tests::{
    director::{Director, Start},
    http,
    lab::OneArm,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

const TOML: &str = include_str!("../../lb-userspace/tests/garbage/whole.toml");
const SECOND: Duration = Duration::from_secs(1);

fn socket(director: &Director<'_>) -> PathBuf {
    let cookie = director.ns().door().cookie().expect("the kernel tells");
    Path::new("/run/lvx")
        .join(cookie.to_string())
        .join("lvx.sock")
}

/// Sends bytes and gives the first line of the answer; nothing when the daemon
/// hung up.
fn send(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream
        .set_read_timeout(Some(20 * SECOND))
        .expect("a time limit");
    // It may have had enough before the end.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

/// Every kind of change, and what reads, as JSON.
fn requests() -> Vec<Value> {
    let (config, _) = config::read(TOML).expect("a good file");
    let empty = Config {
        services: Some(Vec::new()),
        ..Config::default()
    };
    let mut all = config::changes(&empty, &config);
    let service = &config.services.as_ref().expect("services")[0];
    let (id, dest) = (service.id, service.dests[0]);
    all.extend([
        Request::EditService(id, service.spec.clone()),
        Request::EditDest(id, dest),
        Request::Drain(id, dest.id),
        Request::Undrain(id, dest.id),
        Request::DeleteDest(id, dest.id),
        Request::Zero(Some(id)),
        Request::List(Some(id)),
        Request::Locals,
        Request::Maps,
        Request::Overview,
        Request::Apply(Box::new(config)),
    ]);
    let value = |request: &Request| serde_json::to_value(request).expect("plain data");
    all.iter().map(value).collect()
}

/// Spoils a few leaves of a document.
fn spoil(value: &mut Value, rng: &mut StdRng) {
    const NUMBERS: [u64; 12] = [
        0,
        1,
        31,
        33,
        64,
        128,
        129,
        999,
        65_535,
        65_536,
        4_294_967_295,
        u64::MAX,
    ];
    match value {
        Value::Array(items) => {
            if !items.is_empty() && rng.random_bool(0.05) {
                let at = rng.random_range(0..items.len());
                if rng.random_bool(0.5) {
                    items.remove(at);
                } else {
                    items.push(items[at].clone());
                }
            }
            items.iter_mut().for_each(|item| spoil(item, rng));
        }
        Value::Object(fields) => fields.iter_mut().for_each(|(_, field)| spoil(field, rng)),
        _ if !rng.random_bool(0.08) => {}
        Value::Number(_) => *value = json!(NUMBERS.choose(rng)),
        Value::Bool(is) => *value = json!(!*is),
        Value::String(_) => {
            *value = json!(
                [
                    "",
                    "rr",
                    "wrr",
                    "mh",
                    "lblcr",
                    "0.0.0.0",
                    "255.255.255.255",
                    "224.0.0.1",
                    "::",
                    "::1",
                    "fe80::1",
                    "127.0.0.1",
                    "é\n\"",
                    "sip"
                ]
                .choose(rng)
            );
        }
        Value::Null => *value = json!(NUMBERS.choose(rng)),
    }
}

#[test]
fn spoilt_requests_leave_a_daemon_that_works() {
    const BATCHES: u32 = 100;
    let lab = OneArm::new().unwrap();
    let state = lab.lab.dir().join("state");
    let start = Start::default().room(64, 256).state(&state);
    let mut director = Director::start_with(&lab.director.ns, start).unwrap();
    let socket = socket(&director);
    let pid = director.pid();
    let seed = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let good = requests();
    let (mut sent, mut done) = (0, 0);
    for batch in 0..BATCHES {
        let mut requests = Vec::new();
        while requests.len() < 20 {
            let mut request = good.choose(&mut rng).unwrap().clone();
            spoil(&mut request, &mut rng);
            // What does not parse is refused as a whole, which is tried elsewhere.
            if serde_json::from_value::<Request>(request.clone()).is_ok() {
                requests.push(request);
            }
        }
        let kind = if batch % 4 == 0 { "strict" } else { "batch" };
        let text = format!("{}\n", json!({ kind: requests }));
        let answer = send(&socket, text.as_bytes());
        let answers: Value = serde_json::from_str(&answer).unwrap_or_else(|_| {
            panic!(
                "seed {seed}, batch {batch}: {answer:?}\n{text}\n{}",
                director.log()
            )
        });
        sent += requests.len();
        done += answers["batch"].as_array().map_or(0, |answers| {
            answers.iter().filter(|answer| *answer == "ok").count()
        });
        if batch % 50 == 49 {
            // What there is can be read back.
            let saved = director.ipvsadm(&["-Sn"]).ok();
            director.kill();
            director
                .restart()
                .unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
            assert_eq!(director.ipvsadm(&["-Sn"]).ok(), saved, "seed {seed}");
        }
    }
    println!("seed {seed}: {sent} requests, {done} of them done");
    assert!(
        done > sent / 10,
        "seed {seed}: only {done} of {sent} did anything"
    );
    assert!(
        director.pid().is_some() && director.pid() != pid,
        "only as it was asked to"
    );
    // And after all that it balances.
    assert_eq!(send(&socket, b"{\"apply\":{\"services\":[],\"filters\":[],\"marks\":[],\"sets\":[],\"pools\":[],\"sysctls\":{}}}\n"), "\"ok\"\n");
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g",
    );
    assert_eq!(
        http::sequence(&lab.client.ns, (OneArm::VIP, 80), 5).unwrap(),
        ["rs1"; 5]
    );
}

#[test]
fn garbage_and_idle_clients_hold_nobody_up() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -t 192.168.0.200:80 -s rr");
    let socket = socket(&director);
    let before = director.ipvsadm(&["-Sn"]).ok();
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..300 {
        let length = rng.random_range(0..2_000);
        let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        send(&socket, &bytes);
        // Half a request is none.
        let text = b"{\"delete-service\":{\"address\":{\"protocol\":\"tcp\",\"addr\":\"192.168.0.200\",\"port\":80}}}";
        send(&socket, &text[..round % text.len()]);
    }
    assert_eq!(
        send(&socket, b"\"clear\""),
        "",
        "without its end it is no request"
    );
    let deep = format!("{}{}\n", "{\"batch\":[".repeat(5_000), "]}".repeat(5_000));
    assert!(send(&socket, deep.as_bytes()).contains("refused"));
    let long = vec![b' '; (64 << 20) + 1];
    assert!(send(&socket, &long).contains("too long"));

    // Some say nothing, some say half a line, some never read what they asked for.
    let mut idle: Vec<UnixStream> = (0..60)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    for (stream, number) in idle.iter_mut().zip(0..) {
        stream.set_nonblocking(true).unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"{\"list\"").unwrap(),
            _ => {
                // Until the daemon takes no more of it.
                while stream.write(b"\"maps\"\n").is_ok() {}
            }
        }
    }
    // It waits for one request of each of them at most.
    for _ in 0..5 {
        let asked = Instant::now();
        assert_eq!(director.ipvsadm(&["-Sn"]).ok(), before);
        assert!(asked.elapsed() < 10 * SECOND, "{:?}", asked.elapsed());
    }
    director.configure("-A -t 192.168.0.200:81 -s rr");
    let mut some = [0; 16];
    idle[2].set_nonblocking(false).unwrap();
    idle[2].read_exact(&mut some).unwrap();
    drop(idle);
    assert!(director.ipvsadm(&["-Sn"]).ok().starts_with(&before));
}
