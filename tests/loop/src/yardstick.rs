//! A fleet that nobody calls and no model has seen, by which all models of a year are measured.

use homeward_data::Record;
use homeward_data::sim::{Fleet, SimConfig};
use homeward_models::artifact::Model;
use homeward_models::cost::{Answer, End, LifeRows, Tally, operating_hours, oracle, price};
use homeward_models::label::RowLabel;
use homeward_store::Store;
use homeward_train::ScoredReading;

use crate::Config;
use crate::archive::Archive;

/// The fleet's archive.
pub(crate) struct Yardstick {
    store: Store,
}

/// What a model does on it.
pub(crate) struct Measured {
    pub(crate) saved: f64,
    pub(crate) lead_min: f64,
    pub(crate) false_per_1000h: f64,
}

/// A life with its scores.
struct Life {
    times: Vec<i64>,
    scores: Vec<f64>,
    end: End,
}

impl Yardstick {
    pub(crate) async fn fly(config: &Config, sim: SimConfig) -> anyhow::Result<Self> {
        let store = Store::open("memory:///", std::iter::empty())?;
        let mut archive = Archive::new(store.clone(), config)?;
        let (mut fleet, mut record) = (Fleet::new(&sim.check()?), Record::default());
        while fleet.next(&mut record) {
            archive.take(&record).await?;
        }
        archive.seal().await?;
        Ok(Self { store })
    }

    /// Prices `model` at its own threshold and rules beside never and the oracle.
    pub(crate) async fn measure(&self, model: &Model) -> anyhow::Result<Measured> {
        let scored = homeward_train::score(&self.store, model).await?;
        let (lives, costs) = (lives(&scored), &model.costs);
        let failures = lives.iter().filter(|l| l.end != End::Well).count();
        let hours: f64 = lives.iter().map(|l| operating_hours(&l.times, costs)).sum();
        let mean_life_h = hours / failures.max(1) as f64;
        let (mut policy, mut never, mut best) = (Tally::default(), Tally::default(), Tally::default());
        for life in &lives {
            let rows = LifeRows { times: &life.times, scores: &life.scores, end: life.end };
            let mut foreseen = vec![0.0; life.times.len()];
            if let Some(row) = oracle(&life.times, life.end, costs) {
                foreseen[row] = 1.0;
            }
            let at_once = homeward_models::decision::Rules { raise_for: 0, raise_readings: 1, ..model.rules };
            policy.add(&price(rows, model.threshold, &model.rules, costs, Answer::Inspect, mean_life_h));
            never.add(&price(rows, 2.0, &model.rules, costs, Answer::Inspect, mean_life_h));
            best.add(&price(LifeRows { scores: &foreseen, ..rows }, 0.5, &at_once, costs, Answer::Inspect, mean_life_h));
        }
        Ok(Measured {
            saved: (never.per_hour() - policy.per_hour()) / (never.per_hour() - best.per_hour()),
            lead_min: policy.lead_ms as f64 / 60_000.0 / f64::from(policy.called.max(1)),
            false_per_1000h: f64::from(policy.false_alarms) / policy.hours * 1000.0,
        })
    }
}

/// The lives in readings of one device after the other: their labels say when each failed, and nobody was called.
fn lives(scored: &[ScoredReading]) -> Vec<Life> {
    let end = |r: &ScoredReading| match r.label {
        RowLabel::Fails(ms) => Some(End::Failed(r.ts + ms)),
        RowLabel::Survives(_) => Some(End::Well),
        _ => None,
    };
    let same = |a: &ScoredReading, b: &ScoredReading| a.device == b.device && end(a) == end(b);
    let life = |rows: &[ScoredReading]| {
        let end = end(&rows[0])?;
        Some(Life { times: rows.iter().map(|r| r.ts).collect(), scores: rows.iter().map(|r| r.risk).collect(), end })
    };
    scored.chunk_by(same).filter_map(life).collect()
}
