//! Scoring and reasons on 100 trees × 31 leaves over 400 features: many distinct rows, random trees, so that nothing is learnt by heart.
//! `models/benches/peers/score.py` measures LightGBM and ONNX Runtime on a model of the same size.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use homeward_models::ensemble::{Explainer, Scorer};

#[path = "../src/ensemble/grown.rs"]
#[allow(dead_code, unreachable_pub)]
mod grown;
use grown::{Chance, Shape};

/// Rows that one row at a time is taken from in turn: 3.2 MB, as the state of a fleet would be.
const DISTINCT: usize = 1000;

fn score(c: &mut Criterion) {
    let shape = Shape::booster();
    let mut chance = Chance(1);
    let ensemble = shape.ensemble(&mut chance);
    let explainer = Explainer::new(&ensemble);
    let scorer = Scorer::new(ensemble);
    let mut group = c.benchmark_group("score");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for (name, missing) in [("none missing", 0.0), ("2 % missing", 0.02)] {
        let rows = shape.rows(&mut chance, DISTINCT, missing);
        let mut rows = rows.chunks_exact(shape.features).cycle();
        let mut risks = [0.0];
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("one row, {name}"), |b| {
            b.iter(|| {
                scorer.score(black_box(rows.next().unwrap()), &mut risks);
                risks[0]
            });
        });
        if missing == 0.0 {
            group.bench_function("one row, plain walk", |b| {
                b.iter(|| {
                    scorer.ensemble().score(black_box(rows.next().unwrap()), &mut risks);
                    risks[0]
                });
            });
        }
        let many = shape.rows(&mut chance, 10_000, missing);
        let mut risks = vec![0.0; 10_000];
        group.throughput(Throughput::Elements(10_000));
        group.bench_function(format!("10,000 rows, {name}"), |b| b.iter(|| scorer.score_rows(black_box(&many), &mut risks)));
    }
    let rows = shape.rows(&mut chance, DISTINCT, 0.02);
    let mut rows = rows.chunks_exact(shape.features).cycle();
    let mut added = vec![0.0; shape.features];
    group.throughput(Throughput::Elements(1));
    group.bench_function("TreeSHAP of one row", |b| b.iter(|| explainer.contributions(black_box(rows.next().unwrap()), 0, &mut added)));
    group.finish();
}

criterion_group!(benches, score);
criterion_main!(benches);
