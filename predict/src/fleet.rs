//! The fleet as predict sees it: every device's windows, gate and standing alert. Pure: messages and arrival times in, publishes and rows of the
//! scores archive out. Equal messages in equal order give equal publishes and rows, however they are cut into batches.

use std::collections::HashMap;
use std::sync::Arc;

use homeward_broker::Outgoing;
use homeward_models::drift::{DayReport, Monitor, is_counted};
use homeward_models::features::{FeatureSpec, Verdict, chain_event, chain_reading};
use homeward_models::topic::{Route, Topics};
use homeward_models::wire::{AckStatus, CallAck, Decoder, decode_ack, decode_event};
use homeward_models::{DeviceId, Event, EventKind, Finding, Fleet};

use crate::champion::InService;
use crate::device::{Device, Turn};
use crate::scribe::{At, Rows, Scribe};
use crate::speak::Speaker;
use crate::stats::{Drift, add};
use crate::{Settings, Stats};

/// Features named in word of a drift.
const NAMED: usize = 5;

/// A message as the fleet sees it.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its position in the inbox.
    pub seq: u64,
    /// Where it was published.
    pub topic: &'a [u8],
    /// What was published.
    pub payload: &'a [u8],
    /// When it arrived, milliseconds since 1970 UTC.
    pub received_at: i64,
    /// A device's time after this one is not believed; milliseconds since 1970 UTC.
    pub latest_ts: i64,
}

/// All devices.
#[derive(Debug)]
pub struct FleetState {
    /// The features while no model is in service: residual channels are missing.
    pub(crate) plain: FeatureSpec,
    topics: Topics,
    settings: Settings,
    decoder: Decoder,
    pub(crate) devices: HashMap<DeviceId, Device>,
    /// Devices that have sent a reading.
    heard: usize,
    raised: usize,
    pub(crate) service: Option<Arc<InService>>,
    stats: Arc<Stats>,
    row: Vec<f64>,
    scribe: Scribe,
    pub(crate) monitor: Monitor,
}

impl FleetState {
    /// A fleet that has not been heard yet. It writes rows for the archive if `archive` says so.
    pub fn new(fleet: &Fleet, topics: &Topics, settings: &Settings, stats: Arc<Stats>, archive: bool) -> Self {
        let plain = FeatureSpec::new(fleet);
        let row = vec![f64::NAN; plain.len()];
        let decoder = Decoder::new(fleet);
        Self {
            plain,
            topics: topics.clone(),
            scribe: if archive { Scribe::new(settings) } else { Scribe::default() },
            settings: settings.clone(),
            decoder,
            devices: HashMap::new(),
            heard: 0,
            raised: 0,
            service: None,
            stats,
            row,
            monitor: Monitor::default(),
        }
    }

    /// Takes a model into service. Alerts that stand go on standing.
    pub fn serve(&mut self, service: Arc<InService>) {
        self.service = Some(service);
    }

    /// Devices that have sent a reading.
    pub fn devices(&self) -> usize {
        self.heard
    }

    /// Takes the rows for the archive that came since the last time.
    pub(crate) fn take_rows(&mut self) -> Rows {
        self.scribe.take()
    }

    /// The features of the model in service.
    pub(crate) fn spec(&self) -> &FeatureSpec {
        self.service.as_ref().map_or(&self.plain, |s| &s.model.spec)
    }

    /// Takes a device that was kept. Its row says that it goes on, or begins anew.
    pub(crate) fn restore(&mut self, device: Device, at: At) {
        self.heard += usize::from(device.is_heard());
        self.raised += usize::from(device.gate.raised());
        let (ts, reason) = match device.state.newest() {
            Some(ts) => (ts, "restored"),
            None => (at.received_at, "new"),
        };
        self.scribe.write(at, device.row("start", ts, 0, Some(reason)), &self.stats);
        self.devices.insert(device.id.clone(), device);
    }

    /// Handles one message and adds what it causes to be published to `out`.
    pub fn handle(&mut self, message: &Incoming<'_>, out: &mut Vec<Outgoing>) {
        let topics = self.topics.clone();
        let at = At { seq: message.seq, idx: 0, received_at: message.received_at };
        match topics.route(std::str::from_utf8(message.topic).unwrap_or_default()) {
            _ if message.payload.len() > self.settings.max_message_bytes => add(&self.stats.skipped, 1),
            Route::Telemetry(name) if DeviceId::check(name).is_ok() => self.telemetry(name, message, out),
            Route::Events(name) if DeviceId::check(name).is_ok() => match decode_event(name, message.payload, message.latest_ts) {
                Ok(event) => self.event(name, &event, at, out),
                Err(_) => add(&self.stats.skipped, 1),
            },
            Route::Ack(name) => match decode_ack(message.payload) {
                Ok(ack) => self.ack(name, &ack, message.received_at, out),
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

    /// Shows how the present day compares with training, so far.
    pub fn show_drift(&self) {
        let shown = self.service.as_ref().and_then(|service| {
            let day = self.monitor.report(service.model.drift.as_ref()?)?;
            Some(Drift { features: service.features.clone().into(), day })
        });
        self.stats.set_drift(shown);
    }

    fn telemetry(&mut self, name: &str, message: &Incoming<'_>, out: &mut Vec<Outgoing>) {
        let Self { plain, topics, settings, decoder, devices, heard, raised, service, stats, row, scribe, monitor, .. } = self;
        let service = service.as_deref();
        let spec = service.map_or(&*plain, |s| &s.model.spec);
        decoder.telemetry(name, message.payload, message.latest_ts, |idx, _, outcome| {
            let Ok(reading) = outcome else { return add(&stats.skipped, 1) };
            let at = At { seq: message.seq, idx, received_at: message.received_at };
            let content = chain_reading(0, reading.ts, &reading.values);
            // A device's first reading or event makes it one.
            if !devices.contains_key(name) {
                let Ok(id) = DeviceId::parse(name) else { return };
                let device = Device::new(id.clone(), spec);
                scribe.write(at, device.row("start", reading.ts, content, Some("new")), stats);
                devices.insert(id, device);
            }
            let Some(device) = devices.get_mut(name) else { return };
            let verdict = device.state.reading(spec, reading.ts, &reading.values);
            match verdict {
                Verdict::Refused(refusal) => {
                    scribe.write(at, device.row("refused", reading.ts, content, Some(refusal.word())), stats);
                    return add(&stats.refused, 1);
                }
                Verdict::ClockStep => {
                    device.clock_step(reading.ts);
                    scribe.write(at, device.row("start", reading.ts, content, verdict.word()), stats);
                }
                Verdict::Accepted => *heard += usize::from(device.state.accepted() == 1),
            }
            device.sight.see(&settings.homing, reading.ts, &reading.values);
            let Some(service) = service else { return add(&stats.unscored, 1) };
            device.state.features(spec, row);
            add(&stats.scored, 1);
            let (n, speaker) = (device.state.accepted(), Speaker { service, topics, rules: settings.rules });
            let risk = Turn { device, settings, stats, raised, fleet_size: *heard, speaker, row, scribe, at, out }.scored(reading.ts, content);
            if let Some(reference) = service.model.drift.as_ref().filter(|_| is_counted(n))
                && let Some(day) = monitor.add(reference, at.received_at, row, risk)
            {
                let speaker = Speaker { service, topics, rules: settings.rules };
                out.extend(tell_drift(&day, &speaker, stats));
            }
        });
    }

    fn event(&mut self, name: &str, event: &Event, at: At, out: &mut Vec<Outgoing>) {
        let content = chain_event(0, event);
        if !self.devices.contains_key(name) && event.kind != EventKind::Retired {
            let Ok(id) = DeviceId::parse(name) else { return };
            let device = Device::new(id.clone(), self.spec());
            self.scribe.write(at, device.row("start", event.ts, content, Some("new")), &self.stats);
            self.devices.insert(id, device);
        }
        let spec = self.service.as_ref().map_or(&self.plain, |s| &s.model.spec);
        let Some(device) = self.devices.get_mut(name) else { return };
        device.state.event(spec, event);
        device.sight.event(event);
        let ended = ends(event, device) && device.gate.reset();
        self.raised -= usize::from(ended);
        let mut alert = None;
        if let Some(service) = self.service.as_ref().filter(|_| ended) {
            let speaker = Speaker { service, topics: &self.topics, rules: self.settings.rules };
            alert = device.clear(&speaker, &self.settings.homing, &self.stats, at.received_at, out);
        }
        let row = device.row("event", event.ts, content, Some(event.kind.code()));
        let row = homeward_store::archive::ScoreRow { alert_id: alert.as_deref(), ..row };
        self.scribe.write(at, row, &self.stats);
        if event.kind == EventKind::Retired {
            self.heard -= usize::from(device.is_heard());
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
            out.extend(speaker.operators(note, Some(&device.id), Some(&ack.alert_id), detail));
        }
        out.extend(speaker.health(device));
    }
}

/// Whether an event ends the episode that a device may be in.
fn ends(event: &Event, device: &Device) -> bool {
    match event.kind {
        EventKind::Maintenance | EventKind::Retired => true,
        // Nothing was found: the episode is over, and the next flight begins with a fresh gate, as the policy is priced.
        EventKind::Inspection(Finding::NoFaultFound) => {
            device.standing.as_ref().is_some_and(|s| event.alert_id.as_ref() == Some(&s.alert_id))
        }
        _ => false,
    }
}

/// Says how a day compared with training: a line of the log, and word to the operators if it was unlike it.
fn tell_drift(day: &DayReport, speaker: &Speaker<'_>, stats: &Stats) -> Option<Outgoing> {
    let names: Vec<String> = day
        .beyond()
        .into_iter()
        .take(NAMED)
        .map(|f| {
            let d = day.features[f];
            format!("{} (PSI {:.2}, {:.0} % missing)", speaker.service.features[f], d.psi, 100.0 * d.missing)
        })
        .collect();
    let (beyond, psi) = (day.features.iter().filter(|d| d.beyond).count(), day.risk.psi);
    tracing::info!(day = day.day, rows = day.rows, judged = day.judged, beyond, risk_psi = psi, drifted = day.drifted, "a day against training");
    if !day.drifted {
        return None;
    }
    add(&stats.drifted_days, 1);
    let when = homeward_models::time::rfc3339(day.day * 86_400_000);
    let detail = format!(
        "{} is unlike the days that the model learnt from: {beyond} features beyond their limits, risk PSI {psi:.2}; {}",
        &when[..10],
        names.join(", ")
    );
    speaker.operators("drift", None, None, detail)
}
