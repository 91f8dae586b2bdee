//! Features in batch from Parquet: `cargo run --release -p homeward-models --example batch -- [readings] [file]` makes a telemetry object of the simulated
//! sample fleet at 10 Hz (40 drones; written to `file` if named, for `polars_rolling.py` beside it), then reads it and computes every feature of every
//! reading, on one thread and on two. Reading and unpacking the object is part of the time.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use homeward_models::features::{DeviceState, FeatureSpec, Verdict};
use homeward_store::archive::{TelemetryBatch, TelemetryRow, TelemetryTable, WriteOptions, read_telemetry};

#[path = "../benches/fleet/mod.rs"]
mod fleet;

const DEVICES: usize = 40;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let readings: usize = arguments.next().map_or(1_000_000, |n| n.parse().unwrap());
    let spec = FeatureSpec::new(&fleet::fleet());
    let objects: Vec<bytes::Bytes> =
        [0..DEVICES / 2, DEVICES / 2..DEVICES].map(|devices| object(&spec, devices, readings / DEVICES)).into();
    if let Some(path) = arguments.next() {
        std::fs::write(&path, object(&spec, 0..DEVICES, readings / DEVICES)).unwrap();
    }
    println!("{} features, {} bytes of Parquet", spec.len(), objects.iter().map(bytes::Bytes::len).sum::<usize>());
    for threads in [1, 2] {
        let best = (0..5).map(|_| run(&spec, &objects, threads)).fold(0.0, f64::max);
        println!("{threads} threads: {best:.0} readings/s");
    }
}

/// Telemetry of some devices at 10 Hz, as ingest archives it.
fn object(spec: &FeatureSpec, devices: Range<usize>, each: usize) -> bytes::Bytes {
    let pool = fleet::readings(50_000);
    let signals: Vec<String> = spec.fleet().signals().iter().map(|s| s.name.clone()).collect();
    let mut batch = TelemetryBatch::new(signals.into()).unwrap();
    for device in devices {
        let name = format!("d-{device:03}");
        for i in 0..each {
            let ts = 1_764_000_000_000 + 100 * i as i64;
            let values = &pool[(device * 977 + i) % pool.len()];
            let (seq, received_at) = (batch.len() as i64, ts + 50);
            batch.push(&TelemetryRow { device: &name, ts, received_at, seq, idx: 0, values, extra: None }).unwrap();
        }
    }
    batch.encode(&WriteOptions::default()).unwrap()
}

/// Readings a second of wall time.
fn run(spec: &FeatureSpec, objects: &[bytes::Bytes], threads: usize) -> f64 {
    let started = Instant::now();
    let rows: usize = std::thread::scope(|scope| {
        let share = objects.len() / threads;
        let workers: Vec<_> = objects
            .chunks(share)
            .map(|some| scope.spawn(move || some.iter().map(|o| features(spec, &read_telemetry(o.clone()).unwrap())).sum::<usize>()))
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    rows as f64 / started.elapsed().as_secs_f64()
}

/// Computes the features of every accepted reading; how many.
fn features(spec: &FeatureSpec, table: &TelemetryTable) -> usize {
    let (mut row, mut measured, mut accepted) = (vec![0.0; spec.len()], vec![0.0; table.signals.len()], 0);
    let mut state = DeviceState::new(spec);
    for i in 0..table.len() {
        if i > 0 && table.device.get(i) != table.device.get(i - 1) {
            state = DeviceState::new(spec);
        }
        measured.iter_mut().zip(&table.signals).for_each(|(x, (_, column))| *x = column[i]);
        if !matches!(state.reading(spec, table.ts[i], &measured), Verdict::Refused(_)) {
            state.features(spec, &mut row);
            black_box(&mut row);
            accepted += 1;
        }
    }
    accepted
}
