//! A short run of `cargo xtask chaos`.

use std::time::Duration;

use lvx_tests::chaos::{Plan, run};

#[test]
fn killed_at_random_moments_nothing_is_lost() {
    let plan = Plan {
        seed: rand::random(),
        kills: 16,
        length: Duration::from_secs(120),
        rate: 100,
    };
    let report = run(&plan, &mut |_| {}).unwrap();
    println!("seed {}\n{}", plan.seed, report.text());
    assert!(
        report.found.is_empty(),
        "seed {}: {}",
        plan.seed,
        report.text()
    );
    assert!(report.all_kills() >= 8, "{}", report.text());
    assert!(report.requests > 500, "{}", report.text());
}
