//! lvx with both processors at work, against the recorded totals of the kernel's
//! IPVS: who serves which flow depends on the moment, the sums do not.

use std::collections::BTreeMap;

use lvx_oracle::{batch, play::race, results::Results, scenario::Scenario};

/// How often: what a race breaks, it does not break each time.
const TIMES: usize = 3;

/// Sums of the columns of numbers by service, of the service's own line and of its
/// servers' lines: `("TCP 10.9.9.1:80", "servers")`.
type Totals = BTreeMap<(String, &'static str), Vec<u64>>;

/// From all listings of services.
fn totals(results: &Results) -> Vec<(String, Totals)> {
    let listings = results.steps.iter().filter(|step| {
        step.text.starts_with("snapshot -Ln") && !step.text.starts_with("snapshot -Lnc")
    });
    listings
        .map(|step| {
            let (mut totals, mut service) = (Totals::new(), String::new());
            for line in step.lines.iter().skip(3) {
                let words: Vec<_> = line.split_whitespace().collect();
                let whose = if words[0] == "->" {
                    "servers"
                } else {
                    service = words[..2].join(" ");
                    "service"
                };
                let numbers = words[2..]
                    .iter()
                    .filter_map(|word| word.parse::<u64>().ok());
                let sums = totals.entry((service.clone(), whose)).or_default();
                for (column, number) in numbers.enumerate() {
                    sums.resize(sums.len().max(column + 1), 0);
                    sums[column] += number;
                }
            }
            (step.text.clone(), totals)
        })
        .collect()
}

#[test]
fn two_processors_come_to_the_kernels_totals() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "network namespaces need root: run this again as root (sudo)"
    );
    let directory = batch::directory();
    let scenario = Scenario::read(&directory.join("race.scn")).expect("it is right");
    let (_, kernel) = batch::recording(&directory, "race").expect("it is recorded");
    let wanted = totals(&kernel);
    assert_eq!(wanted.len(), 2, "-Ln and -Ln --stats");
    for _ in 0..TIMES {
        let raced = race(&scenario).expect("it can be played");
        assert_eq!(raced.servers.len(), 600);
        assert_eq!(
            raced.arrived, raced.sent,
            "every packet came to a server, and once"
        );
        for (ends, servers) in &raced.servers {
            assert_eq!(servers.len(), 1, "{ends:?} changed its server: {servers:?}");
        }
        assert_eq!(totals(&raced.results), wanted);
    }
}

#[test]
fn totals_are_of_services_and_of_their_servers() {
    let text = "> snapshot -Ln --stats --exact\n  v\n  Prot\n    ->\n  TCP  10.9.9.1:80  3 8\n    -> 10.8.0.1:80  2 5\n    -> 10.8.0.2:80  1 3\n> snapshot -Lnc\n  x\n";
    let [(step, totals)] = &totals(&Results::read(text).expect("it is right"))[..] else {
        panic!("one listing");
    };
    assert_eq!(step, "snapshot -Ln --stats --exact");
    let service = |whose| (("TCP 10.9.9.1:80").to_owned(), whose);
    assert_eq!(
        *totals,
        Totals::from([
            (service("service"), vec![3, 8]),
            (service("servers"), vec![3, 8])
        ])
    );
}
