//! All features of one reading: taking it into its device's state and writing the row. Readings of the simulated sample fleet, states
//! whose windows are full, devices in turn. One core.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_models::{Fleet, WrittenFleet};

mod fleet;

const START: i64 = 1_764_000_000_000;

/// Devices in full flight, each `every_ms` behind its next reading.
struct Flying {
    spec: FeatureSpec,
    devices: Vec<DeviceState>,
    readings: Vec<Vec<f64>>,
    row: Vec<f64>,
    every_ms: i64,
    ts: i64,
    device: usize,
    reading: usize,
}

impl Flying {
    fn new(fleet: &Fleet, devices: usize, every_ms: i64, readings: Vec<Vec<f64>>) -> Self {
        let spec = FeatureSpec::new(fleet);
        let row = vec![0.0; spec.len()];
        // Long enough to fill the longest window, but not more readings than a bench can wait for.
        let longest = fleet.windows.last().copied().unwrap_or_default();
        let warm_up = (longest / every_ms + 10).min(20_000);
        let every_warm = (longest / warm_up).max(every_ms);
        let mut distinct = Vec::new();
        for d in 0..devices.min(64) {
            let mut state = DeviceState::new(&spec);
            for i in 0..warm_up {
                let at = (d * 331 + i as usize) % readings.len();
                state.reading(&spec, START + i * every_warm + d as i64, &readings[at]);
            }
            distinct.push(state);
        }
        let devices = (0..devices).map(|d| distinct[d % distinct.len()].clone()).collect();
        Self { spec, devices, readings, row, every_ms, ts: START + warm_up * every_warm + 100, device: 0, reading: 0 }
    }

    /// The next reading of the next device, and its features.
    fn step(&mut self) {
        self.device += 1;
        if self.device >= self.devices.len() {
            self.device = 0;
            self.ts += self.every_ms;
        }
        self.reading = (self.reading + 1) % self.readings.len();
        let state = &mut self.devices[self.device];
        state.reading(&self.spec, self.ts + (self.device % 64) as i64, &self.readings[self.reading]);
        state.features(&self.spec, &mut self.row);
        black_box(&mut self.row);
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, mut flying: Flying) {
    group.bench_function(id, |b| b.iter(|| flying.step()));
}

/// `[fleet]` with `signals` signals and these windows.
fn plain(signals: usize, windows: &[&str]) -> Fleet {
    let signals: serde_json::Map<_, _> = (0..signals).map(|s| (format!("s{s}"), serde_json::json!({"at": format!("/s/{s}")}))).collect();
    let written: WrittenFleet = serde_json::from_value(serde_json::json!({"name": "b", "windows": windows, "signals": signals})).unwrap();
    Fleet::check(&written).unwrap()
}

/// Random walks, rounded as sensors do.
fn walks(signals: usize, count: usize) -> Vec<Vec<f64>> {
    let mut bits = 0x9e37_79b9_7f4a_7c15u64;
    let mut step = move || {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        (bits >> 40) as f64 / 16_777_216.0 - 0.5
    };
    let mut at: Vec<f64> = (0..signals).map(|s| 20.0 + s as f64).collect();
    let mut next = move || {
        at.iter_mut().for_each(|x| *x = (*x * 1_000.0 + step() * 40.0).round() / 1_000.0);
        at.clone()
    };
    (0..count).map(|_| next()).collect()
}

fn sample_fleet(c: &mut Criterion) {
    let (fleet, readings) = (fleet::fleet(), fleet::readings(20_000));
    let mut group = c.benchmark_group(format!("features of the sample fleet ({} columns)", FeatureSpec::new(&fleet).len()));
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (rate, every_ms) in [("10 Hz", 100), ("1 Hz", 1_000)] {
        measure(&mut group, BenchmarkId::new(rate, "100 devices"), Flying::new(&fleet, 100, every_ms, readings.clone()));
    }
    for devices in [1, 1_000, 100_000] {
        measure(&mut group, BenchmarkId::new("devices at 10 Hz", devices), Flying::new(&fleet, devices, 100, readings.clone()));
    }
    group.finish();
}

fn growth(c: &mut Criterion) {
    let mut group = c.benchmark_group("features by number of signals, 3 windows, 100 devices at 10 Hz");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for signals in [1, 2, 5, 10, 20, 50, 100] {
        let flying = Flying::new(&plain(signals, &["10s", "60s", "10m"]), 100, 100, walks(signals, 5_000));
        measure(&mut group, BenchmarkId::from_parameter(signals), flying);
    }
    group.finish();
    let mut group = c.benchmark_group("features by length of the one window, 20 signals, 100 devices at 10 Hz");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for window in ["10s", "60s", "10m", "1h", "6h", "1d"] {
        measure(&mut group, BenchmarkId::from_parameter(window), Flying::new(&plain(20, &[window]), 100, 100, walks(20, 5_000)));
    }
    group.finish();
}

criterion_group!(benches, sample_fleet, growth);
criterion_main!(benches);
