//! Audits of histories as predict would write them, tidy and disordered, and with something changed in them.

use proptest::prelude::*;

use super::*;
use crate::artifact::tests::model;
use crate::features::{chain_event, chain_reading};
use crate::{EventKind, Fleet};

/// What a device sends: readings `(ts, value)` and events.
#[derive(Debug, Clone)]
enum Sent {
    Reading(i64, f64),
    Maintenance(i64),
    /// Predict restarts with its state.
    Restart,
    /// The device is retired: its state ends.
    Retired(i64),
}

/// A history: what the archive and the scores hold.
#[derive(Debug, Clone, Default)]
struct Told {
    rows: Vec<Row>,
    readings: Vec<Archived>,
    values: Vec<[f64; 4]>,
    events: HashMap<u64, Event>,
}

fn judges() -> (BTreeMap<String, Model>, FeatureSpec) {
    let model = model();
    let plain = FeatureSpec::new(model.spec.fleet());
    (BTreeMap::from([("v".to_owned(), model)]), plain)
}

/// What predict would write of what is sent, a reading in `every` archived.
fn tell(sent: &[Sent], every: u64) -> Told {
    let (models, spec) = judges();
    let model = &models["v"];
    let mut told = Told::default();
    let mut state: Option<DeviceState> = None;
    for (arrival, sent) in (0i64..).zip(sent) {
        let row = |kind, ts, content, reason: &str, state: &DeviceState| Row {
            kind,
            ts,
            received_at: arrival,
            n: state.accepted(),
            chain: state.chain(),
            content,
            risks: vec![],
            features: vec![],
            model: None,
            reason: reason.to_owned(),
        };
        let (ts, content) = match sent {
            Sent::Reading(ts, x) => {
                let values = [*x, 2.0 * x, f64::NAN, 1.0];
                told.values.push(values);
                let content = chain_reading(0, *ts, &values);
                told.readings.push(Archived { ts: *ts, received_at: arrival, content, at: told.values.len() - 1 });
                (*ts, content)
            }
            Sent::Maintenance(ts) | Sent::Retired(ts) => {
                let kind = if matches!(sent, Sent::Retired(_)) { EventKind::Retired } else { EventKind::Maintenance };
                let event = Event { ts: *ts, kind, component: None, alert_id: None, extra: None };
                let content = chain_event(0, &event);
                told.events.insert(content, event);
                (*ts, content)
            }
            Sent::Restart => (0, 0),
        };
        if state.is_none() && !matches!(sent, Sent::Restart | Sent::Retired(_)) {
            let fresh = DeviceState::new(&spec);
            told.rows.push(row(RowKind::Start, ts, content, "new", &fresh));
            state = Some(fresh);
        }
        let Some(device) = &mut state else { continue };
        match sent {
            Sent::Reading(..) => {
                let verdict = device.reading(&spec, ts, told.values.last().unwrap());
                if let Verdict::Refused(why) = verdict {
                    told.rows.push(row(RowKind::Refused, ts, content, why.word(), device));
                    continue;
                }
                if let Some(step) = verdict.word() {
                    told.rows.push(row(RowKind::Start, ts, content, step, device));
                }
                if device.accepted().is_multiple_of(every) {
                    let (mut features, mut risks) = (vec![0.0; spec.len()], vec![0.0]);
                    device.features(&spec, &mut features);
                    model.score(&features, &mut risks);
                    let scored = row(RowKind::Scored, ts, content, "sample", device);
                    // Every other row keeps its features.
                    features.truncate(if device.accepted().is_multiple_of(2 * every) { spec.len() } else { 0 });
                    told.rows.push(Row { risks, features, model: Some("v".into()), ..scored });
                }
            }
            Sent::Restart => told.rows.push(row(RowKind::Start, device.newest().unwrap_or(0), 0, "restored", device)),
            Sent::Maintenance(_) | Sent::Retired(_) => {
                let event = told.events[&content].clone();
                device.event(&spec, &event);
                told.rows.push(row(RowKind::Event, ts, content, event.kind.code(), device));
                if event.kind == EventKind::Retired {
                    state = None;
                }
            }
        }
    }
    told
}

fn audit_told(told: &Told) -> Findings {
    let (models, plain) = judges();
    let values = |at: usize, out: &mut [f64]| out.copy_from_slice(&told.values[at]);
    let history = History { rows: &told.rows, readings: &told.readings, events: &told.events, values: &values };
    audit(&history, &Judges { models: &models, plain: &plain })
}

fn rising(from: i64, n: i64) -> Vec<Sent> {
    (from..from + n).map(|s| Sent::Reading(s * 1_000, (s % 7) as f64)).collect()
}

/// Late, duplicate, a clock step, maintenance, a restart, retirement.
fn eventful() -> Vec<Sent> {
    let mut sent = rising(100, 50);
    sent.insert(20, Sent::Reading(105_000, 3.0));
    sent.insert(21, Sent::Reading(119_000, 3.0));
    sent.insert(30, Sent::Maintenance(5_000));
    sent.extend([Sent::Restart, Sent::Maintenance(1)]);
    sent.extend(rising(90, 40));
    sent.push(Sent::Retired(1));
    sent.extend(rising(80, 30));
    sent
}

#[test]
fn an_eventful_history_is_compared_whole() {
    let told = tell(&eventful(), 1);
    let found = audit_told(&told);
    // Ten readings were refused before the step, and two for being late or twice.
    assert_eq!((found.scored, found.compared), (50 + 31 + 30, 50 + 31 + 30), "{found:?}");
    assert!(found.with_features > 50, "{found:?}");
    assert_eq!(Findings { scored: 0, compared: 0, with_features: 0, ..found }, Findings::default());
}

#[test]
fn one_bit_of_a_risk_is_found_with_its_reading_and_both_values() {
    let mut told = tell(&eventful(), 1);
    let place = told.rows.iter().rposition(|r| r.kind == RowKind::Scored).unwrap();
    let was = told.rows[place].risks[0];
    let changed = f64::from_bits(was.to_bits() ^ 1);
    told.rows[place].risks[0] = changed;
    let found = audit_told(&told);
    assert_eq!(found.differing.len(), 1, "{found:?}");
    let d = &found.differing[0];
    assert_eq!(
        (d.ts, d.n, d.archived.to_bits(), d.again.to_bits()),
        (told.rows[place].ts, told.rows[place].n, changed.to_bits(), was.to_bits())
    );
    assert_eq!((found.other_rows, found.compared), (0, found.scored));
}

#[test]
fn one_bit_of_a_feature_is_found_under_its_name() {
    let mut told = tell(&eventful(), 1);
    let (_, spec) = judges();
    let place = told.rows.iter().rposition(|r| !r.features.is_empty()).unwrap();
    let feature = (0..spec.len()).find(|f| told.rows[place].features[*f].is_finite()).unwrap();
    let was = told.rows[place].features[feature];
    told.rows[place].features[feature] = f64::from_bits(was.to_bits() ^ 1);
    let found = audit_told(&told);
    assert_eq!(found.differing.len(), 1, "{found:?}");
    let d = &found.differing[0];
    assert_eq!((d.what.as_str(), d.ts, d.again.to_bits()), (spec.name(feature).as_str(), told.rows[place].ts, was.to_bits()));
    assert_ne!(d.archived.to_bits(), was.to_bits());
    // Another number of features is another specification's row, and no reason to panic.
    told.rows[place].features.push(1.0);
    assert_eq!(audit_told(&told).differing.len(), 2);
}

#[test]
fn one_bit_of_a_reading_is_other_input_and_the_reading_is_named() {
    let mut told = tell(&eventful(), 1);
    let values = &mut told.values[10];
    values[0] = f64::from_bits(values[0].to_bits() ^ 1);
    told.readings[10].content = chain_reading(0, told.readings[10].ts, &told.values[10]);
    let found = audit_told(&told);
    assert_eq!(found.differing, []);
    assert_eq!(found.other_input[0].ts, told.readings[10].ts, "{found:?}");
    assert!(found.other_input[0].what.contains("other values"), "{found:?}");
    assert_eq!(found.compared + found.other_rows, found.scored);
    assert!(found.compared >= 40, "what came before it and after the retirement is compared: {found:?}");
}

#[test]
fn a_reading_or_event_that_is_gone_is_other_input() {
    let mut told = tell(&eventful(), 1);
    told.readings.remove(10);
    let found = audit_told(&told);
    assert!(found.differing.is_empty() && found.other_input[0].what.contains("reading number 11"), "{found:?}");
    let mut told = tell(&eventful(), 1);
    told.events.clear();
    assert!(audit_told(&told).other_input[0].what.contains("this event (maintenance)"));
}

#[test]
fn readings_that_ingest_has_not_archived_yet_are_no_fault() {
    let mut told = tell(&rising(0, 30), 1);
    told.readings.truncate(25);
    let found = audit_told(&told);
    assert_eq!((found.compared, found.not_archived, found.other_rows), (25, 5, 0), "{found:?}");
}

#[test]
fn a_redelivery_that_the_archive_has_once_was_accepted_once() {
    let mut sent = rising(0, 30);
    sent.insert(20, Sent::Reading(12_000, 5.0));
    let mut told = tell(&sent, 1);
    assert_eq!(told.rows.iter().filter(|r| r.kind == RowKind::Refused).count(), 1);
    told.readings.remove(20);
    let found = audit_told(&told);
    assert_eq!((found.compared, found.other_rows), (30, 0), "{found:?}");
}

#[test]
fn a_device_that_begins_again_with_the_reading_it_began_with_is_told_apart() {
    let again = Sent::Reading(1_000_000, 1.0);
    let told = tell(&[again.clone(), Sent::Reading(1_001_000, 0.0), Sent::Retired(1), again], 1);
    let found = audit_told(&told);
    assert_eq!((found.compared, found.scored, found.other_rows), (3, 3, 0), "{found:?}");
}

#[test]
fn rows_of_a_model_that_is_gone_and_rows_before_any_start_are_counted() {
    let mut told = tell(&rising(0, 10), 1);
    told.rows[5].model = Some("w".into());
    assert_eq!(audit_told(&told).unknown_model, 1);
    told.rows.remove(0);
    assert_eq!(audit_told(&told).unanchored, 10);
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let step = prop_oneof![
        20 => (-3i64..8, -5.0f64..5.0).prop_map(|(by, x)| (by * 1_000, Some(x))),
        1 => Just((0, None)),
        1 => (-40i64..-10).prop_map(|by| (by * 1_000, Some(1.0))),
    ];
    (prop::collection::vec((step, 0u8..40), 1..150)).prop_map(|steps| {
        let mut ts = 1_000_000;
        let mut sent = Vec::new();
        for ((by, x), chance) in steps {
            ts += by;
            sent.push(match (x, chance) {
                (_, 0) => Sent::Restart,
                (_, 1) => Sent::Maintenance(ts),
                (_, 2) => Sent::Retired(ts),
                (None, _) => Sent::Reading(ts, f64::NAN),
                (Some(x), _) => Sent::Reading(ts, x),
            });
        }
        sent
    })
}

proptest! {
    #[test]
    fn whatever_is_sent_the_archive_gives_the_same_bits(sent in sent(), every in 1u64..20) {
        let found = audit_told(&tell(&sent, every));
        prop_assert_eq!(&found.other_input, &vec![]);
        prop_assert_eq!(&found.differing, &vec![]);
        prop_assert_eq!(found.compared, found.scored);
    }
}

#[test]
fn the_small_fleet_has_four_signals() {
    assert_eq!(Fleet::check(&crate::fleet::tests::small()).unwrap().measured, 4);
}

/// Predict may hear of a device by an event later than ingest has its first readings: two services, two moments of arrival.
#[test]
fn a_device_known_by_an_event_is_compared_from_its_first_reading_whatever_the_clocks_of_arrival_say() {
    let readings = (1..=9).map(|i| Sent::Reading(1_000 * i, i as f64));
    let sent: Vec<Sent> = [Sent::Maintenance(500)].into_iter().chain(readings).collect();
    for every in [1, 3] {
        let mut told = tell(&sent, every);
        told.readings.iter_mut().for_each(|r| r.received_at -= 4);
        let found = audit_told(&told);
        assert_eq!((found.compared, found.scored), (9 / every, 9 / every), "{found:?}");
        assert!(found.differing.is_empty() && found.other_input.is_empty(), "{found:?}");
    }
}
