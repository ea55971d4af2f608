use super::*;
use crate::migrate::{clients, rules};

const RULES: &str = "\
-A -t 10.9.9.1:80 -s sh -b sh-port,sh-fallback
-a -t 10.9.9.1:80 -r 10.8.0.1:80 -g -w 3
-a -t 10.9.9.1:80 -r 10.8.0.2:80 -g -w 0
-a -t 10.9.9.1:80 -r 10.8.0.3:80 -m -w 1
-A -u [2001:db8::1]:53 -s mh -b mh-fallback -p 60
-a -u [2001:db8::1]:53 -r [fd00::1]:53 -g -w 1
-a -u [2001:db8::1]:53 -r [fd00::2]:53 -g -w 70
-a -u [2001:db8::1]:53 -r 10.8.0.3:53 -i -w 9
-A -t 10.9.9.2:80 -s dh
-a -t 10.9.9.2:80 -r 10.8.0.1:80 -g -w 1
-a -t 10.9.9.2:80 -r 10.8.0.2:80 -g -w 0
-A -t 10.9.9.3:80 -s wrr
-a -t 10.9.9.3:80 -r 10.8.0.1:80 -g -w 2
-A -f 7 -s fo
-a -f 7 -r 10.8.0.1 -g -w 2
-a -f 7 -r 10.8.0.2 -g -w 2
-A -f 8 -s dh
-A -t 10.9.9.4:80 -s sh
";

fn clients(text: &str) -> Vec<Client> {
    clients::read("clients", text).unwrap()
}

fn compared(kernel: &str, lvx: &str, of: &[Client]) -> Report {
    let (kernel, lvx) = (rules::read("a", kernel), rules::read("b", lvx));
    let (kernel, lvx) = (kernel.unwrap(), lvx.unwrap());
    let (trial, other) = (Trial::new(&kernel).unwrap(), Trial::new(&lvx).unwrap());
    compare(&kernel, &trial, other.plane(), of)
}

#[test]
fn the_engine_and_the_kernels_tables_agree() {
    let clients = clients("1.2.3.4\n0.0.0.0/0:1000 5000\n[::/0]:9 5000\n");
    let report = compared(RULES, RULES, &clients);
    assert!(report.is_equal(), "{report:?}");
    // Five services are IPv4 and not by state, one of them by an unknown destination;
    // the port of one client is not known.
    assert_eq!(report.compared, 5001 * 4 - 1 + 5000);
    assert_eq!(report.not_compared, 5001 + 1);
    let by: Vec<&str> = report.services.iter().map(|it| it.decided_by).collect();
    assert_eq!(
        by,
        [
            "client and port",
            "client",
            "destination",
            "state",
            "weights",
            "destination",
            "client"
        ]
    );
    assert!(report.services[1].persistent && !report.services[0].persistent);
    // Nobody is given to one server alone.
    for service in &report.services[..2] {
        let mut chosen: Vec<String> = service
            .clients
            .iter()
            .map(|client| client.kernel.to_string())
            .collect();
        chosen.sort();
        chosen.dedup();
        assert!(chosen.len() >= 2, "{chosen:?}");
    }
}

#[test]
fn what_differs_is_told() {
    let clients = clients("1.2.3.0/24:1000");
    let report = |from: &str, to: &str| {
        assert!(RULES.contains(from));
        compared(RULES, &RULES.replacen(from, to, 1), &clients)
    };
    let told = |report: &Report| {
        let services = report.services.iter();
        let all = services.flat_map(|it| it.differences.iter().map(|it| it.what.clone()));
        all.collect::<Vec<_>>()
    };
    // Another weight moves some clients; that of a server behind it in the list shows.
    let one = report("10.8.0.1:80 -g -w 3", "10.8.0.1:80 -g -w 2");
    assert!(one.different_clients > 0 && one.different_clients < 256);
    assert_eq!(told(&one), ["server 3 of the list, the newest first"]);
    assert_eq!(one.services[0].differences[0].kernel, "10.8.0.1:80 -g -w 3");
    // Another order too.
    let two = report(
        "-a -t 10.9.9.2:80 -r 10.8.0.1:80 -g -w 1\n-a -t 10.9.9.2:80 -r 10.8.0.2:80 -g -w 0\n",
        "-a -t 10.9.9.2:80 -r 10.8.0.2:80 -g -w 0\n-a -t 10.9.9.2:80 -r 10.8.0.1:80 -g -w 1\n",
    );
    assert_eq!(two.different_clients, 256, "dh knows one destination");
    let three = report("-s sh -b sh-port,sh-fallback", "-s sh -b sh-port");
    assert_eq!(told(&three), ["scheduler"]);
    let four = report("-s wrr", "-s rr");
    assert_eq!(
        (told(&four), four.different_clients),
        (vec!["scheduler".into()], 0)
    );
    assert!(!four.is_equal());
    let five = report("-A -t 10.9.9.4:80 -s sh\n", "-A -t 10.9.9.5:80 -s sh\n");
    assert_eq!(told(&five), ["service"]);
    assert_eq!(five.only_in_lvx, ["-t 10.9.9.5:80"]);
    assert_eq!(five.different_clients, 256);
    let six = report("-p 60", "-p 61");
    assert_eq!(told(&six), ["persistence time-out"]);
    let seven = report(" -p 60", "");
    assert_eq!(told(&seven), ["persistent"]);
    // No kernel's scheduler by the client's address, but lvx's by state.
    let eight = report("-s sh -b sh-port,sh-fallback", "-s rr");
    assert_eq!(told(&eight), ["scheduler"]);
    assert!(eight.services[0].clients.is_empty());
}
