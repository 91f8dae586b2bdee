//! The month as predict serves it: every message goes through its fleet, and its calls to the drones, which obey.

use std::collections::HashSet;
use std::sync::Arc;

use homeward_data::Record;
use homeward_data::sim::{Fleet, Obeyed, Outcome};
use homeward_models::artifact::Model;
use homeward_models::cost::Costs;
use homeward_models::topic::{Topics, WrittenTopics};
use homeward_predict::fleet::{FleetState, Incoming};
use homeward_predict::{InService, Settings, Stats, WrittenPredict};
use serde::Deserialize;

use crate::Config;
use crate::archive::topic;

/// What came of a month.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Served {
    /// Flying hours.
    pub hours: f64,
    /// Drones that failed in the air.
    pub failed: usize,
    /// Drones that were called and repaired before they did.
    pub repaired: usize,
    /// Calls after which nothing was found.
    pub in_vain: usize,
    /// Money per flying hour; the lives that repairs threw away are left out.
    pub cost_per_hour: f64,
}

/// Predict's fleet, and what came of its calls so far.
pub(crate) struct Service {
    state: FleetState,
    topics: Topics,
    costs: Costs,
    seq: u64,
    /// Alerts that a drone has heard.
    heard: HashSet<String>,
    obeyed: usize,
    before: Totals,
}

/// Since the beginning.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    hours: f64,
    failed: usize,
    repaired: usize,
    obeyed: usize,
}

/// A call, as far as a drone reads it.
#[derive(Deserialize)]
struct Call {
    device: String,
    alert_id: String,
    state: String,
}

impl Service {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let topics = Topics::check(&WrittenTopics::default())?;
        let written = WrittenPredict::default();
        let settings = Settings::check(&written, &config.decide, &config.fleet, 1 << 18, false)?;
        let state = FleetState::new(&config.fleet, &topics, &settings, Arc::<Stats>::default(), false);
        let costs = config.settings.costs;
        Ok(Self { state, topics, costs, seq: 0, heard: HashSet::new(), obeyed: 0, before: Totals::default() })
    }

    pub(crate) fn serve(&mut self, model: Model, name: &str, version: &str) {
        self.state.serve(Arc::new(InService::new(model, name.into(), version.into())));
    }

    /// Hears a message and calls whom it says to.
    pub(crate) fn hear(&mut self, record: &Record, fleet: &mut Fleet) -> anyhow::Result<()> {
        let topic = topic(&self.topics, record);
        let message =
            Incoming { seq: self.seq, topic: topic.as_bytes(), payload: &record.payload, received_at: record.ts, latest_ts: i64::MAX };
        self.seq += 1;
        let mut out = Vec::new();
        self.state.handle(&message, &mut out);
        let calls = self.topics.return_to_base.of(&record.device);
        for sent in out.iter().filter(|sent| *sent.topic == *calls) {
            let call: Call = serde_json::from_slice(&sent.payload)?;
            if call.state == "raised" && !self.heard.contains(&call.alert_id) {
                let obeyed = fleet.call(&call.device, &call.alert_id, record.ts);
                self.obeyed += usize::from(matches!(obeyed, Obeyed::Returning | Obeyed::Grounded));
                self.heard.insert(call.alert_id);
            }
        }
        Ok(())
    }

    /// What came of the time since this was last asked.
    pub(crate) fn month(&mut self, fleet: &Fleet) -> Served {
        let truth = fleet.truth();
        let ended = |outcome| truth.iter().filter(|t| t.outcome == outcome).count();
        let now = Totals { hours: fleet.flown_h(), failed: ended(Outcome::Failed), repaired: ended(Outcome::Saved), obeyed: self.obeyed };
        let (before, c) = (std::mem::replace(&mut self.before, now), &self.costs);
        let hours = now.hours - before.hours;
        let (failed, repaired) = (now.failed - before.failed, now.repaired - before.repaired);
        // A call at the month's end may be answered in the next one.
        let in_vain = (now.obeyed - before.obeyed).saturating_sub(repaired);
        let cost = failed as f64 * c.failure + repaired as f64 * (c.trip + c.repair) + in_vain as f64 * (c.trip + c.inspect);
        Served { hours, failed, repaired, in_vain, cost_per_hour: cost / hours }
    }
}
