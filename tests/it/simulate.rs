//! `homeward simulate` and `homeward import`: the same seed gives the same bytes, the same file the same objects.

use homeward_store::keys::Table;

use crate::harness::archive::Archive;
use crate::harness::{Site, beside_others, files, workspace};

fn site() -> Site {
    Site::new(&std::fs::read_to_string(workspace("homeward.toml")).unwrap())
}

/// A small fleet's hour, as bytes.
fn simulate(site: &Site, seed: &str, out: &str) -> Vec<u8> {
    site.ok(&["simulate", "--out", out, "--seed", seed, "--drones", "5", "--hours", "1"]);
    std::fs::read(site.path(out)).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let _turn = beside_others();
    let site = site();
    let first = simulate(&site, "5", "a");
    assert!(first.iter().filter(|b| **b == b'\n').count() > 1_000);
    assert!(first == simulate(&site, "5", "b"), "seed 5 gave two files");
    assert!(first != simulate(&site, "6", "c"), "seed 6 gave the file of seed 5");
}

#[test]
fn an_import_archives_every_line_and_a_second_one_nothing_more() {
    let _turn = beside_others();
    let site = site();
    let lines = String::from_utf8(simulate(&site, "5", "a.jsonl")).unwrap();
    let distinct = lines.lines().collect::<std::collections::BTreeSet<_>>().len();
    let events = lines.lines().filter(|l| l.split_once("\",").unwrap().0.ends_with("/events")).count();
    let imported = site.json(&["import", "a.jsonl", "--format", "jsonl"]);
    let mut archive = Archive::of(&site);
    let archived = [Table::Telemetry, Table::Events].map(|table| archive.count(table));
    assert_eq!(archived[1], events);
    // The simulator's late clocks and repeated messages are in the file too: what is not archived was said to be a repeat or quarantined.
    let other = imported["quarantined"].as_u64().unwrap() as usize;
    assert_eq!(archived[0] + archived[1] + other, distinct, "{imported}");
    assert_eq!(archive.count(Table::Quarantine), other);
    assert_eq!(imported["duplicates"], lines.lines().count() - distinct, "{imported}");

    let before = files(&site.path("store"));
    site.ok(&["import", "a.jsonl", "--format", "jsonl"]);
    let after = files(&site.path("store"));
    assert_eq!(before.iter().map(|f| &f.0).collect::<Vec<_>>(), after.iter().map(|f| &f.0).collect::<Vec<_>>());
    assert!(before == after, "an object changed");
}
