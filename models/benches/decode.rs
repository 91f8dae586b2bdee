//! Decoding one reading of the sample fleet (20 signals, about 314 bytes), beside serde_json and (`--features peers`) sonic-rs into a struct made for it.
//! Many distinct readings of many drones, so that no branch predictor learns them by heart. One core.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use homeward_models::wire::Decoder;

mod fleet;

const LATEST: i64 = i64::MAX;

/// The sample fleet's reading, known when compiling; what homeward reads from its configuration. Unclaimed fields are lost.
#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Reading {
    ts: i64,
    battery: Battery,
    motor: [Motor; 4],
    vibration: Vibration,
    throttle: Option<f64>,
    airspeed: Option<f64>,
    position: Position,
}

#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Battery {
    v: Option<f64>,
    a: Option<f64>,
    temp: Option<f64>,
    soc: Option<f64>,
}

#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Motor {
    temp: Option<f64>,
    rpm: Option<f64>,
}

#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Vibration {
    x: Option<f64>,
    y: Option<f64>,
    z: Option<f64>,
}

#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Position {
    lat: Option<f64>,
    lon: Option<f64>,
    alt: Option<f64>,
}

fn decode(c: &mut Criterion) {
    let payloads = fleet::payloads(20_000);
    let bytes = payloads.iter().map(Vec::len).sum::<usize>() / payloads.len();
    let mut group = c.benchmark_group(format!("decode one reading of {bytes} bytes"));
    group.throughput(Throughput::Elements(1)).sample_size(30);
    let mut next = payloads.iter().cycle();
    let mut decoder = Decoder::new(&fleet::fleet());
    group.bench_function("homeward", |b| {
        b.iter(|| {
            decoder.telemetry("d-001", next.next().unwrap(), LATEST, |_, _, outcome| {
                black_box(outcome.unwrap());
            });
        });
    });
    group.bench_function("serde_json into a struct", |b| {
        b.iter(|| black_box(serde_json::from_slice::<Reading>(next.next().unwrap()).unwrap()));
    });
    #[cfg(feature = "peers")]
    group.bench_function("sonic-rs into a struct", |b| {
        b.iter(|| black_box(sonic_rs::from_slice::<Reading>(next.next().unwrap()).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
