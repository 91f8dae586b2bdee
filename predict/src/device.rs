//! One device as predict sees it, and what a scored reading changes about it.

use homeward_broker::Outgoing;
use homeward_models::DeviceId;
use homeward_models::call::{Action, Advice, ExpectedCost, State};
use homeward_models::decision::{Change, Gate, Homing, Outlook, Rules, Sight, Standing, decide, unweighed};
use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_store::archive::ScoreRow;

use crate::scribe::{At, Scribe, bits};
use crate::speak::Speaker;
use crate::stats::add;
use crate::{Settings, Stats};

/// What predict remembers of one device.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) state: DeviceState,
    pub(crate) gate: Gate,
    /// The alert that stands, if any.
    pub(crate) standing: Option<Standing>,
    /// What was advised last while it stands.
    pub(crate) advice: Advice,
    /// Whether its calls go to the operators only.
    pub(crate) operators_only: bool,
    /// `ts` of the newest scored reading, and its risks, one a horizon.
    pub(crate) ts: i64,
    pub(crate) risks: Vec<f64>,
    /// When the last call ends, by our clock.
    pub(crate) call_ends: i64,
    /// Whether the last call has ended unanswered.
    pub(crate) expired: bool,
    /// When its health was last published, by our clock.
    pub(crate) health_at: i64,
    /// Its way home.
    pub(crate) sight: Sight,
    /// The model that scored it last.
    pub(crate) model: Option<String>,
}

impl Device {
    pub(crate) fn new(id: DeviceId, spec: &FeatureSpec) -> Self {
        Self {
            id,
            state: DeviceState::new(spec),
            gate: Gate::default(),
            standing: None,
            advice: Advice::Fly,
            operators_only: false,
            ts: 0,
            risks: Vec::new(),
            call_ends: 0,
            expired: false,
            health_at: i64::MIN,
            sight: Sight::default(),
            model: None,
        }
    }

    /// Whether it has sent a reading: a name in an event alone is no device of the fleet.
    pub(crate) fn is_heard(&self) -> bool {
        self.state.accepted() > 0
    }

    /// Event time begins anew at `ts`: what was counted in the old one is dropped, an alert that stands goes on.
    pub(crate) fn clock_step(&mut self, ts: i64) {
        self.gate.forget_times();
        self.sight.forget_times();
        if let Some(standing) = &mut self.standing {
            standing.called_ts = ts;
        }
    }

    /// Ends the episode; the alert that ended.
    pub(crate) fn clear(
        &mut self,
        speaker: &Speaker<'_>,
        homing: &Homing,
        stats: &Stats,
        now: i64,
        out: &mut Vec<Outgoing>,
    ) -> Option<String> {
        let standing = self.standing.take()?;
        add(&stats.cleared, 1);
        self.health_at = now;
        if !self.operators_only {
            let (action, cost) = (self.advice.action().unwrap_or(Action::Return), self.weigh(speaker, homing).1);
            out.extend(speaker.call(self, &standing, State::Cleared, action, cost, &[]));
        }
        self.advice = Advice::Fly;
        out.extend(speaker.health(self));
        Some(standing.alert_id)
    }

    /// The advice of least expected cost now; where the risk is no probability, to come home.
    fn weigh(&self, speaker: &Speaker<'_>, homing: &Homing) -> (Advice, ExpectedCost) {
        let model = &speaker.service.model;
        let situation = self.sight.situation(homing, self.ts);
        if !model.form.is_probability() {
            return unweighed(&situation);
        }
        decide(&Outlook { horizons: &model.horizons, risks: &self.risks }, &situation, &model.costs, homing)
    }

    /// A row of this device as it stands.
    pub(crate) fn row<'a>(&'a self, kind: &'a str, ts: i64, content: u64, reason: Option<&'a str>) -> ScoreRow<'a> {
        ScoreRow {
            device: self.id.as_str(),
            ts,
            kind,
            n: i64::try_from(self.state.accepted()).unwrap_or(i64::MAX),
            chain: bits(self.state.chain()),
            content: bits(content),
            threshold: f64::NAN,
            reason,
            ..ScoreRow::default()
        }
    }
}

/// One scored reading of one device.
pub(crate) struct Turn<'a> {
    pub(crate) device: &'a mut Device,
    pub(crate) settings: &'a Settings,
    pub(crate) stats: &'a Stats,
    pub(crate) raised: &'a mut usize,
    pub(crate) fleet_size: usize,
    pub(crate) speaker: Speaker<'a>,
    pub(crate) row: &'a [f64],
    pub(crate) scribe: &'a mut Scribe,
    pub(crate) at: At,
    pub(crate) out: &'a mut Vec<Outgoing>,
}

impl Turn<'_> {
    /// Scores the reading of `ts` and hash `content`, decides, speaks, and writes the row if it is one to be kept; its risk at the last horizon.
    pub(crate) fn scored(&mut self, ts: i64, content: u64) -> f64 {
        let model = &self.speaker.service.model;
        self.device.ts = ts;
        self.device.risks.resize(model.horizons.len(), 0.0);
        self.speaker.service.scoring.score(self.row, &mut self.device.risks);
        let risk = self.device.risks.last().copied().unwrap_or_default();
        let change = self.device.gate.step(ts, risk, model.threshold, &self.speaker.service.rules);
        let alert = match change {
            Change::Raised => Some(self.raise(ts)),
            Change::Cleared => {
                *self.raised -= 1;
                self.device.clear(&self.speaker, &self.settings.homing, self.stats, self.at.received_at, self.out)
            }
            Change::None => {
                self.go_on(ts);
                None
            }
        };
        self.write(ts, content, change, alert.as_deref());
        risk
    }

    fn write(&mut self, ts: i64, content: u64, change: Change, alert: Option<&str>) {
        let version = &self.speaker.service.version;
        let fresh = self.device.model.as_deref() != Some(version);
        if fresh {
            self.device.model = Some(version.clone());
        }
        let reason = match change {
            Change::Raised => "raised",
            Change::Cleared => "cleared",
            Change::None if fresh => "model",
            Change::None if self.scribe.samples(self.device.state.chain()) => "sample",
            Change::None => return,
        };
        let features = change != Change::None || self.scribe.keeps_features(self.device.state.chain());
        let row = ScoreRow {
            features: if features { self.row } else { &[] },
            risks: &self.device.risks,
            threshold: self.speaker.service.model.threshold,
            model_version: Some(version),
            alert_id: alert,
            ..self.device.row("scored", ts, content, Some(reason))
        };
        self.scribe.write(self.at, row, self.stats);
    }

    /// Raises; the alert's name.
    fn raise(&mut self, ts: i64) -> String {
        add(&self.stats.raised, 1);
        *self.raised += 1;
        let component = self.speaker.component(self.row);
        let standing = Standing::raise(self.device.id.as_str(), ts, &self.speaker.service.version, component);
        let alert = standing.alert_id.clone();
        self.device.operators_only = *self.raised > allowed(self.settings.rules, self.fleet_size);
        self.device.standing = Some(standing);
        if self.device.operators_only {
            let detail = format!("{} of {} devices raised: no call, decide by hand", self.raised, self.fleet_size);
            self.device.advice = self.device.weigh(&self.speaker, &self.settings.homing).0;
            self.out.extend(self.speaker.operators("too_many_raised", Some(&self.device.id), Some(&alert), detail));
            self.said();
        } else {
            self.call();
        }
        alert
    }

    /// Calls if that is due, else says how the device is if that is due. A call that was withheld, since going on was expected to cost least, is
    /// due as soon as it is not.
    fn go_on(&mut self, ts: i64) {
        let withheld = self.device.advice == Advice::Fly;
        let waits = |s: &Standing| withheld && s.answer.is_none();
        let calls = !self.device.operators_only;
        if calls && self.device.standing.as_ref().is_some_and(waits) {
            let advice = self.device.weigh(&self.speaker, &self.settings.homing).0;
            if advice != Advice::Fly {
                if let Some(standing) = &mut self.device.standing {
                    standing.called_ts = ts;
                }
                return self.call();
            }
        } else if calls && self.device.standing.as_mut().is_some_and(|s| s.repeat(ts, &self.settings.rules)) {
            return self.call();
        }
        if self.at.received_at.saturating_sub(self.device.health_at) >= self.settings.health_every {
            self.device.health_at = self.at.received_at;
            self.out.extend(self.speaker.health(self.device));
        }
    }

    /// Calls for the action of least expected cost now; none if that is to go on.
    fn call(&mut self) {
        let (advice, cost) = self.device.weigh(&self.speaker, &self.settings.homing);
        self.device.advice = advice;
        if let (Some(standing), Some(action)) = (&self.device.standing, advice.action()) {
            let reasons = self.speaker.reasons(self.row);
            self.out.extend(self.speaker.call(self.device, standing, State::Raised, action, cost, &reasons));
        }
        self.said();
    }

    fn said(&mut self) {
        let now = self.at.received_at;
        self.device.call_ends = now + self.settings.rules.expiry;
        self.device.expired = false;
        self.device.health_at = now;
        self.out.extend(self.speaker.health(self.device));
    }
}

/// How many devices of a fleet may be called at once: the share, and always one.
fn allowed(rules: Rules, fleet: usize) -> usize {
    ((rules.max_raised_share * fleet as f64).ceil() as usize).max(1)
}
