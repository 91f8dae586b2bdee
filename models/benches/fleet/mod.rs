//! The sample fleet of `homeward.toml` and readings that the simulator makes of it, for the benchmarks.
#![allow(dead_code)]

use homeward_data::sim::{Fleet as Simulated, SimConfig};
use homeward_data::{Kind, Record};
use homeward_models::wire::Decoder;
use homeward_models::{Fleet, WrittenFleet};

/// The sample fleet.
pub(crate) fn fleet() -> Fleet {
    #[derive(serde::Deserialize)]
    struct Config {
        fleet: WrittenFleet,
    }
    let config: Config = toml::from_str(include_str!("../../../homeward.toml")).unwrap();
    Fleet::check(&config.fleet).unwrap()
}

/// The payloads of `count` readings of 50 drones, as they come.
pub(crate) fn payloads(count: usize) -> Vec<Vec<u8>> {
    let config = SimConfig { drones: 50, duration_s: 1e6, ..SimConfig::default() };
    let mut simulated = Simulated::new(&config.check().unwrap());
    let (mut record, mut payloads) = (Record::default(), Vec::new());
    while payloads.len() < count && simulated.next(&mut record) {
        if record.kind == Kind::Telemetry && record.payload.first() == Some(&b'{') {
            payloads.push(record.payload.clone());
        }
    }
    payloads
}

/// The measured values of `count` readings of 50 drones.
pub(crate) fn readings(count: usize) -> Vec<Vec<f64>> {
    let mut decoder = Decoder::new(&fleet());
    let mut readings = Vec::new();
    for payload in payloads(count) {
        decoder.telemetry("d-001", &payload, i64::MAX, |_, _, outcome| readings.extend(outcome.map(|r| r.values.clone())));
    }
    readings
}
