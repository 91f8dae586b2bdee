//! The closed loop: a simulated fleet whose drones obey, a model trained anew each month on all that was archived, and the next month flown under it.
//!
//! What a good model does removes the failures that the next one would learn from. A year tells whether labels and prices take that into account:
//! each month's model is priced on a yardstick, a fleet that nobody calls and no model has seen.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod service;
mod yardstick;

use homeward_data::Record;
use homeward_data::sim::{Fleet as SimFleet, SimConfig};
use homeward_models::artifact::Model;
use homeward_models::cost::WrittenCosts;
use homeward_models::decision::WrittenDecide;
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::{Registry, Store};
use homeward_train::{Promote, Settings, WrittenTrain};
use serde::Deserialize;

pub use service::Served;

use archive::Archive;
use service::Service;
use yardstick::Yardstick;

/// Thirty days, seconds.
const MONTH_S: f64 = 30.0 * 86_400.0;

/// A year to fly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Year {
    /// Seed of the fleet and of the trainings; that of the yardstick follows from it.
    pub seed: u64,
    /// Months, each but the last followed by a training.
    pub months: usize,
    /// Drones; each flies about once in twenty hours, a reading every five seconds.
    pub drones: usize,
    /// Whether the trainings take what was called and repaired for healthy.
    pub naive: bool,
}

/// One training, and the month flown under its model.
#[derive(Debug, Clone, PartialEq)]
pub struct Month {
    /// The training's number, from 1.
    pub number: usize,
    /// Failures that it learnt from.
    pub failures: usize,
    /// Of the failures those that an inspection forestalled.
    pub confirmed: usize,
    /// Share of the avoidable cost that its model saves on the yardstick: 0 nobody is called, 1 the oracle.
    pub saved: f64,
    /// Mean lead of its calls on the yardstick, minutes.
    pub lead_min: f64,
    /// False alarms in 1,000 operating hours on the yardstick.
    pub false_per_1000h: f64,
    /// What came of the month flown under it; of the last training there is none.
    pub served: Option<Served>,
}

/// What of a configuration the loop needs.
#[derive(Debug, Deserialize)]
struct Written {
    fleet: WrittenFleet,
    #[serde(default)]
    train: WrittenTrain,
    #[serde(default)]
    costs: WrittenCosts,
    #[serde(default)]
    decide: WrittenDecide,
}

/// A configuration, checked.
pub(crate) struct Config {
    pub(crate) written: WrittenFleet,
    pub(crate) fleet: Fleet,
    pub(crate) decide: WrittenDecide,
    pub(crate) settings: Settings,
}

impl Year {
    /// Flies the year under the configuration `toml`; `tell` hears of each month as it ends.
    ///
    /// # Errors
    /// The configuration, the store in memory or a training failed.
    pub async fn fly(&self, toml: &str, mut tell: impl FnMut(&Month)) -> anyhow::Result<Vec<Month>> {
        let config = self.config(toml)?;
        let store = Store::open("memory:///", std::iter::empty())?;
        let registry = Registry::new(store.clone(), config.written.name.parse()?);
        let yardstick = Yardstick::fly(&config, SimConfig { obey: false, duration_s: MONTH_S, ..self.sim(self.seed + 1_000_000) }).await?;
        let mut archive = Archive::new(store.clone(), &config)?;
        let mut service = Service::new(&config)?;
        let mut fleet = SimFleet::new(&self.sim(self.seed).check()?);
        let (start, mut record, mut months) = (fleet.now_ms(), Record::default(), Vec::<Month>::new());
        let mut more = fleet.next(&mut record);
        for month in 1..=self.months {
            let ends = start + (month as f64 * MONTH_S * 1000.0) as i64;
            while more && record.ts < ends {
                archive.take(&record).await?;
                service.hear(&record, &mut fleet)?;
                more = fleet.next(&mut record);
            }
            archive.seal().await?;
            let served = service.month(&fleet);
            if let Some(last) = months.last_mut() {
                last.served = Some(served);
                tell(last);
            }
            let trained = homeward_train::train(&store, &config.fleet, &config.settings, ends, &|_| ()).await?;
            let version = trained.version.ok_or_else(|| anyhow::anyhow!("no model came of month {month}: {}", trained.why))?;
            let model = Model::parse(&registry.get_model(&version).await?)?;
            let (labels, measured) = (&trained.metrics.labels, yardstick.measure(&model).await?);
            months.push(Month {
                number: month,
                failures: labels.failures,
                confirmed: labels.confirmed,
                saved: measured.saved,
                lead_min: measured.lead_min,
                false_per_1000h: measured.false_per_1000h,
                served: None,
            });
            service.serve(model, &config.written.name, version.as_str());
        }
        if let Some(last) = months.last() {
            tell(last);
        }
        Ok(months)
    }

    fn config(&self, text: &str) -> anyhow::Result<Config> {
        let written: Written = toml::from_str(text)?;
        let train = WrittenTrain { seed: self.seed, ..written.train };
        // Whatever comes goes into service: what the gate would hold back is to be seen.
        let settings =
            Settings { promote: Promote::Always, naive_labels: self.naive, ..Settings::check(&train, &written.decide, &written.costs)? };
        Ok(Config { fleet: Fleet::check(&written.fleet)?, written: written.fleet, decide: written.decide, settings })
    }

    fn sim(&self, seed: u64) -> SimConfig {
        SimConfig {
            seed,
            drones: self.drones,
            duration_s: self.months as f64 * MONTH_S,
            rate_hz: 0.2,
            rest: 120.0,
            mean_life_h: 4.0,
            ..SimConfig::default()
        }
    }
}
