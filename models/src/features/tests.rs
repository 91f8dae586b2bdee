//! The kernel against a plain two-pass reference, and its edges.

use proptest::prelude::*;

use super::*;
use crate::fleet::tests::small;
use crate::{Event, EventKind, Fleet, WrittenFleet};

fn spec_of(windows: &[&str], commissioning: &str) -> FeatureSpec {
    let mut w: WrittenFleet = small();
    w.windows = windows.iter().map(|s| (*s).to_string()).collect();
    w.commissioning = commissioning.into();
    w.signals[0].range = Some([-1e9, 1e9]);
    FeatureSpec::new(&Fleet::check(&w).unwrap())
}

fn column(spec: &FeatureSpec, name: &str) -> usize {
    (0..spec.len()).find(|c| spec.name(*c) == name).unwrap_or_else(|| panic!("no column {name}"))
}

fn feature(spec: &FeatureSpec, state: &DeviceState, name: &str) -> f64 {
    let mut row = vec![0.0; spec.len()];
    state.features(spec, &mut row);
    row[column(spec, name)]
}

fn read(spec: &FeatureSpec, state: &mut DeviceState, ts: i64, v: f64) -> Verdict {
    state.reading(spec, ts, &[v, f64::NAN, f64::NAN, f64::NAN])
}

/// mean, std, min, max, slope in two passes over the values whose pane is among the six newest.
fn reference(readings: &[(i64, f64)], window_ms: i64) -> [f64; 5] {
    let pane = |ts: i64| (ts * 6).div_euclid(window_ms);
    let newest = pane(readings.last().unwrap().0);
    let inside: Vec<_> = readings.iter().filter(|(ts, _)| pane(*ts) > newest - 6).collect();
    let n = inside.len() as f64;
    let x0 = inside[0].1;
    let t0 = inside[0].0;
    let t = |ts: i64| (ts - t0) as f64 / 1000.0;
    let mean = inside.iter().map(|(_, x)| x - x0).sum::<f64>() / n;
    let mean_t = inside.iter().map(|(ts, _)| t(*ts)).sum::<f64>() / n;
    let xx: f64 = inside.iter().map(|(_, x)| (x - x0 - mean).powi(2)).sum();
    let tt: f64 = inside.iter().map(|(ts, _)| (t(*ts) - mean_t).powi(2)).sum();
    let tx: f64 = inside.iter().map(|(ts, x)| (t(*ts) - mean_t) * (x - x0 - mean)).sum();
    let min = inside.iter().map(|(_, x)| *x).fold(f64::INFINITY, f64::min);
    let max = inside.iter().map(|(_, x)| *x).fold(f64::NEG_INFINITY, f64::max);
    [x0 + mean, (xx / n).sqrt(), min, max, if tt > 0.0 { tx / tt } else { f64::NAN }]
}

fn close(found: f64, expected: f64, scale: f64) -> bool {
    (found.is_nan() && expected.is_nan()) || (found - expected).abs() <= 1e-9 * expected.abs().max(scale)
}

proptest! {
    #[test]
    fn windows_equal_a_two_pass_reference(
        steps in prop::collection::vec((1i64..5_000, -1.0f64..1.0), 1..300),
        (centre, spread) in prop::sample::select(vec![(0.0, 1.0), (1e6, 1e-3), (-50.0, 20.0)]),
    ) {
        let spec = spec_of(&["6s", "10s", "60s"], "1s");
        let mut state = DeviceState::new(&spec);
        let mut readings = Vec::new();
        let mut ts = 1_764_000_000_000;
        for (step, x) in steps {
            ts += step;
            readings.push((ts, centre + spread * x));
            prop_assert_eq!(read(&spec, &mut state, ts, readings.last().unwrap().1), Verdict::Accepted);
        }
        for (name, ms) in [("6s", 6_000), ("10s", 10_000), ("60s", 60_000)] {
            let expected = reference(&readings, ms);
            // Relative to the value; a std or slope that is nearly nothing, relative to spread (over window).
            let scales = [0.0, spread, 0.0, 0.0, spread / (ms as f64 / 1000.0)];
            for ((word, expected), scale) in ["mean", "std", "min", "max", "slope"].iter().zip(expected).zip(scales) {
                let found = feature(&spec, &state, &format!("battery_v.{word}.{name}"));
                prop_assert!(close(found, expected, scale), "{word}.{name}: found {found:e}, expected {expected:e}");
            }
        }
    }
}

#[test]
fn one_value_has_no_slope_and_no_spread() {
    let spec = spec_of(&["6s"], "1s");
    let mut state = DeviceState::new(&spec);
    assert!(feature(&spec, &state, "battery_v.last").is_nan());
    read(&spec, &mut state, 1_000, 7.0);
    assert_eq!(feature(&spec, &state, "battery_v.mean.6s"), 7.0);
    assert_eq!(feature(&spec, &state, "battery_v.std.6s"), 0.0);
    assert!(feature(&spec, &state, "battery_v.slope.6s").is_nan());
    assert!(feature(&spec, &state, "motor_1_temp.mean.6s").is_nan());
}

#[test]
fn a_gap_longer_than_the_window_forgets_it() {
    let spec = spec_of(&["6s", "60s"], "1s");
    let mut state = DeviceState::new(&spec);
    read(&spec, &mut state, 0, 1.0);
    state.reading(&spec, 30_000, &[f64::NAN, 5.0, f64::NAN, f64::NAN]);
    assert_eq!(feature(&spec, &state, "battery_v.last"), 1.0, "30 s old, within the longest window");
    assert!(feature(&spec, &state, "battery_v.mean.6s").is_nan());
    assert_eq!(feature(&spec, &state, "battery_v.mean.60s"), 1.0);
    state.reading(&spec, 90_000, &[f64::NAN, 5.0, f64::NAN, f64::NAN]);
    assert!(feature(&spec, &state, "battery_v.last").is_nan(), "90 s old, forgotten");
    assert_eq!(feature(&spec, &state, "motor_1_temp.last"), 5.0);
}

#[test]
fn delta_is_known_after_commissioning_and_starts_anew_with_maintenance() {
    let spec = spec_of(&["6s"], "2s");
    let mut state = DeviceState::new(&spec);
    for (ts, v) in [(1_000, 10.0), (2_000, 12.0)] {
        read(&spec, &mut state, ts, v);
        assert!(feature(&spec, &state, "battery_v.delta").is_nan(), "not commissioned yet");
    }
    read(&spec, &mut state, 3_000, 15.0);
    assert_eq!(feature(&spec, &state, "battery_v.delta"), 4.0);
    let maintenance =
        |component: &str| Event { ts: 3_500, kind: EventKind::Maintenance, component: Some(component.into()), alert_id: None, extra: None };
    state.event(&spec, &maintenance("motor_1"));
    assert_eq!(feature(&spec, &state, "battery_v.delta"), 4.0, "another component's maintenance");
    state.event(&spec, &maintenance("battery"));
    for (ts, v) in [(4_000, 20.0), (5_000, 20.0), (6_000, 21.0)] {
        read(&spec, &mut state, ts, v);
    }
    assert_eq!(feature(&spec, &state, "battery_v.delta"), 1.0);
}

#[test]
fn refused_readings_change_nothing_and_a_clock_step_restarts() {
    let spec = spec_of(&["6s"], "1s");
    let mut state = DeviceState::new(&spec);
    read(&spec, &mut state, 100_000, 1.0);
    let before = state.clone();
    assert_eq!(read(&spec, &mut state, 99_000, 50.0), Verdict::Refused(Refusal::Late));
    assert_eq!(feature(&spec, &before, "battery_v.max.6s"), feature(&spec, &state, "battery_v.max.6s"));
    (1..9).for_each(|i| _ = read(&spec, &mut state, 99_000 + i, 50.0));
    assert_eq!(read(&spec, &mut state, 99_009, 50.0), Verdict::ClockStep);
    assert_eq!(feature(&spec, &state, "battery_v.min.6s"), 50.0, "the old clock's values are gone");
}

#[test]
fn values_out_of_range_count_as_missing() {
    let fleet = Fleet::check(&small()).unwrap();
    let spec = FeatureSpec::new(&fleet);
    let mut state = DeviceState::new(&spec);
    read(&spec, &mut state, 1_000, 61.0);
    assert!(feature(&spec, &state, "battery_v.last").is_nan());
    read(&spec, &mut state, 2_000, 60.0);
    assert_eq!(feature(&spec, &state, "battery_v.last"), 60.0);
}

#[test]
fn columns_have_unique_names_and_the_components_of_their_signals() {
    let spec = spec_of(&["6s", "60s"], "1s");
    let names: std::collections::BTreeSet<_> = (0..spec.len()).map(|c| spec.name(c)).collect();
    assert_eq!((names.len(), spec.len()), (spec.len(), 4 * 12));
    assert_eq!(spec.component(column(&spec, "motor_1_temp.slope.6s")), Some(1));
    assert_eq!(spec.component(column(&spec, "temp_spread.last")), None);
    assert!(!names.contains("lat.last"));
}
