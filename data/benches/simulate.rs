//! How many readings a second the simulator makes, into memory and into a file. Asked for: 300,000 on one core.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use homeward_data::sim::{Fleet, SimConfig};
use homeward_data::{Kind, Record};

const READINGS: u64 = 200_000;

fn fleet() -> Fleet {
    let config = SimConfig { drones: 50, duration_s: 1e6, ..SimConfig::default() };
    Fleet::new(&config.check().unwrap())
}

fn run(mut fleet: Fleet, out: &mut impl Write) -> Fleet {
    let (mut record, mut readings) = (Record::default(), 0);
    while readings < READINGS && fleet.next(&mut record) {
        record.write_line(out).unwrap();
        readings += u64::from(record.kind == Kind::Telemetry);
    }
    out.flush().unwrap();
    fleet
}

fn simulate(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulate");
    group.throughput(Throughput::Elements(READINGS)).sample_size(10);
    group.bench_function("to a sink", |b| {
        b.iter_batched(fleet, |fleet| black_box(run(fleet, &mut std::io::sink())), BatchSize::PerIteration);
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.jsonl");
    group.bench_function("to a file", |b| {
        let set_up = || (fleet(), BufWriter::with_capacity(1 << 20, File::create(&path).unwrap()));
        b.iter_batched(set_up, |(fleet, mut out)| black_box(run(fleet, &mut out)), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, simulate);
criterion_main!(benches);
