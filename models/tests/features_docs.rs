//! `docs/features.md` lists the families, derived signals and refusals that the code has, no more and no fewer.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use homeward_models::features::{FeatureSpec, Refusal, Verdict};
use homeward_models::fleet::Family;
use homeward_models::{Fleet, WrittenFleet};

const DOCS: &str = include_str!("../../docs/features.md");

/// The rows of the table below a heading, as cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = DOCS.split("\n## ").find(|s| s.starts_with(heading)).unwrap_or_else(|| panic!("no section {heading}"));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn words(heading: &str) -> Vec<&'static str> {
    table(heading).into_iter().map(|cells| cells[0].trim_matches('`')).collect()
}

fn fleet() -> Fleet {
    let written: WrittenFleet = serde_json::from_value(serde_json::json!({
        "name": "t", "windows": ["10s"], "signals": {"temp": {"at": "/t", "unit": "C", "component": "motor"}},
        "events": ["bump"], "attributes": {"cells": {"at": "/cells", "unit": "V"}}}))
    .unwrap();
    Fleet::check(&written).unwrap()
}

#[test]
fn the_table_has_every_family_in_the_order_of_the_columns() {
    assert_eq!(words("Families"), Family::ALL.map(Family::word));
}

#[test]
fn the_table_names_the_columns_and_their_units() {
    let spec = FeatureSpec::new(&fleet());
    let pattern = |name: String| {
        let known = [("temp.", "{channel}."), ("motor.", "{component}."), (".bump.", ".{code}."), ("10s", "{W}"), (".cells", ".{name}")];
        known.iter().fold(name, |name, (from, to)| name.replace(from, to))
    };
    let unit = |unit: String| unit.replace("C", "channel's").replace("V", "as declared");
    let found: Vec<_> = (0..spec.len()).map(|c| (format!("`{}`", pattern(spec.name(c))), unit(spec.unit(c)))).collect();
    let written: Vec<_> = table("Families").iter().map(|cells| (cells[1].to_string(), cells[3].to_string())).collect();
    assert_eq!(found, written);
}

#[test]
fn the_table_has_every_derived_signal() {
    let mut of = serde_json::json!({"name": "t", "windows": ["10s"], "signals": {"a": {"at": "/a"}, "b": {"at": "/b"}}});
    for kind in words("Derived signals") {
        of["derived"] = match kind {
            "residual" => serde_json::json!({"x": {"residual": "a", "given": ["b"]}}),
            _ => serde_json::json!({"x": {kind: ["a", "b"]}}),
        };
        Fleet::check(&serde_json::from_value(of.clone()).unwrap()).unwrap();
    }
    of["derived"] = serde_json::json!({"x": {}});
    let error = Fleet::check(&serde_json::from_value(of).unwrap()).unwrap_err().to_string();
    let all: BTreeSet<_> = error.rsplit("exactly one of ").next().unwrap().split(", ").map(String::from).collect();
    assert_eq!(all, words("Derived signals").into_iter().map(String::from).collect());
}

#[test]
fn the_table_has_every_word_of_acceptance() {
    let refusals = [Refusal::Late, Refusal::Duplicate, Refusal::FrozenClock].map(Verdict::Refused);
    let all = refusals.into_iter().chain([Verdict::ClockStep]).filter_map(Verdict::word);
    assert_eq!(words("Acceptance"), all.collect::<Vec<_>>());
}
