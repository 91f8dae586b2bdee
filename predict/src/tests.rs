//! Equal messages give equal words however they are cut; what is kept and restored goes on as if nothing had been.

mod service;

use std::sync::Arc;

use homeward_broker::Outgoing;
use homeward_models::artifact::{Lineage, Model};
use homeward_models::cost::{Costs, WrittenCosts};
use homeward_models::decision::{Rules, WrittenDecide};
use homeward_models::drift::{Learner, Reference};
use homeward_models::ensemble::{Arithmetic, Ensemble, Link, Node};
use homeward_models::features::FeatureSpec;
use homeward_models::form::Form;
use homeward_models::label::Target;
use homeward_models::novelty::{Novelty, Term};
use homeward_models::topic::{Topics, WrittenTopics};
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::archive::{ScoreTable, WriteOptions, read_scores};
use proptest::prelude::*;
use serde_json::json;

use crate::fleet::{FleetState, Incoming};
use crate::memory::{Memory, remember};
use crate::scribe::At;
use crate::{InService, Settings, WrittenPredict};

const BASE: i64 = 1_764_000_000_000;

fn fleet() -> Fleet {
    let signals = json!({"temp": {"at": "/temp", "component": "motor"}, "lat": {"at": "/lat", "features": false}, "lon": {"at": "/lon", "features": false}});
    let written: WrittenFleet =
        serde_json::from_value(json!({"name": "t", "windows": ["6s"], "commissioning": "5s", "signals": signals})).unwrap();
    Fleet::check(&written).unwrap()
}

fn decide() -> WrittenDecide {
    WrittenDecide {
        raise_for: "1s".into(),
        raise_readings: 2,
        clear_for: "3s".into(),
        repeat_every: "4s".into(),
        max_raised_share: 1.0,
        position: vec!["lat".into(), "lon".into()],
        home: vec![37.0, 127.0],
        speed: 10.0,
        land_cost: Some(10.0),
        ..WrittenDecide::default()
    }
}

/// A last temperature above 50 is a risk of 0.9.
fn model(drift: Option<Reference>) -> Model {
    let spec = FeatureSpec::new(&fleet());
    let feature = (0..spec.len()).find(|f| spec.name(*f) == "temp.last").unwrap() as u32;
    let ensemble = Ensemble {
        link: Link::Mean,
        arithmetic: Arithmetic::default(),
        features: spec.len(),
        horizons: 1,
        base: vec![0.0],
        roots: vec![0],
        nodes: vec![Node { feature, threshold: 50.0, missing_left: true, left: -1, right: -2 }],
        leaves: vec![0.1, 0.9],
        cover: vec![9.0, 1.0],
    };
    let money = WrittenCosts::default();
    Model {
        target: Target::Failure,
        horizons: vec![600_000],
        learner: "tree".into(),
        form: Form::Ensemble(ensemble),
        calibration: vec![],
        threshold: 0.5,
        rules: Rules::check(&decide()).unwrap(),
        decide: decide(),
        costs: Costs::check(&money, 600_000).unwrap(),
        money,
        typical: vec![20.0; spec.len()],
        drift,
        signatures: None,
        self_test: vec![],
        lineage: Lineage { objects: vec![], settings: "0".into(), seed: 1, code: "test".into() },
        metrics: serde_json::Value::Null,
        spec,
    }
}

fn settings() -> Settings {
    let written = WrittenPredict { score_share: 1.0, keep_every: "1ms".into(), reload_every: "20ms".into(), ..WrittenPredict::default() };
    Settings::check(&written, &decide(), &fleet(), 1 << 16, false).unwrap()
}

fn topics() -> Topics {
    Topics::check(&WrittenTopics::default()).unwrap()
}

fn state(model: Model) -> FleetState {
    let mut state = FleetState::new(&fleet(), &topics(), &settings(), Arc::default(), true);
    state.serve(Arc::new(InService::new(model, "t".into(), "v".into())));
    state
}

/// What a fleet sends: device and reading, or an event.
#[derive(Debug, Clone)]
enum Sent {
    Reading(usize, serde_json::Value),
    Event(usize, serde_json::Value),
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let reading = (0usize..3, -2i64..6, prop_oneof![Just(20.0), Just(90.0)], 0u8..30);
    prop::collection::vec(reading, 1..200).prop_map(|steps| {
        let mut ts = BASE;
        let each = steps.into_iter().map(|(device, by, temp, chance)| {
            ts += by * 500;
            match chance {
                0 => Sent::Event(device, json!({"ts": ts, "event": "maintenance", "component": "motor"})),
                1 => Sent::Event(device, json!({"ts": ts, "event": "attributes", "home": {"lat": 37.5, "lon": 127.1}})),
                2 => Sent::Event(device, json!({"ts": ts, "event": "retired"})),
                3 => Sent::Reading(device, json!({"ts": ts, "temp": null})),
                _ => Sent::Reading(device, json!({"ts": ts, "temp": temp, "lat": 37.2, "lon": 127.0})),
            }
        });
        each.collect()
    })
}

/// Messages: readings of one device in a row become arrays of at most `size`.
fn cut(sent: &[Sent], size: usize) -> Vec<(String, String)> {
    let mut messages: Vec<(String, Vec<serde_json::Value>)> = Vec::new();
    for sent in sent {
        let (topic, body, whole) = match sent {
            Sent::Reading(d, body) => (format!("fleet/d-{d}/telemetry"), body, size),
            Sent::Event(d, body) => (format!("fleet/d-{d}/events"), body, 1),
        };
        match messages.last_mut() {
            Some((open, bodies)) if *open == topic && bodies.len() < whole => bodies.push(body.clone()),
            _ => messages.push((topic, vec![body.clone()])),
        }
    }
    messages
        .into_iter()
        .map(|(topic, bodies)| (topic, if bodies.len() == 1 { bodies[0].to_string() } else { json!(bodies).to_string() }))
        .collect()
}

fn handle(state: &mut FleetState, seq: usize, (topic, payload): &(String, String), out: &mut Vec<Outgoing>) {
    let message =
        Incoming { seq: seq as u64, topic: topic.as_bytes(), payload: payload.as_bytes(), received_at: BASE, latest_ts: i64::MAX };
    state.handle(&message, out);
}

/// Keeps everything and makes another fleet of it.
fn restarted(before: &FleetState, model: Model) -> FleetState {
    let memory = Memory::parse(&remember(before, 7, "j")).unwrap();
    assert_eq!((memory.position, memory.journal.as_str(), memory.model.as_deref()), (7, "j", Some("v")));
    let mut after = state(model);
    after.monitor = memory.monitor.clone();
    let (devices, lost, why) = memory.devices(after.spec()).unwrap();
    assert_eq!((lost, why), (0, None));
    devices.into_iter().for_each(|device| after.restore(device, At::default()));
    after
}

/// The rows of a fleet but for those of restarts, as text.
fn rows(states: &mut [FleetState]) -> Vec<String> {
    let objects = states.iter_mut().flat_map(FleetState::take_rows).map(|(_, rows)| rows.encode(&WriteOptions::default()).unwrap());
    let mut rows: Vec<String> = objects.flat_map(|bytes| told(&read_scores(bytes).unwrap())).collect();
    rows.sort();
    rows
}

fn told(t: &ScoreTable) -> Vec<String> {
    let row = |i: usize| {
        let reason = t.reason.get(i).unwrap_or_default();
        let text = (
            t.device.get(i),
            t.ts[i],
            t.seq[i],
            t.idx[i],
            t.kind.get(i),
            t.n[i],
            t.chain[i],
            t.content[i],
            t.risks_of(i),
            reason,
            t.alert_id.get(i),
        );
        (reason != "restored" && !(reason == "new" && t.content[i] == 0)).then(|| format!("{text:?}"))
    };
    (0..t.len()).filter_map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_readings_give_equal_words_however_they_are_cut(sent in sent(), size in 1usize..20) {
        let said = |size: usize| {
            let (mut state, mut out) = (state(model(None)), Vec::new());
            cut(&sent, size).iter().enumerate().for_each(|(i, m)| handle(&mut state, i, m, &mut out));
            out
        };
        prop_assert_eq!(said(1), said(size));
    }

    #[test]
    fn a_fleet_that_is_kept_and_restored_anywhere_says_and_writes_the_same(sent in sent(), at in prop::collection::vec(0usize..200, 0..4)) {
        let messages = cut(&sent, 3);
        let (mut whole, mut out) = (vec![state(model(None))], Vec::new());
        messages.iter().enumerate().for_each(|(i, m)| handle(&mut whole[0], i, m, &mut out));
        let (mut cut, mut again) = (vec![state(model(None))], Vec::new());
        for (i, message) in messages.iter().enumerate() {
            if at.contains(&i) {
                let next = restarted(cut.last().unwrap(), model(None));
                cut.push(next);
            }
            handle(cut.last_mut().unwrap(), i, message, &mut again);
        }
        prop_assert_eq!(&out, &again);
        prop_assert_eq!(whole[0].devices(), cut.last().unwrap().devices());
        prop_assert_eq!(rows(&mut whole), rows(&mut cut));
    }
}

#[test]
fn memory_that_is_cut_changed_or_of_another_version_is_refused_by_name() {
    let mut fleet = state(model(None));
    handle(&mut fleet, 0, &("fleet/a/telemetry".into(), json!({"ts": BASE, "temp": 1.0}).to_string()), &mut Vec::new());
    let bytes = remember(&fleet, 1, "j");
    assert_eq!(bytes, remember(&fleet, 1, "j"));
    for cut in 0..bytes.len() {
        assert!(Memory::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        let mut changed = bytes.clone();
        changed[cut] ^= 1;
        assert!(Memory::parse(&changed).is_err(), "changed at {cut}");
    }
    let newer = [b"HWPRED02", &bytes[8..]].concat();
    assert!(Memory::parse(&newer).unwrap_err().to_string().contains("another version"));
}

#[test]
fn a_device_that_cannot_make_it_home_is_told_to_land_and_one_that_may_is_called() {
    for (lat, action) in [(37.001, "return"), (38.5, "land")] {
        let (mut fleet, mut out) = (state(model(None)), Vec::new());
        for second in 0..3 {
            let body = json!({"ts": BASE + second * 1_000, "temp": 90.0, "lat": lat, "lon": 127.0}).to_string();
            handle(&mut fleet, second as usize, &("fleet/a/telemetry".into(), body), &mut out);
        }
        let calls: Vec<serde_json::Value> =
            out.iter().filter(|o| o.topic.ends_with("return-to-base")).map(|o| serde_json::from_slice(&o.payload).unwrap()).collect();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["action"], action, "{}", calls[0]);
        let healths = out.iter().filter(|o| o.topic.ends_with("health"));
        let health: serde_json::Value = serde_json::from_slice(&healths.last().unwrap().payload).unwrap();
        assert_eq!(health["advice"], action);
    }
}

/// The fleet before its first failure: 20 degrees are usual, give or take 2.
fn novel() -> Model {
    let model = model(None);
    let feature = (0..model.spec.len()).find(|f| model.spec.name(*f) == "temp.last").unwrap() as u32;
    let form = Form::Novelty(Novelty { features: model.spec.len(), terms: vec![Term { feature, mean: 20.0, inverse: 0.5 }] });
    Model { form, learner: "novelty".into(), threshold: 0.9, ..model }
}

#[test]
fn a_novelty_model_calls_home_what_behaves_oddly_and_weighs_no_money_by_its_score() {
    let (mut fleet, mut out) = (state(Model::parse(&novel().to_bytes().unwrap()).unwrap()), Vec::new());
    for second in 0..6 {
        // So far away that a risk of 0.99, were it a probability, would make it land.
        let temp = if second < 3 { 23.0 } else { 90.0 };
        let body = json!({"ts": BASE + second * 1_000, "temp": temp, "lat": 38.5, "lon": 127.0}).to_string();
        handle(&mut fleet, second as usize, &("fleet/a/telemetry".into(), body), &mut out);
    }
    let calls: Vec<serde_json::Value> =
        out.iter().filter(|o| o.topic.ends_with("return-to-base")).map(|o| serde_json::from_slice(&o.payload).unwrap()).collect();
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = &calls[0];
    assert_eq!((&call["ts"], &call["action"], &call["component"]), (&(BASE + 4_000).into(), &"return".into(), &"motor".into()));
    assert_eq!(call["cost"], json!({"return": null, "continue": null}));
    assert_eq!(call["reasons"], json!([{"feature": "temp.last", "value": 90.0, "typical": 20.0, "contribution": 1224.0}]));
    let score = 1225.0;
    assert_eq!(call["risks"], json!([{"horizon_s": 600.0, "risk": score / (1.0 + score)}]));
}

#[test]
fn the_operators_hear_of_a_day_unlike_those_of_training() {
    let spec = FeatureSpec::new(&fleet());
    let sample: Vec<Vec<f64>> = (0..1_000).map(|i| vec![f64::from(i % 10); spec.len()]).collect();
    let mut learner = Learner::new(spec.len(), &sample, &vec![0.1; 1_000]);
    for (i, row) in sample.iter().enumerate() {
        learner.add(i as i64 / 200 * 86_400_000, row, 0.1);
    }
    let (mut fleet, mut out) = (state(model(Some(learner.finish()))), Vec::new());
    for i in 0..20_000i64 {
        // A day and a half, with temperatures that training never saw; arrival at the readings' own time.
        let ts = BASE + i * 6_000;
        let body = json!({"ts": ts, "temp": 40.0}).to_string();
        let message =
            Incoming { seq: i as u64, topic: b"fleet/a/telemetry", payload: body.as_bytes(), received_at: ts, latest_ts: i64::MAX };
        fleet.handle(&message, &mut out);
    }
    let notes: Vec<serde_json::Value> =
        out.iter().filter(|o| o.topic == "fleet/operators").map(|o| serde_json::from_slice(&o.payload).unwrap()).collect();
    assert!(!notes.is_empty() && notes.iter().all(|n| n["note"] == "drift" && n.get("device").is_none()), "{notes:?}");
    assert!(notes[0]["detail"].as_str().unwrap().starts_with("2025-11-24 is unlike"), "{}", notes[0]);
    assert!(notes[0]["detail"].as_str().unwrap().contains("temp."), "{}", notes[0]);
}
