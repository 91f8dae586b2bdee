//! How fast a batch of 200,000 readings of 20 signals becomes an object, and how large it is.
//!
//! The readings are made as drones send them: 200 devices in turn, values rounded to the sensor's digits, drifting
//! slowly, one in fifty missing.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use homeward_store::archive::{TelemetryBatch, TelemetryRow, WriteOptions, read_telemetry};

const ROWS: usize = 200_000;
const SIGNALS: usize = 20;
const DEVICES: usize = 200;

/// xorshift: a fixed sequence, uniform in 0..1.
fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

/// `digits(signal)` is how finely a sensor resolves, as a factor; `None` keeps all 52 bits.
fn readings(digits: impl Fn(usize) -> Option<f64>) -> Vec<[f64; SIGNALS]> {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut level = vec![[50.0; SIGNALS]; DEVICES];
    (0..ROWS)
        .map(|row| {
            let level = &mut level[row % DEVICES];
            std::array::from_fn(|s| {
                level[s] += random(&mut state) - 0.5;
                let value = level[s] + random(&mut state);
                let seen = digits(s).map_or(value, |d| (value * d).round() / d);
                if random(&mut state) < 0.02 { f64::NAN } else { seen }
            })
        })
        .collect()
}

fn batch(readings: &[[f64; SIGNALS]], names: &[String], signals: &Arc<[String]>) -> TelemetryBatch {
    let mut batch = TelemetryBatch::new(signals.clone()).unwrap();
    for (row, values) in readings.iter().enumerate() {
        let ts = 1_764_000_000_000 + (row / DEVICES) as i64 * 100 + (row % 7) as i64;
        let device = &names[row % DEVICES];
        let (received_at, seq, idx, extra) = (ts + 40, row as i64, 0, None);
        batch.push(&TelemetryRow { device, ts, received_at, seq, idx, values, extra }).unwrap();
    }
    batch
}

fn encode(c: &mut Criterion) {
    let names: Vec<String> = (0..DEVICES).map(|d| format!("d-{d:03}")).collect();
    let signals: Arc<[String]> = (0..SIGNALS).map(|s| format!("signal_{s}")).collect();
    let sets = [("sensor digits", readings(|s| Some([10.0, 100.0, 1.0, 1000.0, 1e7][s % 5]))), ("all 52 bits", readings(|_| None))];
    let mut group = c.benchmark_group("telemetry");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    for (set, readings) in &sets {
        group.bench_function(format!("push/{set}"), |b| {
            b.iter_batched(|| (), |()| black_box(batch(readings, &names, &signals)), BatchSize::PerIteration);
        });
        let full = batch(readings, &names, &signals);
        for zstd_level in [1, 3] {
            let options = WriteOptions { zstd_level, ..WriteOptions::default() };
            let bytes = full.encode(&options).unwrap();
            eprintln!("{set}, zstd {zstd_level}: {:.1} bytes a row", bytes.len() as f64 / ROWS as f64);
            group.bench_function(format!("encode/{set}/zstd {zstd_level}"), |b| {
                b.iter(|| black_box(full.encode(&options).unwrap()));
            });
            if zstd_level == 1 {
                group.bench_function(format!("read/{set}"), |b| {
                    b.iter(|| black_box(read_telemetry(bytes.clone()).unwrap()));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
