//! The demo: one command, nothing installed, drones called in time.

use std::time::{Duration, Instant};

use crate::harness::{Site, alone};

#[test]
fn the_demo_ends_by_itself_with_drones_called_in_time() {
    let _turn = alone();
    // No configuration of its own: the demo brings its fleet.
    let site = Site::new("").without("HOMEWARD_STORE_URL");
    std::fs::remove_file(site.path("homeward.toml")).unwrap();
    let started = Instant::now();
    let done = site.run(&["demo", "--once", "--dir", "kept"]);
    let took = started.elapsed();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(took < Duration::from_secs(180), "took {took:?}");
    assert!(done.stderr.contains("is called home"), "{}", done.stderr);
    for word in ["never", "best fixed age"] {
        assert!(done.stdout.contains(word), "the table does not name {word}: {}", done.stdout);
    }
    for kept in ["store/telemetry", "store/models", "present-truth.jsonl"] {
        assert!(site.path("kept").join(kept).exists(), "{kept} was not kept");
    }
}
