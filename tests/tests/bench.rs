//! `lvx-lab bench` measures what it says: a few paths, few rounds, and bounds that a
//! busy machine keeps.

use std::process::Command;

use serde_json::Value;

/// A figure of the row of a path, at a number of flows.
fn figure(report: &Value, path: &str, flows: u64, program: &str) -> f64 {
    let rows = report["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["name"] == path);
    let points = row.and_then(|row| row["points"].as_array());
    let point = points.and_then(|points| points.iter().find(|it| it["flows"] == flows));
    let least = point.and_then(|point| point[program]["least"].as_f64());
    least.unwrap_or_else(|| panic!("no {program} of {path} at {flows} flows: {report}"))
}

#[test]
fn a_few_paths_cost_what_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let (json, plot) = (
        directory.path().join("bench.json"),
        directory.path().join("bench.svg"),
    );
    let output = Command::new(env!("CARGO_BIN_EXE_lvx-lab"))
        .args(["bench", "--quick", "--markdown", "--flows", "1,16384"])
        .args(["--only", "DR", "--only", "not for", "--only", "full"])
        .arg("--json")
        .arg(&json)
        .arg("--plot")
        .arg(&plot)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("| --- | ---: | ---: |"), "{out}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for flows in [1, 16_384] {
        let of = |path, program| figure(&report, path, flows, program);
        let (floor, hash) = (of("DR", "floor"), of("DR", "hash_floor"));
        assert!(
            0.0 < floor && floor < hash,
            "{flows}: F1 {floor}, F2 {hash}"
        );
        let (direct, other) = (of("DR", "lvx"), of("not for a service", "lvx"));
        assert!(
            other < direct && direct < 20.0 * floor,
            "{flows}: not for a service {other}, DR {direct}, F1 {floor}"
        );
    }
    assert!(figure(&report, "new, table full", 16_384, "lvx") > 0.0);
}

#[test]
fn what_is_not_there_is_an_error() {
    for (arguments, told) in [
        (&["--only", "nothing"][..], "no path is called so"),
        (&["guest", "--only", "nothing"], "no path is called so"),
        (&["--flows", "3"], "a power of two"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lvx-lab"))
            .arg("bench")
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains(told), "{err}");
    }
}

/// Runs a benchmark of `lvx-lab`, and reads the figures that it writes.
fn figures(what: &str) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("bench.json");
    let output = Command::new(env!("CARGO_BIN_EXE_lvx-lab"))
        .args(["bench", what, "--quick", "--markdown", "--json"])
        .arg(&json)
        .output()
        .expect("it can be run");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("| --- | ---: | ---: |"), "{out}");
    let written = std::fs::read(&json).expect("a file");
    serde_json::from_slice(&written).expect("JSON")
}

/// A list of figures of the row of that name.
fn list<'a>(rows: &'a Value, name: &str, field: &str) -> impl Iterator<Item = f64> + use<'a> {
    let row = rows.as_array().expect("rows").iter();
    let mut row = row.filter(|row| row["name"] == name);
    let row = row.next().unwrap_or_else(|| panic!("no {name}: {rows}"));
    let figures = row[field].as_array().expect("a list");
    figures
        .iter()
        .map(|figure| figure.as_f64().expect("a figure"))
}

#[test]
fn packets_and_connections_go_from_end_to_end() {
    let report = figures("forwarding");
    let flood = &report["flood"];
    for row in flood.as_array().unwrap() {
        let arrived = row["arrived"].as_f64().unwrap();
        assert!((0.99..=1.0).contains(&arrived), "{row}");
    }
    let least = |name| list(flood, name, "nanos").fold(f64::INFINITY, f64::min);
    let (alone, redirect) = (least("generator alone"), least("bare XDP redirect"));
    let (direct, kernel) = (least("lvx DR"), least("nftables DNAT"));
    assert!(
        alone < redirect && redirect < direct && direct < kernel,
        "alone {alone}, redirect {redirect}, DR {direct}, nftables {kernel}"
    );
    let sockets = &report["sockets"];
    for row in sockets.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        assert!(
            list(sockets, name, "connections").all(|rate| rate > 100.0),
            "{row}"
        );
        let (p50, p99) = (list(sockets, name, "p50"), list(sockets, name, "p99"));
        assert!(
            p50.zip(p99).all(|(p50, p99)| 0.0 < p50 && p50 <= p99),
            "{row}"
        );
    }
    assert_eq!(sockets.as_array().unwrap().len(), 5);
}

#[test]
fn a_million_connections_fit_in_what_they_may_take() {
    let report = figures("scale");
    let fill = &report["fills"][0];
    let of = |field: &str| fill[field].as_f64().unwrap_or_else(|| panic!("{fill}"));
    assert_eq!(of("connections"), f64::from(1 << 20));
    // Cells of 64 bytes, 2.25 for each connection, and what the kernel needs besides.
    assert!((144.0..150.0).contains(&of("accounted")), "{fill}");
    let seconds = of("seconds");
    assert!(0.0 < seconds && seconds < 30.0, "{fill}");
    assert!(0.0 < of("sweep") && of("sweep") < 0.5, "{fill}");
    assert!(
        report["daemon"]["resident"].as_f64() > Some(0.0),
        "{report}"
    );
    let one = list(&report["one_cpu"], "lvx NAT", "nanos");
    let all = list(&report["all_cpus"], "lvx NAT", "nanos");
    assert_eq!(one.count(), all.count());
}
