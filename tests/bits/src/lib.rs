//! A digest of every bit that the kernel computes for simulated drones: features, saved states, risks and reasons. Two builds that print the same score the same,
//! whatever machine, C library or compiler made them. Nothing here but the kernel and the simulator, so that it builds anywhere in seconds.
#![allow(clippy::unwrap_used)]

use homeward_data::sim::{Fleet as Simulated, SimConfig};
use homeward_data::{Kind, Record};
use homeward_models::ensemble::{Explainer, Scorer};
use homeward_models::features::{DeviceState, FeatureSpec, Verdict};
use homeward_models::wire::Decoder;
use homeward_models::{Fleet, WrittenFleet};
use xxhash_rust::xxh3::Xxh3;

#[path = "../../../models/src/ensemble/grown.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod grown;
use grown::{Chance, Shape};

/// Devices that are followed.
const DRONES: usize = 8;

/// Digests, and how much is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    /// Accepted readings.
    pub readings: usize,
    /// Every feature of every reading.
    pub features: u64,
    /// The raw score and the risk of every reading.
    pub risks: u64,
    /// What each feature added, for one reading in a hundred.
    pub reasons: u64,
    /// The devices' states as they are saved, at the end.
    pub states: u64,
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { readings, features, risks, reasons, states } = self;
        write!(f, "{readings} readings features {features:016x} risks {risks:016x} reasons {reasons:016x} states {states:016x}")
    }
}

/// Follows simulated drones through `messages` messages, with the features of the sample `homeward.toml` and a random ensemble over them.
pub fn bits(messages: usize) -> Bits {
    #[derive(serde::Deserialize)]
    struct Config {
        fleet: WrittenFleet,
    }
    let config: Config = toml::from_str(include_str!("../../../homeward.toml")).unwrap();
    let fleet = Fleet::check(&config.fleet).unwrap();
    let spec = FeatureSpec::new(&fleet);
    let mut decoder = Decoder::new(&fleet);
    let mut chance = Chance(7);
    let mut ensemble = Shape { features: spec.len(), ..Shape::booster() }.ensemble(&mut chance);
    // Features are of all sizes: thresholds too.
    ensemble.nodes.iter_mut().for_each(|node| node.threshold *= [0.01, 1.0, 30.0, 5000.0][chance.below(4)]);
    let (scorer, explainer) = (Scorer::new(ensemble.clone()), Explainer::new(&ensemble));

    let simulated = SimConfig { drones: DRONES, duration_s: 1e6, ..SimConfig::default() };
    let mut simulated = Simulated::new(&simulated.check().unwrap());
    let mut states: std::collections::BTreeMap<String, DeviceState> = std::collections::BTreeMap::new();
    let (mut row, mut risk, mut added) = (vec![0.0; spec.len()], [0.0], vec![0.0; spec.len()]);
    let [mut features, mut risks, mut reasons, mut saved] = [const { Xxh3::new() }; 4];
    let (mut readings, mut record) = (0, Record::default());
    for _ in 0..messages {
        if !simulated.next(&mut record) {
            break;
        }
        if record.kind != Kind::Telemetry {
            continue;
        }
        let state = states.entry(record.device.to_string()).or_insert_with(|| DeviceState::new(&spec));
        decoder.telemetry(&record.device, &record.payload, i64::MAX, |_, _, outcome| {
            let Ok(reading) = outcome else { return };
            if matches!(state.reading(&spec, reading.ts, &reading.values), Verdict::Refused(_)) {
                return;
            }
            state.features(&spec, &mut row);
            update(&mut features, &row);
            scorer.raw(&row, &mut risk);
            update(&mut risks, &risk);
            scorer.score(&row, &mut risk);
            update(&mut risks, &risk);
            if readings % 100 == 0 {
                explainer.contributions(&row, 0, &mut added);
                update(&mut reasons, &added);
            }
            readings += 1;
        });
    }
    states.values().for_each(|state| saved.update(&state.to_bytes(&spec)));
    Bits { readings, features: features.digest(), risks: risks.digest(), reasons: reasons.digest(), states: saved.digest() }
}

/// All missing values are one: which of their many bits a machine chooses means nothing.
fn update(hash: &mut Xxh3, values: &[f64]) {
    values.iter().for_each(|value| hash.update(&if value.is_nan() { u64::MAX } else { value.to_bits() }.to_le_bytes()));
}
