//! The fleet as predict sees it: every device's windows, gate and standing alert. Pure: messages and arrival times in, publishes out.

use std::collections::HashMap;
use std::sync::Arc;

use homeward_broker::Outgoing;
use homeward_models::call::{Action, State};
use homeward_models::decision::{Change, Gate, Rules, Standing};
use homeward_models::features::{DeviceState, FeatureSpec, Verdict};
use homeward_models::topic::{Route, Topics};
use homeward_models::wire::{AckStatus, CallAck, Decoder, decode_ack, decode_event};
use homeward_models::{DeviceId, Event, EventKind, Finding, Fleet};

use crate::champion::InService;
use crate::speak::Speaker;
use crate::stats::add;
use crate::{Settings, Stats};

/// What predict remembers of one device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    state: DeviceState,
    gate: Gate,
    /// The alert that stands, if any.
    pub(crate) standing: Option<Standing>,
    /// Whether its calls go to the operators only.
    operators_only: bool,
    /// `ts` of the newest scored reading, and its risks, one a horizon.
    pub(crate) ts: i64,
    pub(crate) risks: Vec<f64>,
    /// When the last call ends, by our clock.
    call_ends: i64,
    /// Whether the last call has ended unanswered.
    pub(crate) expired: bool,
    /// When its health was last published, by our clock.
    health_at: i64,
}

/// All devices.
#[derive(Debug)]
pub struct FleetState {
    spec: FeatureSpec,
    topics: Topics,
    settings: Settings,
    decoder: Decoder,
    devices: HashMap<DeviceId, Device>,
    raised: usize,
    service: Option<Arc<InService>>,
    stats: Arc<Stats>,
    row: Vec<f64>,
}

impl FleetState {
    /// A fleet that has not been heard yet.
    pub fn new(fleet: &Fleet, topics: &Topics, settings: &Settings, stats: Arc<Stats>) -> Self {
        let spec = FeatureSpec::new(fleet);
        let row = vec![f64::NAN; spec.len()];
        let decoder = Decoder::new(fleet);
        Self {
            spec,
            topics: topics.clone(),
            settings: settings.clone(),
            decoder,
            devices: HashMap::new(),
            raised: 0,
            service: None,
            stats,
            row,
        }
    }

    /// Takes a model into service. Alerts that stand go on standing.
    pub fn serve(&mut self, service: Arc<InService>) {
        self.service = Some(service);
    }

    /// Devices heard.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Handles one message that arrived at `now` and adds what it causes to be published to `out`. A device's time after `latest_ts` is not
    /// believed. Both in milliseconds since 1970 UTC.
    pub fn handle(&mut self, topic: &[u8], payload: &[u8], now: i64, latest_ts: i64, out: &mut Vec<Outgoing>) {
        let topic = std::str::from_utf8(topic).unwrap_or_default();
        match self.topics.route(topic) {
            _ if payload.len() > self.settings.max_message_bytes => add(&self.stats.skipped, 1),
            Route::Telemetry(name) if DeviceId::check(name).is_ok() => self.telemetry(name, payload, now, latest_ts, out),
            Route::Events(name) if DeviceId::check(name).is_ok() => match decode_event(name, payload, latest_ts) {
                Ok(event) => self.event(name, &event, now, out),
                Err(_) => add(&self.stats.skipped, 1),
            },
            Route::Ack(name) => match decode_ack(payload) {
                Ok(ack) => self.ack(name, &ack, now, out),
                Err(refused) => tracing::warn!(device = name, %refused, "answer to a call cannot be read"),
            },
            _ => add(&self.stats.skipped, 1),
        }
    }

    /// Marks calls that have ended unanswered by `now`, so that health says so.
    pub fn expire(&mut self, now: i64, out: &mut Vec<Outgoing>) {
        let Some(service) = self.service.clone() else { return };
        let speaker = Speaker { service: &service, topics: &self.topics, rules: self.settings.rules };
        for device in self
            .devices
            .values_mut()
            .filter(|d| d.standing.as_ref().is_some_and(|s| s.answer.is_none()) && !d.operators_only && !d.expired && now >= d.call_ends)
        {
            device.expired = true;
            device.health_at = now;
            out.extend(speaker.health(device));
        }
    }

    fn telemetry(&mut self, name: &str, payload: &[u8], now: i64, latest_ts: i64, out: &mut Vec<Outgoing>) {
        let Self { spec, topics, settings, decoder, devices, raised, service, stats, row } = self;
        decoder.telemetry(name, payload, latest_ts, |_, _, outcome| {
            let Ok(reading) = outcome else { return add(&stats.skipped, 1) };
            // A device is one that has sent a reading: junk under made-up names must not grow the fleet.
            if !devices.contains_key(name) {
                let Ok(id) = DeviceId::parse(name) else { return };
                devices.insert(id.clone(), Device::new(id, spec));
            }
            let fleet_size = devices.len();
            let Some(device) = devices.get_mut(name) else { return };
            match device.state.reading(spec, reading.ts, &reading.values) {
                Verdict::Refused(_) => return add(&stats.refused, 1),
                Verdict::ClockStep => device.clock_step(reading.ts),
                Verdict::Accepted => (),
            }
            let Some(service) = service else { return add(&stats.unscored, 1) };
            device.state.features(spec, row);
            add(&stats.scored, 1);
            let speaker = Speaker { service, topics, rules: settings.rules };
            Turn { device, settings, stats, raised, fleet_size, speaker, row, now, out }.scored(reading.ts);
        });
    }

    fn event(&mut self, name: &str, event: &Event, now: i64, out: &mut Vec<Outgoing>) {
        let Some(device) = self.devices.get_mut(name) else { return };
        device.state.event(&self.spec, event);
        let answered = match event.kind {
            EventKind::Maintenance | EventKind::Retired => true,
            // Nothing was found: the episode is over, and the next flight begins with a fresh gate, as the policy is priced.
            EventKind::Inspection(Finding::NoFaultFound) => {
                device.standing.as_ref().is_some_and(|s| event.alert_id.as_ref() == Some(&s.alert_id))
            }
            _ => false,
        };
        if answered && device.gate.reset() {
            self.raised -= 1;
            if let Some(service) = &self.service {
                let speaker = Speaker { service, topics: &self.topics, rules: self.settings.rules };
                device.clear(&speaker, &self.stats, now, out);
            }
        }
        if event.kind == EventKind::Retired {
            self.devices.remove(name);
        }
    }

    fn ack(&mut self, name: &str, ack: &CallAck, now: i64, out: &mut Vec<Outgoing>) {
        let (Some(device), Some(service)) = (self.devices.get_mut(name), &self.service) else { return };
        let Some(standing) = device.standing.as_mut().filter(|s| s.alert_id == ack.alert_id) else { return };
        standing.answer = Some(ack.status);
        device.expired = false;
        device.health_at = now;
        let speaker = Speaker { service, topics: &self.topics, rules: self.settings.rules };
        if matches!(ack.status, AckStatus::Rejected | AckStatus::Failed) {
            let note = if ack.status == AckStatus::Rejected { "call_rejected" } else { "call_failed" };
            let detail = format!("by {}: {}", ack.by, ack.reason.as_deref().unwrap_or("no reason given"));
            out.extend(speaker.operators(note, &device.id, &ack.alert_id, detail));
        }
        out.extend(speaker.health(device));
    }
}

impl Device {
    fn new(id: DeviceId, spec: &FeatureSpec) -> Self {
        Self {
            id,
            state: DeviceState::new(spec),
            gate: Gate::default(),
            standing: None,
            operators_only: false,
            ts: 0,
            risks: Vec::new(),
            call_ends: 0,
            expired: false,
            health_at: i64::MIN,
        }
    }

    /// Event time begins anew at `ts`: what was counted in the old one is dropped, an alert that stands goes on.
    fn clock_step(&mut self, ts: i64) {
        self.gate.forget_times();
        if let Some(standing) = &mut self.standing {
            standing.called_ts = ts;
        }
    }

    fn clear(&mut self, speaker: &Speaker<'_>, stats: &Stats, now: i64, out: &mut Vec<Outgoing>) {
        let Some(standing) = self.standing.take() else { return };
        add(&stats.cleared, 1);
        self.health_at = now;
        if !self.operators_only {
            out.extend(speaker.call(self, &standing, State::Cleared, Action::Return, &[]));
        }
        out.extend(speaker.health(self));
    }
}

/// One scored reading of one device.
struct Turn<'a> {
    device: &'a mut Device,
    settings: &'a Settings,
    stats: &'a Stats,
    raised: &'a mut usize,
    fleet_size: usize,
    speaker: Speaker<'a>,
    row: &'a [f64],
    now: i64,
    out: &'a mut Vec<Outgoing>,
}

impl Turn<'_> {
    fn scored(&mut self, ts: i64) {
        let model = &self.speaker.service.model;
        self.device.ts = ts;
        self.device.risks.resize(model.horizons.len(), 0.0);
        model.score(self.row, &mut self.device.risks);
        let risk = self.device.risks.last().copied().unwrap_or_default();
        match self.device.gate.step(ts, risk, model.threshold, &model.rules) {
            Change::Raised => self.raise(ts),
            Change::Cleared => {
                *self.raised -= 1;
                self.device.clear(&self.speaker, self.stats, self.now, self.out);
            }
            Change::None => self.go_on(ts),
        }
    }

    fn raise(&mut self, ts: i64) {
        add(&self.stats.raised, 1);
        *self.raised += 1;
        let reasons = self.speaker.reasons(self.row);
        let component = self.speaker.component(self.row);
        let standing = Standing::raise(self.device.id.as_str(), ts, &self.speaker.service.version, component);
        self.device.operators_only = *self.raised > allowed(self.settings.rules, self.fleet_size);
        if self.device.operators_only {
            let detail = format!("{} of {} devices raised: no call, decide by hand", self.raised, self.fleet_size);
            self.out.extend(self.speaker.operators("too_many_raised", &self.device.id, &standing.alert_id, detail));
        } else {
            self.out.extend(self.speaker.call(self.device, &standing, State::Raised, Action::Return, &reasons));
        }
        self.device.standing = Some(standing);
        self.called();
    }

    /// Repeats the call if it is due, else says how the device is if that is due.
    fn go_on(&mut self, ts: i64) {
        let due = !self.device.operators_only && self.device.standing.as_mut().is_some_and(|s| s.repeat(ts, &self.settings.rules));
        if due {
            if let Some(standing) = self.device.standing.clone() {
                let reasons = self.speaker.reasons(self.row);
                self.out.extend(self.speaker.call(self.device, &standing, State::Raised, Action::Return, &reasons));
            }
            self.called();
        } else if self.now.saturating_sub(self.device.health_at) >= self.settings.health_every {
            self.device.health_at = self.now;
            self.out.extend(self.speaker.health(self.device));
        }
    }

    fn called(&mut self) {
        self.device.call_ends = self.now + self.settings.rules.expiry;
        self.device.expired = false;
        self.device.health_at = self.now;
        self.out.extend(self.speaker.health(self.device));
    }
}

/// How many devices of a fleet may be called at once: the share, and always one.
fn allowed(rules: Rules, fleet: usize) -> usize {
    ((rules.max_raised_share * fleet as f64).ceil() as usize).max(1)
}
