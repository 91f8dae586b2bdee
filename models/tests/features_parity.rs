//! Parity, bit for bit: the features that a device's messages give live are those that its archived readings give in batch, however the
//! messages were cut, on however many threads, with a save and restore at any point.
#![allow(clippy::unwrap_used)]

mod random;

use homeward_models::Event;
use homeward_models::features::{DeviceState, FeatureSpec, Verdict};
use homeward_models::wire::Decoder;
use proptest::prelude::*;
use random::{Sent, fitted, fleets, past, sent};

/// A row at an accepted reading, to the last bit, and what the state had absorbed by then.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    ts: i64,
    chain: u64,
    bits: Vec<u64>,
}

/// What an archive keeps: accepted readings in the order of acceptance, events at the number of readings accepted before them.
#[derive(Debug, Default)]
struct Archived {
    readings: Vec<(i64, Vec<f64>)>,
    events: Vec<(u64, Event)>,
}

fn row(spec: &FeatureSpec, state: &DeviceState, ts: i64) -> Row {
    let mut row = vec![0.0; spec.len()];
    state.features(spec, &mut row);
    Row { ts, chain: state.chain(), bits: row.iter().map(|x| x.to_bits()).collect() }
}

fn json(ts: i64, values: &[f64]) -> String {
    let number = |x: &f64| if x.is_nan() { "null".to_string() } else { format!("{x}") };
    let [a, b, c, d] = values else { panic!("four signals") };
    format!(r#"{{"ts":{ts},"a":{},"b":{},"c":[{},{}]}}"#, number(a), number(b), number(c), number(d))
}

/// The live path: payloads of `batch` readings, decoded, absorbed; saved and restored after every `save_every`-th reading.
fn live(spec: &FeatureSpec, messages: &[Sent], batch: usize, save_every: usize) -> (Vec<Row>, Archived) {
    let mut decoder = Decoder::new(spec.fleet());
    let mut state = DeviceState::new(spec);
    let (mut rows, mut archived, mut waiting, mut count) = (Vec::new(), Archived::default(), Vec::new(), 0);
    let mut deliver = |state: &mut DeviceState, archived: &mut Archived, waiting: &mut Vec<String>| {
        let payload = if waiting.len() == 1 { waiting[0].clone() } else { format!("[{}]", waiting.join(",")) };
        if waiting.is_empty() {
            return;
        }
        waiting.clear();
        decoder.telemetry("d", payload.as_bytes(), i64::MAX, |_, _, outcome| {
            let reading = outcome.unwrap();
            count += 1;
            if count % save_every == 0 {
                *state = DeviceState::from_bytes(spec, &state.to_bytes(spec)).unwrap();
            }
            if !matches!(state.reading(spec, reading.ts, &reading.values), Verdict::Refused(_)) {
                archived.readings.push((reading.ts, reading.values.clone()));
                rows.push(row(spec, state, reading.ts));
            }
        });
    };
    for message in messages {
        match message {
            Sent::Reading(ts, values) => waiting.push(json(*ts, values)),
            Sent::Event(event) => {
                deliver(&mut state, &mut archived, &mut waiting);
                state.event(spec, event);
                archived.events.push((state.accepted(), event.clone()));
            }
        }
        if waiting.len() >= batch {
            deliver(&mut state, &mut archived, &mut waiting);
        }
    }
    deliver(&mut state, &mut archived, &mut waiting);
    (rows, archived)
}

/// The batch path: values from columns, no JSON.
fn batch(spec: &FeatureSpec, archived: &Archived) -> Vec<Row> {
    let mut state = DeviceState::new(spec);
    let mut events = archived.events.iter().peekable();
    let mut rows = Vec::new();
    for (ts, values) in &archived.readings {
        while let Some((_, event)) = events.next_if(|(n, _)| *n <= state.accepted()) {
            state.event(spec, event);
        }
        state.replay(spec, *ts, values);
        rows.push(row(spec, &state, *ts));
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn live_features_are_those_of_the_archive(
        fleet in fleets(),
        pasts in prop::collection::vec(past(160), 1..4),
        sizes in (1usize..9, 1usize..40),
        threads in 1usize..5,
    ) {
        let spec = fitted(&fleet);
        let messages: Vec<Vec<Sent>> = pasts.iter().map(|p| sent(p)).collect();
        let devices: Vec<(Vec<Row>, Archived)> = messages.iter().map(|m| live(&spec, m, sizes.0, sizes.1)).collect();
        for (messages, (rows, _)) in messages.iter().zip(&devices) {
            let (again, _) = live(&spec, messages, 1, usize::MAX);
            prop_assert_eq!(rows, &again, "however cut, saved or not");
        }
        let share = devices.len().div_ceil(threads);
        let work = |some: &[(Vec<Row>, Archived)]| some.iter().map(|(_, archived)| batch(&spec, archived)).collect::<Vec<_>>();
        let in_batch: Vec<Vec<Row>> = std::thread::scope(|scope| {
            let handles: Vec<_> = devices.chunks(share).map(|some| scope.spawn(|| work(some))).collect();
            handles.into_iter().flat_map(|h| h.join().unwrap()).collect()
        });
        for ((rows, _), batch) in devices.iter().zip(&in_batch) {
            prop_assert_eq!(rows, batch);
        }
    }
}

#[test]
fn the_comparison_can_fail() {
    let fleet = {
        let written = serde_json::json!({"name": "t", "windows": ["10s"], "signals": {"a": {"at": "/a"}, "b": {"at": "/b"},
            "c": {"at": "/c/0"}, "d": {"at": "/c/1"}}});
        homeward_models::Fleet::check(&serde_json::from_value(written).unwrap()).unwrap()
    };
    let spec = FeatureSpec::new(&fleet);
    let messages: Vec<Sent> = (0..50).map(|i| Sent::Reading(random::START + i * 100, vec![i as f64, 1.0, 2.0, 3.0])).collect();
    let (rows, mut archived) = live(&spec, &messages, 3, 7);
    assert_eq!(rows, batch(&spec, &archived));
    archived.readings[20].1[0] = archived.readings[20].1[0].next_up();
    let other = batch(&spec, &archived);
    let first = rows.iter().zip(&other).position(|(a, b)| a.chain != b.chain);
    assert_eq!(first, Some(20), "the chain names the reading that differs");
    assert_ne!(rows[20].bits, other[20].bits);
}
