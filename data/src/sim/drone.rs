//! One drone's life: it flies, rests, is repaired, is called home; and what of that is sent.

use super::airframe::Airframe;
use super::chaos::{Chaos, Delivery};
use super::config::CheckedConfig;
use super::events::{self, Agenda};
use super::faults::{Fate, FaultKind, Outcome, Truth};
use super::fleet::Obeyed;
use super::flight::Flight;
use super::rng::Dice;
use super::wire::{quantise, write_reading};
use crate::{Kind, Record};

/// A failure time that nobody has worked out yet.
const UNKNOWN: i64 = i64::MIN;

#[derive(Debug, Clone)]
enum Mode {
    /// On the ground since this time; takes off at the next step. In the workshop it is already being looked at.
    Ground {
        since: i64,
        workshop: bool,
    },
    Flying(Flight),
}

/// A call that the drone follows.
#[derive(Debug, Clone)]
struct Call {
    alert_id: String,
    at: i64,
}

/// A drone with its future; steps from message to message.
#[derive(Debug, Clone)]
pub(crate) struct Drone {
    pub(crate) id: String,
    world: Dice,
    chaos: Chaos,
    airframe: Airframe,
    mode: Mode,
    agenda: Agenda,
    fate: Fate,
    /// The fate's place in `truths`, once it has begun.
    known: Option<usize>,
    truths: Vec<Truth>,
    called: Option<Call>,
    step_ms: i64,
    period_ms: i64,
    /// Flying time so far, ms.
    pub(crate) flown: i64,
    mean_life_h: f64,
    rest: f64,
    sudden_share: f64,
    obeys: bool,
}

impl Drone {
    /// The drone number `index` (from 0) of a fleet.
    pub(crate) fn new(config: &CheckedConfig, index: usize) -> Self {
        let period_ms = config.period_ms();
        let values = config.get();
        let mut world = Dice::new(values.seed, 2 * index as u64);
        let chaos = Chaos::new(&values.mess, Dice::new(values.seed, 2 * index as u64 + 1));
        let airframe = Airframe::new(period_ms as f64 / 1000.0, &mut world);
        let fate = Fate::draw(0, values.mean_life_h, values.sudden_share, &mut world);
        let firmware = ["4.5.1", "4.5.3", "4.6.0"][world.below(3)];
        let born = values.start_ms + world.seconds(0.0, 1.0);
        let mut agenda = Agenda::default();
        agenda.add(born, events::attributes(born, firmware, airframe.home()));
        Drone {
            id: format!("d-{:03}", index + 1),
            step_ms: born + world.seconds(1.0, 900.0),
            mode: Mode::Ground { since: values.start_ms - 3_600_000, workshop: false },
            known: None,
            truths: Vec::new(),
            called: None,
            flown: 0,
            mean_life_h: values.mean_life_h,
            rest: values.rest,
            sudden_share: values.sudden_share,
            obeys: values.obey,
            world,
            chaos,
            airframe,
            agenda,
            fate,
            period_ms,
        }
    }

    /// When [`Drone::emit`] has something to do next.
    pub(crate) fn next_at(&self) -> i64 {
        self.agenda.next_at().min(self.chaos.held.at).min(self.step_ms)
    }

    /// Does what is due at [`Drone::next_at`]; true when that was a message, now in `out`.
    pub(crate) fn emit(&mut self, out: &mut Record) -> bool {
        let now = self.next_at();
        if self.agenda.next_at() == now {
            if let Some((_, body)) = self.agenda.pop() {
                self.address(out, Kind::Event, now);
                out.payload.clear();
                out.payload.extend_from_slice(&body);
            }
            return true;
        }
        if self.chaos.held.at == now {
            self.address(out, Kind::Telemetry, now);
            std::mem::swap(&mut out.payload, &mut self.chaos.held.payload);
            self.chaos.held.at = i64::MAX;
            return true;
        }
        self.step() && self.read(now, out)
    }

    /// The call `alert_id` reaches the drone at `now`.
    pub(crate) fn call(&mut self, alert_id: &str, now: i64) -> Obeyed {
        if !self.obeys {
            return Obeyed::Ignored;
        }
        match &self.mode {
            Mode::Ground { workshop: true, .. } => Obeyed::InWorkshop,
            Mode::Ground { .. } => {
                let at = now.min(self.step_ms);
                self.foresee();
                self.inspect(at, Call { alert_id: alert_id.to_owned(), at: now });
                Obeyed::Grounded
            }
            Mode::Flying(_) if self.called.is_some() => Obeyed::AlreadyReturning,
            Mode::Flying(_) => {
                self.foresee();
                self.called = Some(Call { alert_id: alert_id.to_owned(), at: now });
                if let Some(truth) = self.known.and_then(|i| self.truths.get_mut(i)) {
                    truth.called_ms.get_or_insert(now);
                }
                if let Mode::Flying(flight) = &mut self.mode {
                    flight.turn_home();
                }
                Obeyed::Returning
            }
        }
    }

    /// What was and is wrong with the drone.
    pub(crate) fn truths(&self) -> Vec<Truth> {
        let mut seer = self.clone();
        seer.foresee();
        seer.truths
    }

    fn address(&self, out: &mut Record, kind: Kind, ts: i64) {
        out.device.clear();
        out.device.push_str(&self.id);
        out.kind = kind;
        out.ts = ts;
    }

    /// Moves the drone's world to `step_ms` and sets the next one; true when it is in the air and has something to measure.
    fn step(&mut self) -> bool {
        let now = self.step_ms;
        match std::mem::replace(&mut self.mode, Mode::Ground { since: now, workshop: false }) {
            Mode::Ground { since, .. } => {
                self.airframe.prepare(now, (now - since) as f64 / 1000.0, &mut self.world);
                self.mode = Mode::Flying(Flight::plan(now, &mut self.world));
                self.step_ms = now + self.period_ms;
                false
            }
            Mode::Flying(flight) => self.fly(now, flight),
        }
    }

    fn fly(&mut self, now: i64, mut flight: Flight) -> bool {
        self.flown += self.period_ms;
        if self.fate.grows(self.flown) && self.known.is_none() {
            self.begin_fault(now);
        }
        if self.flown >= self.fate.failure {
            self.fail(now);
            return false;
        }
        let symptom = self.fate.symptom(self.flown);
        let landed = self.airframe.step(now, &mut flight, symptom, &mut self.world);
        if landed {
            self.land(now);
            return true;
        }
        if self.airframe.charge() < 0.15 {
            flight.turn_home();
        }
        self.mode = Mode::Flying(flight);
        self.step_ms = now + self.period_ms;
        true
    }

    fn begin_fault(&mut self, now: i64) {
        self.known = Some(self.truths.len());
        self.truths.push(Truth {
            device: self.id.clone(),
            component: self.fate.component,
            kind: self.fate.kind,
            onset_ms: now,
            failure_ms: UNKNOWN,
            outcome: Outcome::Pending,
            called_ms: self.called.as_ref().map(|call| call.at),
        });
    }

    /// Breaks in the air at `now`: the flight is over, the part is replaced within the hour.
    fn fail(&mut self, now: i64) {
        if self.fate.kind == FaultKind::Sudden {
            self.begin_fault(now);
        }
        self.settle(Outcome::Failed, Some(now));
        self.called = None;
        // The device reports its failure itself, by its own clock; the workshop has a right one.
        let device_ts = now + self.chaos.clock_offset;
        self.agenda.add(now, events::failure(device_ts, self.fate.component));
        self.mode = Mode::Ground { since: now, workshop: true };
        let repaired = now + self.world.seconds(1800.0, 3600.0);
        self.repair(repaired);
    }

    fn land(&mut self, now: i64) {
        self.mode = Mode::Ground { since: now, workshop: false };
        self.step_ms = now + self.world.seconds(300.0 * self.rest, 900.0 * self.rest);
        let routine = self.world.chance(0.06);
        let looked = now + self.world.seconds(60.0, 180.0);
        if let Some(call) = self.called.take() {
            self.foresee();
            self.inspect(looked, call);
        } else if routine && self.fate.progress(self.flown) < 0.25 {
            // A routine look finds nothing that has hardly begun.
            self.agenda.add(looked, events::inspection(looked, None, None));
        }
    }

    /// The operator looks at a drone that was called, and repairs what is wrong with it.
    fn inspect(&mut self, at: i64, call: Call) {
        if let Mode::Ground { workshop, .. } = &mut self.mode {
            *workshop = true;
        }
        if !self.fate.grows(self.flown) {
            self.agenda.add(at, events::inspection(at, None, Some(&call.alert_id)));
            self.step_ms = self.step_ms.max(at + self.world.seconds(180.0, 480.0));
            return;
        }
        self.agenda.add(at, events::inspection(at, Some(self.fate.component), Some(&call.alert_id)));
        if let Some(truth) = self.known.and_then(|i| self.truths.get_mut(i)) {
            truth.called_ms.get_or_insert(call.at);
        }
        self.settle(Outcome::Saved, None);
        let repaired = at + self.world.seconds(600.0, 1200.0);
        self.repair(repaired);
    }

    /// Replaces the faulty part at `at`; the next fault is drawn.
    fn repair(&mut self, at: i64) {
        self.agenda.add(at, events::maintenance(at, self.fate.component));
        self.airframe.replace(self.fate.component, &mut self.world);
        self.fate = Fate::draw(self.flown, self.mean_life_h, self.sudden_share, &mut self.world);
        self.step_ms = at + self.world.seconds(180.0, 480.0);
    }

    fn settle(&mut self, outcome: Outcome, failure_ms: Option<i64>) {
        if let Some(truth) = self.known.take().and_then(|i| self.truths.get_mut(i)) {
            truth.outcome = outcome;
            truth.failure_ms = failure_ms.unwrap_or(truth.failure_ms);
        }
    }

    /// Works out when the growing fault would fail, by letting a twin of the drone fly on as planned.
    fn foresee(&mut self) {
        let Some(i) = self.known.filter(|i| self.truths[*i].failure_ms == UNKNOWN) else { return };
        let mut twin = self.clone();
        twin.called = None;
        while twin.truths[i].outcome == Outcome::Pending {
            twin.step();
        }
        self.truths[i].failure_ms = twin.truths[i].failure_ms;
    }

    /// Measures and sends, keeps back, or doubles; true when a message is in `out`.
    fn read(&mut self, now: i64, out: &mut Record) -> bool {
        let (noise, dice) = self.chaos.noise();
        let mut values = quantise(&self.airframe.sense(noise, dice));
        self.chaos.disturb(now, &mut values);
        let ts = now + self.chaos.clock_offset;
        match self.chaos.deliver(now) {
            Delivery::Late(at) => {
                self.chaos.held.at = at;
                write_reading(ts, &values, &mut self.chaos.held.payload);
                return false;
            }
            Delivery::Twice(at) => {
                self.chaos.held.at = at;
                write_reading(ts, &values, &mut self.chaos.held.payload);
            }
            Delivery::Now => {}
        }
        self.address(out, Kind::Telemetry, now);
        write_reading(ts, &values, &mut out.payload);
        true
    }
}
