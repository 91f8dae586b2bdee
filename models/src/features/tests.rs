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
    state.event(&spec, &maintenance(3_500, Some("motor_1")));
    assert_eq!(feature(&spec, &state, "battery_v.delta"), 4.0, "another component's maintenance");
    state.event(&spec, &maintenance(3_500, Some("battery")));
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

/// Some past of a device: gaps, missing values, late readings, events.
fn lived(spec: &FeatureSpec, readings: usize, seed: u64) -> DeviceState {
    let mut state = DeviceState::new(spec);
    live(spec, &mut state, readings, seed);
    state
}

fn live(spec: &FeatureSpec, state: &mut DeviceState, readings: usize, seed: u64) {
    let mut bits = seed | 1;
    let mut next = move || {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        bits >> 11
    };
    let mut ts = state.newest().unwrap_or(1_764_000_000_000);
    let mut measured = vec![0.0; spec.fleet().measured];
    for _ in 0..readings {
        ts += if next() % 50 == 0 { 90_000 } else { 1 + next() as i64 % 900 };
        for x in &mut measured {
            *x = if next() % 20 == 0 { f64::NAN } else { 20.0 + (next() % 4096) as f64 / 256.0 };
        }
        let late = if next() % 30 == 0 { 5_000 } else { 0 };
        state.reading(spec, ts - late, &measured);
        if next() % 40 == 0 {
            state.event(spec, &maintenance(ts, (next() % 2 == 0).then_some("motor_1")));
        }
    }
}

fn maintenance(ts: i64, component: Option<&str>) -> Event {
    Event { ts, kind: EventKind::Maintenance, component: component.map(String::from), alert_id: None, extra: None }
}

fn bits(spec: &FeatureSpec, state: &DeviceState) -> Vec<u64> {
    let mut row = vec![0.0; spec.len()];
    state.features(spec, &mut row);
    row.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_state_comes_back_from_its_bytes_and_goes_on_bit_for_bit() {
    let spec = spec_of(&["6s", "10s", "60s"], "20s");
    for (readings, seed) in [(0, 1), (1, 2), (7, 3), (150, 4), (400, 5)] {
        let mut state = lived(&spec, readings, seed);
        let bytes = state.to_bytes(&spec);
        let mut back = DeviceState::from_bytes(&spec, &bytes).unwrap();
        assert_eq!(back.to_bytes(&spec), bytes);
        assert_eq!(bits(&spec, &back), bits(&spec, &state));
        live(&spec, &mut state, 200, 99);
        live(&spec, &mut back, 200, 99);
        assert_eq!(bits(&spec, &back), bits(&spec, &state));
        assert_eq!((back.chain(), back.counts()), (state.chain(), state.counts()));
        assert_eq!(back.to_bytes(&spec), state.to_bytes(&spec));
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_name() {
    let spec = spec_of(&["6s", "60s"], "20s");
    let bytes = lived(&spec, 100, 7).to_bytes(&spec);
    let read = |bytes: &[u8]| DeviceState::from_bytes(&spec, bytes).err();
    let other = spec_of(&["6s", "30s"], "20s");
    let refused = DeviceState::from_bytes(&other, &bytes).unwrap_err();
    assert_eq!(refused, BadState::Fingerprint { found: spec.print(), expected: other.print() });
    assert!(refused.to_string().contains(&spec.fingerprint()), "{refused}");
    let mut newer = bytes.clone();
    newer[4] += 1;
    assert_eq!(read(&newer), Some(BadState::Version { found: STATE_VERSION + 1 }));
    assert_eq!(read(b"{}"), Some(BadState::NotAState));
    for at in [6, 20, bytes.len() / 2, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert_eq!(read(&flipped), Some(BadState::Damaged), "byte {at}");
    }
    assert_eq!(read(&bytes[..bytes.len() - 1]), Some(BadState::Damaged));
    assert_eq!(read(&bytes), None);
}

/// The sample fleet of `homeward.toml`.
fn sample() -> FeatureSpec {
    #[derive(serde::Deserialize)]
    struct Config {
        fleet: WrittenFleet,
    }
    let config: Config = toml::from_str(include_str!("../../../homeward.toml")).unwrap();
    FeatureSpec::new(&Fleet::check(&config.fleet).unwrap())
}

#[test]
fn a_device_of_the_sample_fleet_takes_24_kib_at_most_in_memory_and_in_bytes() {
    let spec = sample();
    let mut state = DeviceState::new(&spec);
    let measured: Vec<f64> = spec.fleet().signals().iter().map(|_| 0.5).collect();
    for i in 0..9_000 {
        state.reading(&spec, 1_764_000_000_000 + 100 * i, &measured);
    }
    let (memory, bytes) = (state.memory(), state.to_bytes(&spec).len());
    assert!(memory <= 24 * 1024 && bytes <= 24 * 1024, "{memory} bytes in memory, {bytes} saved");
}

#[test]
fn the_chain_tells_every_difference_of_what_was_absorbed() {
    let spec = spec_of(&["6s"], "1s");
    let chain = |ts: i64, v: f64, event: Option<&Event>| {
        let mut state = DeviceState::new(&spec);
        read(&spec, &mut state, ts, v);
        event.iter().for_each(|e| state.event(&spec, e));
        state.chain()
    };
    let chains = [
        chain(1_000, 1.0, None),
        chain(1_001, 1.0, None),
        chain(1_000, 1.0f64.next_up(), None),
        chain(1_000, 1.0, Some(&maintenance(1_500, None))),
        chain(1_000, 1.0, Some(&maintenance(1_500, Some("motor_1")))),
    ];
    let distinct: std::collections::BTreeSet<_> = chains.iter().collect();
    assert_eq!(distinct.len(), chains.len());
    let mut state = DeviceState::new(&spec);
    assert_eq!(state.chain(), 0);
    read(&spec, &mut state, 1_000, 1.0);
    read(&spec, &mut state, 999, 7.0);
    assert_eq!(state.chain(), chains[0], "a refused reading is not absorbed");
    assert_eq!(chain(1_000, f64::NAN, None), chain(1_000, -f64::NAN, None));
}

#[test]
fn columns_have_unique_names_and_the_components_of_their_signals() {
    let spec = spec_of(&["6s", "60s"], "1s");
    let names: std::collections::BTreeSet<_> = (0..spec.len()).map(|c| spec.name(c)).collect();
    assert_eq!((names.len(), spec.len()), (spec.len(), 4 * (3 + 2 * 5) + 2 + 3 * 2));
    assert_eq!(spec.component(column(&spec, "motor_1_temp.slope.6s")), Some(1));
    assert_eq!(spec.component(column(&spec, "temp_spread.last")), None);
    assert!(!names.contains("lat.last"));
}
