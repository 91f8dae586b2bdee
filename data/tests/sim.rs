//! What a simulated fleet promises.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;

use homeward_data::sim::{FaultKind, Fleet, Mess, Obeyed, Outcome, SimConfig, Truth};
use homeward_data::{Kind, Record};
use serde_json::Value;

const HOUR: f64 = 3600.0;

fn tidy(drones: usize, hours: f64) -> SimConfig {
    SimConfig { seed: 7, drones, duration_s: hours * HOUR, rate_hz: 0.25, mean_life_h: 0.5, mess: Mess::none(), ..SimConfig::default() }
}

fn fleet(config: SimConfig) -> Fleet {
    Fleet::new(&config.check().unwrap())
}

/// All further messages of a fleet.
fn rest(fleet: &mut Fleet) -> Vec<Record> {
    let (mut record, mut all) = (Record::default(), Vec::new());
    while fleet.next(&mut record) {
        all.push(record.clone());
    }
    all
}

/// Runs until `stop` says so of a message.
fn run_until(fleet: &mut Fleet, stop: impl Fn(&Fleet, &Record) -> bool) {
    let mut record = Record::default();
    while fleet.next(&mut record) {
        if stop(fleet, &record) {
            return;
        }
    }
    panic!("it never came to that");
}

/// Runs until a fault grows; its truth.
fn until_fault(fleet: &mut Fleet) -> Truth {
    let mut record = Record::default();
    while fleet.next(&mut record) {
        if let Some(truth) = fleet.truth().into_iter().find(|truth| truth.outcome == Outcome::Pending) {
            return truth;
        }
    }
    panic!("no fault");
}

fn json(record: &Record) -> Value {
    serde_json::from_slice(&record.payload).unwrap()
}

fn events<'a>(all: &'a [Record], device: &'a str) -> impl Iterator<Item = (i64, Value)> + 'a {
    all.iter().filter(move |r| r.device == device && r.kind == Kind::Event).map(|r| (r.ts, json(r)))
}

#[test]
fn same_seed_same_bytes() {
    let run = |seed| rest(&mut fleet(SimConfig { seed, mess: Mess::default(), ..tidy(5, 1.0) }));
    assert!(run(1) == run(1));
    assert!(run(1) != run(2));
}

#[test]
fn messages_come_in_order_and_in_the_documented_shape() {
    let config = tidy(4, 1.5);
    let all = rest(&mut fleet(config.clone()));
    assert!(all.windows(2).all(|pair| pair[0].ts <= pair[1].ts));
    assert!(all.iter().all(|r| r.ts >= config.start_ms && r.ts < config.start_ms + 5_400_000));
    let mut last: HashMap<&str, i64> = HashMap::new();
    for record in all.iter().filter(|r| r.kind == Kind::Telemetry) {
        let reading = json(record);
        assert_eq!(reading["ts"], record.ts);
        assert!(last.insert(&record.device, record.ts).is_none_or(|before| before < record.ts));
        assert!((250..=330).contains(&record.payload.len()), "{} bytes", record.payload.len());
        for signal in ["/battery/v", "/battery/soc", "/motor/3/rpm", "/vibration/z", "/throttle", "/airspeed", "/position/alt"] {
            assert!(reading.pointer(signal).is_some_and(Value::is_number), "{signal}");
        }
    }
    assert_eq!(last.len(), 4);
}

#[test]
fn a_failure_ends_the_flight_and_is_repaired() {
    let mut fleet = fleet(tidy(8, 6.0));
    let all = rest(&mut fleet);
    let failed: Vec<Truth> = fleet.truth().into_iter().filter(|t| t.outcome == Outcome::Failed).collect();
    assert!(failed.len() >= 8, "{} failures", failed.len());
    assert_eq!(all.iter().filter(|r| r.kind == Kind::Event && json(r)["event"] == "failure").count(), failed.len());
    for truth in failed {
        let failure = events(&all, &truth.device).find(|(ts, e)| *ts == truth.failure_ms && e["event"] == "failure").unwrap();
        assert_eq!(failure.1["component"], truth.component.as_str());
        let Some(repair) = events(&all, &truth.device).find(|(ts, e)| *ts > failure.0 && e["event"] == "maintenance") else { continue };
        assert_eq!(repair.1["component"], truth.component.as_str());
        let between = all.iter().filter(|r| r.device == truth.device && r.kind == Kind::Telemetry && r.ts > failure.0 && r.ts < repair.0);
        assert_eq!(between.count(), 0);
    }
}

#[test]
fn a_pending_fault_fails_when_foreseen() {
    let mut fleet = fleet(tidy(5, 8.0));
    let foreseen = until_fault(&mut fleet);
    rest(&mut fleet);
    let happened = fleet.truth().into_iter().find(|t| t.onset_ms == foreseen.onset_ms && t.device == foreseen.device).unwrap();
    assert_eq!((happened.outcome, happened.failure_ms), (Outcome::Failed, foreseen.failure_ms));
}

#[test]
fn a_drone_called_home_in_time_is_saved() {
    let mut fleet = fleet(tidy(5, 8.0));
    let fault = until_fault(&mut fleet);
    run_until(&mut fleet, |_, r| r.device == fault.device && r.kind == Kind::Telemetry);
    let called = fleet.now_ms();
    assert_eq!(fleet.call(&fault.device, "alert\"1", called), Obeyed::Returning);
    assert_eq!(fleet.call(&fault.device, "alert\"2", called), Obeyed::AlreadyReturning);
    let all = rest(&mut fleet);
    let saved = fleet.truth().into_iter().find(|t| t.onset_ms == fault.onset_ms && t.device == fault.device).unwrap();
    let expected = Truth { outcome: Outcome::Saved, called_ms: Some(called), ..fault.clone() };
    assert_eq!(saved, expected);
    let after: Vec<(i64, Value)> = events(&all, &fault.device).take(2).collect();
    assert_eq!(after[0].1["event"], "inspection");
    assert_eq!(after[0].1["finding"], "confirmed");
    assert_eq!(after[0].1["alert_id"], "alert\"1");
    assert_eq!(after[0].1["component"], fault.component.as_str());
    assert_eq!(after[1].1["event"], "maintenance");
    assert_eq!(after[1].1["component"], fault.component.as_str());
    assert!(after[0].0 - called < 10 * 60_000);
    let flying_on = |r: &&Record| r.device == fault.device && r.kind == Kind::Telemetry && r.ts > after[1].0;
    assert!(all.iter().find(flying_on).is_some(), "it flies again");
}

#[test]
fn a_healthy_drone_called_home_goes_on() {
    let config = SimConfig { mean_life_h: 1000.0, ..tidy(3, 3.0) };
    let mut fleet = fleet(config);
    run_until(&mut fleet, |_, r| r.device == "d-002" && r.kind == Kind::Telemetry);
    assert_eq!(fleet.call("d-002", "a1", fleet.now_ms()), Obeyed::Returning);
    let all = rest(&mut fleet);
    let (ts, inspection) = events(&all, "d-002").next().unwrap();
    assert_eq!((&inspection["finding"], &inspection["alert_id"]), (&"no_fault_found".into(), &"a1".into()));
    assert!(events(&all, "d-002").all(|(_, e)| e["event"] != "maintenance"));
    assert!(all.iter().any(|r| r.device == "d-002" && r.kind == Kind::Telemetry && r.ts > ts));
}

#[test]
fn a_fleet_that_ignores_calls_is_unmoved() {
    let config = SimConfig { obey: false, ..tidy(3, 2.0) };
    let undisturbed = rest(&mut fleet(config.clone()));
    let mut fleet = fleet(config);
    let mut all = Vec::new();
    let mut record = Record::default();
    while fleet.next(&mut record) {
        all.push(record.clone());
        assert_eq!(fleet.call("d-001", "x", record.ts), Obeyed::Ignored);
    }
    assert!(all == undisturbed);
}

#[test]
fn calls_on_the_ground_and_to_nobody() {
    let mut fleet = fleet(tidy(2, 2.0));
    for nobody in ["d-003", "d-000", "d-1", "drone", ""] {
        assert_eq!(fleet.call(nobody, "x", fleet.now_ms()), Obeyed::Unknown, "{nobody}");
    }
    // Before the first take-off, and long before the fleet's own time.
    assert_eq!(fleet.call("d-001", "x", 0), Obeyed::Grounded);
    assert_eq!(fleet.call("d-001", "y", 0), Obeyed::InWorkshop);
    let all = rest(&mut fleet);
    assert!(all.iter().all(|r| r.ts >= tidy(2, 2.0).start_ms), "a call from the past moves no clock back");
    assert!(all.windows(2).all(|pair| pair[0].ts <= pair[1].ts));
    assert_eq!(events(&all, "d-001").filter(|(_, e)| e["alert_id"] == "x").count(), 1);
    assert!(all.iter().any(|r| r.device == "d-001" && r.kind == Kind::Telemetry));
}

#[test]
fn mess_leaves_the_flights_alone() {
    let truth = |mess| {
        let mut fleet = fleet(SimConfig { mess, ..tidy(5, 5.0) });
        rest(&mut fleet);
        fleet.truth()
    };
    assert!(!truth(Mess::none()).is_empty());
    assert_eq!(truth(Mess::none()), truth(Mess { clock_jump: 0.001, late: 0.01, ..Mess::default() }));
}

#[test]
fn sudden_failures_have_their_share() {
    let mut fleet = fleet(SimConfig { sudden_share: 0.5, rate_hz: 0.05, ..tidy(60, 24.0) });
    rest(&mut fleet);
    let truth = fleet.truth();
    let sudden = truth.iter().filter(|t| t.sudden()).count() as f64 / truth.len() as f64;
    assert!((0.4..0.6).contains(&sudden), "{sudden} of {}", truth.len());
    for kind in [FaultKind::Bearing, FaultKind::Propeller, FaultKind::Cell, FaultKind::SpeedController] {
        assert!(truth.iter().any(|t| t.kind == kind), "{kind:?}");
    }
}

/// Readings of a fleet with this mess alone.
fn readings(mess: Mess) -> Vec<(Record, Value)> {
    let all = rest(&mut fleet(SimConfig { mess, ..tidy(3, 1.5) }));
    all.into_iter().filter(|r| r.kind == Kind::Telemetry).map(|r| (r.clone(), json(&r))).collect()
}

#[test]
fn missing_values_are_null() {
    let all = readings(Mess { missing: 0.05, ..Mess::none() });
    let text: String = all.iter().map(|(r, _)| String::from_utf8(r.payload.clone()).unwrap()).collect();
    let share = text.matches("null").count() as f64 / (20 * all.len()) as f64;
    assert!((0.04..0.06).contains(&share), "{share}");
}

#[test]
fn late_messages_come_after_newer_ones_and_doubles_are_equal() {
    let all = readings(Mess { late: 0.02, ..Mess::none() });
    let late = all.iter().filter(|(r, v)| v["ts"].as_i64().unwrap() < r.ts).count() as f64 / all.len() as f64;
    assert!((0.01..0.03).contains(&late), "{late}");
    let all = readings(Mess { duplicate: 0.02, ..Mess::none() });
    let mut seen: HashMap<(String, Vec<u8>), u32> = HashMap::new();
    all.iter().for_each(|(r, _)| *seen.entry((r.device.clone(), r.payload.clone())).or_default() += 1);
    let twice = seen.values().filter(|n| **n == 2).count() as f64 / all.len() as f64;
    assert!((0.01..0.03).contains(&twice), "{twice}");
}

#[test]
fn clocks_jump_and_sensors_freeze() {
    let all = readings(Mess { clock_jump: 0.01, ..Mess::none() });
    let wrong = |(r, v): &(Record, Value)| v["ts"] != r.ts;
    assert!(all.iter().any(wrong) && !all.iter().all(wrong));
    let longest = |all: &[(Record, Value)]| {
        let volts: Vec<&Value> = all.iter().filter(|(r, _)| r.device == "d-001").map(|(_, v)| &v["motor"][0]["temp"]).collect();
        volts.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap()
    };
    let noisy = Mess { noise: 1.0, ..Mess::none() };
    assert!(longest(&readings(noisy)) < 5);
    assert!(longest(&readings(Mess { frozen: 0.05, ..noisy })) >= 8);
}
