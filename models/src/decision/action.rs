//! What to advise once an alert stands: the action of least expected cost.
//!
//! | action | expected cost |
//! |---|---|
//! | continue | P(fails before the mission ends) · failure |
//! | return | P(fails on the way home) · failure + P(does not) · (trip + look) |
//! | land | P(fails before it is down) · failure + P(does not) · (trip + look + land_cost) |
//!
//! with look = risk · repair + (1 − risk) · inspect. `continue` can win only where the mission's remaining time is known: the threshold
//! that raised the alert has already been chosen by cost for missions of unknown length. Where the time home is not known it is
//! `return`; on the ground it is `no_takeoff`, whatever it costs. A model whose risk is no probability ([`crate::novelty`]) weighs nothing: it is `return`, or
//! on the ground `no_takeoff`.

use crate::call::{Action, Advice, ExpectedCost};
use crate::cost::Costs;
use crate::fleet::{Range, Source};
use crate::time::parse_duration;
use crate::{ConfigError, Event, EventKind, Fleet};

use super::WrittenDecide;

/// Mean radius of the earth, metres (IUGG 1980).
const EARTH_M: f64 = 6_371_008.8;

/// Where and how a device comes home: the part of `[decide]` that needs to know the fleet's signals, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Homing {
    /// The signals that matter.
    senses: Vec<Sense>,
    /// Latitude and longitude, indices into `senses`.
    position: Option<[usize; 2]>,
    /// Where home is if the device does not say, degrees.
    home: Option<[f64; 2]>,
    /// Metres a second; `None` if it is not known.
    speed: Option<f64>,
    margin: f64,
    time_home: Option<usize>,
    mission_left: Option<usize>,
    /// On the ground each of these is at most so much.
    ground: Vec<(usize, f64)>,
    land_cost: Option<f64>,
    land_time: i64,
    /// A value older than this is not known any more, milliseconds.
    stale_after: i64,
}

/// A measured signal.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sense {
    signal: usize,
    range: Option<Range>,
}

impl Homing {
    /// Checks the written form against the fleet's signals; errors name `decide.…`.
    ///
    /// # Errors
    /// [`ConfigError`]: an unknown signal, a place that is none, a speed, margin or cost that is no such.
    pub fn check(w: &WrittenDecide, fleet: &Fleet) -> Result<Self, ConfigError> {
        let mut senses = Senses { fleet, found: Vec::new() };
        let position = match w.position.as_slice() {
            [] => None,
            [lat, lon] => Some([senses.named("decide.position", lat)?, senses.named("decide.position", lon)?]),
            other => {
                return Err(ConfigError::new("decide.position", format!("{other:?}"), "the signals with latitude and longitude, or none"));
            }
        };
        let optional = |senses: &mut Senses<'_>, key: &str, name: &str| {
            if name.is_empty() { Ok(None) } else { senses.named(key, name).map(Some) }
        };
        let time_home = optional(&mut senses, "decide.time_home", &w.time_home)?;
        let mission_left = optional(&mut senses, "decide.mission_left", &w.mission_left)?;
        let ground = w.ground.iter().map(|(name, most)| Ok((senses.named("decide.ground", name)?, *most)));
        let ground = ground.collect::<Result<Vec<_>, ConfigError>>()?;
        if let Some((name, most)) = w.ground.iter().find(|(_, most)| !most.is_finite()) {
            return Err(ConfigError::new(format!("decide.ground.{name}"), most, "a finite number"));
        }
        let speed = amount("decide.speed", w.speed)?;
        let land_cost = w.land_cost.map_or(Ok(None), |cost| amount("decide.land_cost", cost).map(|_| Some(cost)))?;
        if !(w.margin >= 1.0 && w.margin.is_finite()) {
            return Err(ConfigError::new("decide.margin", w.margin, "a factor of at least 1"));
        }
        Ok(Self {
            senses: senses.found,
            position,
            home: home(&w.home)?,
            speed: (speed > 0.0).then_some(speed),
            margin: w.margin,
            time_home,
            mission_left,
            ground,
            land_cost,
            land_time: parse_duration("decide.land_time", &w.land_time)?,
            stale_after: parse_duration("decide.expiry", &w.expiry)?,
        })
    }
}

/// Signals looked up by name, each once.
struct Senses<'a> {
    fleet: &'a Fleet,
    found: Vec<Sense>,
}

impl Senses<'_> {
    fn named(&mut self, key: &str, name: &str) -> Result<usize, ConfigError> {
        let channels = self.fleet.signals();
        let Some(signal) = channels.iter().position(|c| c.name == name) else {
            return Err(ConfigError::new(key, format!("{name:?}"), "the name of a measured signal of [fleet.signals]"));
        };
        let range = if let Source::Measured { range, .. } = &channels[signal].source { *range } else { None };
        let sense = Sense { signal, range };
        Ok(self.found.iter().position(|s| s.signal == signal).unwrap_or_else(|| {
            self.found.push(sense);
            self.found.len() - 1
        }))
    }
}

fn amount(key: &str, value: f64) -> Result<f64, ConfigError> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(ConfigError::new(key, value, "a number of at least 0")) }
}

fn home(written: &[f64]) -> Result<Option<[f64; 2]>, ConfigError> {
    match written {
        [] => Ok(None),
        [lat, lon] if is_place(*lat, *lon) => Ok(Some([*lat, *lon])),
        other => Err(ConfigError::new("decide.home", format!("{other:?}"), "latitude and longitude in degrees, or none")),
    }
}

fn is_place(lat: f64, lon: f64) -> bool {
    lat.abs() <= 90.0 && lon.abs() <= 180.0
}

/// What is known of a device's way home: the newest value of each signal that matters, and where its home is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sight {
    /// `ts` and value of each sense; NaN as long as there is none.
    pub seen: Vec<(i64, f64)>,
    /// Latitude and longitude of home by the device's last `attributes` event, degrees.
    pub home: Option<[f64; 2]>,
}

impl Sight {
    /// Takes an accepted reading; `measured` as it came.
    pub fn see(&mut self, homing: &Homing, ts: i64, measured: &[f64]) {
        self.seen.resize(homing.senses.len(), (ts, f64::NAN));
        for (slot, sense) in self.seen.iter_mut().zip(&homing.senses) {
            let raw = measured.get(sense.signal).copied().unwrap_or(f64::NAN);
            let value = sense.range.map_or(raw, |range| range.or_missing(raw));
            if value.is_finite() {
                *slot = (ts, value);
            }
        }
    }

    /// Takes an event: `attributes` with `{"home": {"lat", "lon"}}` says where home is.
    pub fn event(&mut self, event: &Event) {
        let extra = event.extra.as_deref().filter(|_| event.kind == EventKind::Attributes);
        let Some(extra) = extra.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok()) else { return };
        let degrees = |at: &str| extra.pointer(at).and_then(serde_json::Value::as_f64);
        if let (Some(lat), Some(lon)) = (degrees("/home/lat"), degrees("/home/lon"))
            && is_place(lat, lon)
        {
            self.home = Some([lat, lon]);
        }
    }

    /// What was seen belongs to another time: a clock step.
    pub fn forget_times(&mut self) {
        self.seen.clear();
    }

    /// How the device stands at `ts`.
    pub fn situation(&self, homing: &Homing, ts: i64) -> Situation {
        let known = |sense: usize| self.seen.get(sense).filter(|(at, v)| v.is_finite() && ts - at <= homing.stale_after).map(|s| s.1);
        let seconds = |sense: Option<usize>| sense.and_then(known).map(|s| (s.max(0.0) * 1000.0) as i64);
        let on_ground = !homing.ground.is_empty() && homing.ground.iter().all(|(sense, most)| known(*sense).is_some_and(|v| v <= *most));
        let time_home = seconds(homing.time_home).or_else(|| {
            let [lat, lon] = homing.position?;
            let distance = distance_m([known(lat)?, known(lon)?], self.home.or(homing.home)?);
            Some((distance / homing.speed? * homing.margin * 1000.0) as i64)
        });
        Situation { on_ground, time_home, mission_left: seconds(homing.mission_left) }
    }
}

/// How a device stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Situation {
    /// It has not taken off.
    pub on_ground: bool,
    /// Milliseconds that it needs to come home, margin included, if known.
    pub time_home: Option<i64>,
    /// Milliseconds to the end of its mission, if known.
    pub mission_left: Option<i64>,
}

/// The risks that a model gave for a reading, as a function of time.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    /// Horizons in milliseconds, ascending.
    pub horizons: &'a [i64],
    /// Risk within each.
    pub risks: &'a [f64],
}

impl Outlook<'_> {
    /// Risk within the last horizon, which the threshold is for.
    pub fn last(&self) -> f64 {
        self.risks.last().copied().unwrap_or_default()
    }

    /// Risk within `ms`: the hazard is constant between two horizons, and beyond the last one as before it.
    pub fn within(&self, ms: i64) -> f64 {
        let (mut from, mut survival) = (0i64, 1.0f64);
        let stretches = self.horizons.len().min(self.risks.len());
        for (i, (to, risk)) in self.horizons.iter().zip(self.risks).enumerate() {
            let end = 1.0 - risk;
            if ms <= *to || i + 1 == stretches {
                let share = (ms - from).max(0) as f64 / (*to - from).max(1) as f64;
                let over = if survival > 0.0 { (end / survival).clamp(0.0, 1.0) } else { 0.0 };
                // Nothing passes in no time, also where the failure is certain.
                let left = if share == 0.0 { 1.0 } else { libm::pow(over, share) };
                return 1.0 - survival * left;
            }
            (from, survival) = (*to, end);
        }
        0.0
    }
}

/// The advice of least expected cost, and what it was weighed by. Of equal ones: return, then land, then continue.
pub fn decide(outlook: &Outlook<'_>, situation: &Situation, costs: &Costs, homing: &Homing) -> (Advice, ExpectedCost) {
    let risk = outlook.last();
    let look = risk * costs.repair + (1.0 - risk) * costs.inspect;
    let give_up = |on_the_way: f64, more: f64| on_the_way * costs.failure + (1.0 - on_the_way) * (costs.trip + look + more);
    let land = situation.time_home.and(homing.land_cost).map(|more| give_up(outlook.within(homing.land_time), more));
    let cost = ExpectedCost {
        come_home: give_up(situation.time_home.map_or(0.0, |ms| outlook.within(ms)), 0.0),
        fly_on: situation.mission_left.map_or(risk, |ms| outlook.within(ms)) * costs.failure,
        land,
    };
    let mut best = (Advice::Return, cost.come_home);
    for (advice, expected) in [(Advice::Land, land), (Advice::Fly, situation.mission_left.map(|_| cost.fly_on))] {
        if let Some(expected) = expected.filter(|e| *e < best.1) {
            best = (advice, expected);
        }
    }
    (if situation.on_ground { Advice::NoTakeoff } else { best.0 }, cost)
}

/// The advice where no probability is known to weigh money by: to come home, on the ground to stay there. The costs are NaN.
pub fn unweighed(situation: &Situation) -> (Advice, ExpectedCost) {
    let advice = if situation.on_ground { Advice::NoTakeoff } else { Advice::Return };
    (advice, ExpectedCost { come_home: f64::NAN, fly_on: f64::NAN, land: None })
}

impl Advice {
    /// What a call asks for; `None` for `fly`, which needs no call.
    pub fn action(self) -> Option<Action> {
        match self {
            Self::Fly => None,
            Self::Return => Some(Action::Return),
            Self::Land => Some(Action::Land),
            Self::NoTakeoff => Some(Action::NoTakeoff),
        }
    }
}

/// Great-circle distance in metres between two places in degrees (haversine).
fn distance_m([lat1, lon1]: [f64; 2], [lat2, lon2]: [f64; 2]) -> f64 {
    let square = |x: f64| x * x;
    let half = |degrees: f64| libm::sin(degrees.to_radians() / 2.0);
    let cos = |degrees: f64| libm::cos(degrees.to_radians());
    let h = square(half(lat2 - lat1)) + cos(lat1) * cos(lat2) * square(half(lon2 - lon1));
    2.0 * EARTH_M * libm::asin(h.sqrt().min(1.0))
}

#[cfg(test)]
mod tests;
