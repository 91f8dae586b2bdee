//! Random fleets and random pasts of their devices, for the tests of the feature kernel.
#![allow(dead_code)]

use homeward_models::features::{FeatureSpec, ResidualNode, ResidualTree, Residuals, WrittenResiduals, regimes};
use homeward_models::{Event, EventKind, Fleet, WrittenFleet};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A time that devices begin at.
pub(crate) const START: i64 = 1_764_000_000_000;

/// What happens next to a device.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// A reading so long after the one before (not after it: it comes late or again); a value a measured signal, NaN for missing.
    Reading(i64, Vec<f64>),
    /// An event so long after the newest reading.
    Event(i64, EventKind, Option<&'static str>, Option<&'static str>),
    /// From here on its clock says so much less.
    ClockBack(i64),
}

/// The number of measured signals in [`fleets`].
pub(crate) const SIGNALS: usize = 4;

/// Fleets of four signals with any windows, derived signals and families.
pub(crate) fn fleets() -> impl Strategy<Value = Fleet> {
    let windows = prop::sample::subsequence(vec!["6ms", "1s", "7s", "10s", "60s", "10m", "24h"], 1..4);
    let off = prop::sample::subsequence(
        vec!["last", "delta", "ewm", "mean", "std", "min", "max", "slope", "gap", "missing", "age", "usage", "count", "since", "attribute"],
        0..5,
    );
    let derived = prop::sample::subsequence(derived(), 0..10);
    (windows, prop::sample::select(vec!["1s", "20s", "5m"]), off, derived, any::<bool>(), any::<bool>()).prop_map(
        |(windows, commissioning, off, derived, ranged, silent)| {
            let off: serde_json::Map<_, _> = off.into_iter().map(|f| (f.to_string(), json!(false))).collect();
            let derived: serde_json::Map<_, _> = derived.into_iter().map(|(name, formula)| (name.to_string(), formula)).collect();
            let mut a = json!({"at": "/a", "component": "left"});
            if ranged {
                a["range"] = json!([-0.5, 1e9]);
            }
            let signals = json!({"a": a, "b": {"at": "/b", "component": "left"}, "c": {"at": "/c/0", "component": "right"},
                                 "d": {"at": "/c/1", "features": !silent}});
            let fleet = json!({"name": "t", "windows": windows, "commissioning": commissioning, "features": off, "signals": signals,
                               "derived": derived, "events": ["bump", "maintenance"], "attributes": {"cells": {"at": "/cells"}}});
            let written: WrittenFleet = serde_json::from_value(fleet).unwrap();
            Fleet::check(&written).unwrap()
        },
    )
}

fn derived() -> Vec<(&'static str, Value)> {
    vec![
        ("spread", json!({"spread": ["a", "b", "c"]})),
        ("middle", json!({"mean": ["a", "c"]})),
        ("least", json!({"min": ["a", "b"]})),
        ("most", json!({"max": ["a", "b"], "features": false})),
        ("sum", json!({"sum": ["a", "d"]})),
        ("product", json!({"product": ["b", "c"]})),
        ("ratio", json!({"ratio": ["a", "b"]})),
        ("apart", json!({"deviation": ["c", "a", "b", "d"]})),
        ("rest", json!({"residual": "a", "given": ["b", "c"]})),
        ("rest_of_d", json!({"residual": "d", "given": ["a"], "component": "right"})),
    ]
}

/// The features of `fleet`, its residual channels fitted with some trees.
pub(crate) fn fitted(fleet: &Fleet) -> FeatureSpec {
    let node = |feature: usize, given: usize, threshold, left, right| ResidualNode {
        feature: feature.min(given - 1) as u32,
        threshold,
        missing_left: threshold > 0.0,
        left,
        right,
    };
    let tree = |(name, _, given): (&str, usize, &[usize])| ResidualTree {
        channel: name.into(),
        nodes: vec![node(0, given.len(), 0.25, 1, -3), node(1, given.len(), -0.5, -1, -2)],
        leaves: vec![0.5, -0.125, 3.0],
    };
    let written = WrittenResiduals(regimes(fleet).map(tree).collect());
    FeatureSpec::with_residuals(fleet, Residuals::check(fleet, written).unwrap()).unwrap()
}

/// Up to `most` happenings around `centre ± spread`.
pub(crate) fn past(most: usize) -> impl Strategy<Value = Vec<Happening>> {
    let value = prop_oneof![12 => (-4_000i32..4_000).prop_map(|v| f64::from(v) / 1_000.0), 1 => Just(f64::NAN), 1 => Just(0.0)];
    let after = prop_oneof![20 => 1i64..400, 6 => 1i64..12_000, 2 => -3_000i64..=0, 1 => 60_000i64..2_000_000, 1 => Just(90_000_000)];
    let reading = (after, prop::collection::vec(value, SIGNALS)).prop_map(|(after, values)| Happening::Reading(after, values));
    let event = (
        -500i64..500,
        prop::sample::select(vec![
            (EventKind::Maintenance, None),
            (EventKind::Other("bump".into()), None),
            (EventKind::Other("unheard".into()), Some(r#"{"x":1}"#)),
            (EventKind::Attributes, Some(r#"{"cells":4,"commissioned":1763990000000}"#)),
            (EventKind::Attributes, Some(r#"{"cells":"?"}"#)),
        ]),
        prop::sample::select(vec![None, Some("left"), Some("right"), Some("nobody")]),
    );
    let event = event.prop_map(|(after, (kind, extra), component)| Happening::Event(after, kind, component, extra));
    let back = (1_000i64..100_000).prop_map(Happening::ClockBack);
    prop::collection::vec(prop_oneof![60 => reading, 4 => event, 1 => back], 1..most)
}

/// What a device sends of its past: readings by their own clock, and events.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    /// `ts` and values.
    Reading(i64, Vec<f64>),
    /// An event.
    Event(Event),
}

/// The messages of a past.
pub(crate) fn sent(past: &[Happening]) -> Vec<Sent> {
    let (mut ts, mut back) = (START, 0);
    let mut all = Vec::new();
    for happening in past {
        match happening {
            Happening::Reading(after, values) => {
                all.push(Sent::Reading(ts + after - back, values.clone()));
                ts += (*after).max(0);
            }
            Happening::Event(after, kind, component, extra) => {
                let (component, extra) = (component.map(String::from), extra.map(String::from));
                all.push(Sent::Event(Event { ts: ts + after - back, kind: kind.clone(), component, alert_id: None, extra }));
            }
            Happening::ClockBack(by) => back += by,
        }
    }
    all
}
