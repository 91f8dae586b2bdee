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
//! `return`; on the ground it is `no_takeoff`, whatever it costs.

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
mod tests {
    use super::*;
    use crate::cost::WrittenCosts;
    use indexmap::IndexMap;
    use proptest::prelude::*;

    /// Signals `lat`, `lon`, `eta`, `left`, `throttle`.
    fn fleet() -> Fleet {
        let signals =
            ["lat", "lon", "eta", "left", "throttle"].map(|n| format!(r#""{n}": {{"at": "/{n}", "range": [-180, 1e6]}}"#)).join(", ");
        Fleet::check(&serde_json::from_str(&format!(r#"{{"name": "t", "signals": {{{signals}}}}}"#)).unwrap()).unwrap()
    }

    fn written() -> WrittenDecide {
        WrittenDecide {
            position: vec!["lat".into(), "lon".into()],
            speed: 10.0,
            margin: 1.5,
            ground: IndexMap::from([("throttle".to_owned(), 0.05)]),
            land_cost: Some(200.0),
            ..Default::default()
        }
    }

    fn homing(w: &WrittenDecide) -> Homing {
        Homing::check(w, &fleet()).unwrap()
    }

    /// Failure 2000, trip 100, inspect 100, repair 200.
    fn costs() -> Costs {
        let w = WrittenCosts { failure: 2000.0, trip: 100.0, inspect: 100.0, repair: 200.0, ..Default::default() };
        Costs::check(&w, 600_000).unwrap()
    }

    fn check(risks: [f64; 2], situation: Situation, w: &WrittenDecide, expected: Advice) -> ExpectedCost {
        let outlook = Outlook { horizons: &[60_000, 600_000], risks: &risks };
        let (advice, cost) = decide(&outlook, &situation, &costs(), &homing(w));
        assert_eq!(advice, expected, "{cost:?}");
        cost
    }

    const AWAY: Situation = Situation { on_ground: false, time_home: None, mission_left: None };

    #[test]
    fn without_positions_it_is_return_at_the_price_of_a_trip_and_a_look() {
        let cost = check([0.1, 0.5], AWAY, &written(), Advice::Return);
        assert_eq!((cost.come_home, cost.fly_on, cost.land), (100.0 + 0.5 * 200.0 + 0.5 * 100.0, 1000.0, None));
    }

    #[test]
    fn on_the_ground_it_stays_there() {
        check([0.1, 0.5], Situation { on_ground: true, ..AWAY }, &written(), Advice::NoTakeoff);
    }

    #[test]
    fn it_lands_where_the_way_home_is_longer_than_it_may_last() {
        let at = |ms| Situation { time_home: Some(ms), ..AWAY };
        check([0.01, 0.9], at(60_000), &written(), Advice::Return);
        check([0.6, 0.9], at(600_000), &written(), Advice::Land);
        check([0.6, 0.9], at(600_000), &WrittenDecide { land_cost: None, ..written() }, Advice::Return);
    }

    #[test]
    fn it_goes_on_only_where_the_mission_ends_before_the_failure_is_due() {
        let left = |ms| Situation { mission_left: Some(ms), ..AWAY };
        check([0.001, 0.5], left(30_000), &written(), Advice::Fly);
        check([0.001, 0.5], left(600_000), &written(), Advice::Return);
        check([0.001, 0.02], AWAY, &written(), Advice::Return);
    }

    #[test]
    fn the_way_home_is_the_autopilots_word_else_distance_over_speed() {
        let h = homing(&WrittenDecide { time_home: "eta".into(), ..written() });
        let mut sight = Sight::default();
        let nan = f64::NAN;
        sight.see(&h, 0, &[37.0, 127.0, nan, nan, 0.5]);
        assert_eq!(sight.situation(&h, 0), AWAY, "where home is nobody has said");
        let event = |extra: &str| Event { ts: 0, kind: EventKind::Attributes, component: None, alert_id: None, extra: Some(extra.into()) };
        sight.event(&event(r#"{"home": {"lat": 200, "lon": 127.0}}"#));
        assert_eq!(sight.home, None, "no such place");
        sight.event(&event(r#"{"home": {"lat": 37.01, "lon": 127.0}, "model": "x"}"#));
        // A hundredth of a degree of latitude is 1111.95 m, 111.195 s at 10 m/s.
        assert_eq!(sight.situation(&h, 0).time_home, Some(166_792));
        sight.see(&h, 1_000, &[nan, nan, 42.0, nan, 0.01]);
        assert_eq!(sight.situation(&h, 1_000), Situation { on_ground: true, time_home: Some(42_000), mission_left: None });
        assert_eq!(sight.situation(&h, 61_500), AWAY, "all of it is old news");
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        // Paris to New York: 5,837 km on the sphere.
        let d = distance_m([48.8566, 2.3522], [40.7128, -74.006]);
        assert!((d - 5_837_240.0).abs() < 1_000.0, "{d}");
        assert!((distance_m([0.0, 179.5], [0.0, -179.5]) - 111_195.0).abs() < 1.0, "across the date line");
        assert!((distance_m([90.0, 0.0], [-90.0, 7.0]) - EARTH_M * std::f64::consts::PI).abs() < 1.0);
    }

    #[test]
    fn mistakes_name_their_key() {
        let key = |w: WrittenDecide| Homing::check(&w, &fleet()).unwrap_err().key;
        assert_eq!(key(WrittenDecide { position: vec!["lat".into()], ..Default::default() }), "decide.position");
        assert_eq!(key(WrittenDecide { position: vec!["lat".into(), "x".into()], ..Default::default() }), "decide.position");
        assert_eq!(key(WrittenDecide { time_home: "x".into(), ..Default::default() }), "decide.time_home");
        assert_eq!(key(WrittenDecide { home: vec![91.0, 0.0], ..Default::default() }), "decide.home");
        assert_eq!(key(WrittenDecide { speed: -1.0, ..Default::default() }), "decide.speed");
        assert_eq!(key(WrittenDecide { margin: 0.5, ..Default::default() }), "decide.margin");
        assert_eq!(key(WrittenDecide { land_cost: Some(f64::NAN), ..Default::default() }), "decide.land_cost");
        assert_eq!(key(WrittenDecide { land_time: "x".into(), ..Default::default() }), "decide.land_time");
        let ground = IndexMap::from([("lat".to_owned(), f64::INFINITY)]);
        assert_eq!(key(WrittenDecide { ground, ..Default::default() }), "decide.ground.lat");
    }

    proptest! {
        #[test]
        fn risk_over_time_rises_from_none_through_each_horizon(a in 0.0..=1.0f64, b in 0.0..=1.0f64, mut at in prop::collection::vec(0i64..2_000_000, 2..40)) {
            let risks = [a.min(b), a.max(b)];
            let outlook = Outlook { horizons: &[60_000, 600_000], risks: &risks };
            at.sort_unstable();
            let drawn: Vec<f64> = at.iter().map(|ms| outlook.within(*ms)).collect();
            prop_assert!(drawn.windows(2).all(|w| w[0] <= w[1] + 1e-12) && drawn.iter().all(|r| (0.0..=1.0).contains(r)), "{drawn:?}");
            prop_assert_eq!(outlook.within(0), 0.0);
            prop_assert!((outlook.within(60_000) - risks[0]).abs() < 1e-12 && (outlook.within(600_000) - risks[1]).abs() < 1e-12);
        }

        #[test]
        fn no_other_action_would_have_been_expected_to_cost_less(a in 0.0..=1.0f64, b in 0.0..=1.0f64, home in prop::option::of(0i64..3_600_000), left in prop::option::of(0i64..3_600_000)) {
            let risks = [a.min(b), a.max(b)];
            let outlook = Outlook { horizons: &[60_000, 600_000], risks: &risks };
            let situation = Situation { on_ground: false, time_home: home, mission_left: left };
            let (advice, cost) = decide(&outlook, &situation, &costs(), &homing(&written()));
            let mine = match advice {
                Advice::Fly => cost.fly_on,
                Advice::Return => cost.come_home,
                Advice::Land => cost.land.unwrap(),
                Advice::NoTakeoff => unreachable!(),
            };
            prop_assert!(mine <= cost.come_home && cost.land.is_none_or(|l| mine <= l));
            prop_assert!(left.is_none() || mine <= cost.fly_on);
            prop_assert!(left.is_some() || advice != Advice::Fly);
        }
    }
}
