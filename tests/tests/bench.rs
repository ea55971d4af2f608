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
