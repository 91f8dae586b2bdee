//! Deciding: from risks to raised, repeated and cleared alerts, and to the action of least expected cost. Pure state machines over event time.

mod action;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use action::{Homing, Outlook, Sight, Situation, decide, unweighed};

use crate::ConfigError;
use crate::time::parse_duration;
use crate::wire::AckStatus;

/// `[decide]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenDecide {
    /// Risk must hold at the threshold this long to raise, default 3 s.
    pub raise_for: String,
    /// … and in this many readings, default 3.
    pub raise_readings: u32,
    /// An alert clears below this share of the threshold, default 0.8.
    pub clear_ratio: f64,
    /// … once it has held this long, default 30 s.
    pub clear_for: String,
    /// An unanswered call is repeated this often, default 20 s.
    pub repeat_every: String,
    /// A call is good for this long, default 60 s.
    pub expiry: String,
    /// Beyond this share of the fleet raised at once, new calls go to the operators only; default 0.2.
    pub max_raised_share: f64,
    /// The signals with the device's latitude and longitude in degrees, such as `["lat", "lon"]`; default none: the way home is not known.
    pub position: Vec<String>,
    /// Latitude and longitude of home for devices whose `attributes` event names none (`"home": {"lat", "lon"}`); default none.
    pub home: Vec<f64>,
    /// Speed on the way home, m/s; default 0: not known.
    pub speed: f64,
    /// Distance over speed takes this many times as long, default 1.5.
    pub margin: f64,
    /// The signal with the autopilot's own word on the time home in seconds, taken over distance and speed; default none.
    pub time_home: String,
    /// The signal with the seconds left of the mission; default none: to go on is then no choice.
    pub mission_left: String,
    /// On the ground each of these signals is at most this much, such as `{ throttle = 0.05 }`; default none: never on the ground.
    pub ground: IndexMap<String, f64>,
    /// Money that it takes to fetch a device which landed where it was; default none: to land is then no choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub land_cost: Option<f64>,
    /// Time to land, default 30 s.
    pub land_time: String,
}

impl Default for WrittenDecide {
    fn default() -> Self {
        let text = String::from;
        Self {
            raise_for: text("3s"),
            raise_readings: 3,
            clear_ratio: 0.8,
            clear_for: text("30s"),
            repeat_every: text("20s"),
            expiry: text("60s"),
            max_raised_share: 0.2,
            position: Vec::new(),
            home: Vec::new(),
            speed: 0.0,
            margin: 1.5,
            time_home: String::new(),
            mission_left: String::new(),
            ground: IndexMap::new(),
            land_cost: None,
            land_time: text("30s"),
        }
    }
}

/// `[decide]`, checked; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// How long risk must hold at the threshold.
    pub raise_for: i64,
    /// In how many readings.
    pub raise_readings: u32,
    /// Share of the threshold below which an alert clears.
    pub clear_ratio: f64,
    /// How long it must stay there.
    pub clear_for: i64,
    /// Time between the revisions of an unanswered call.
    pub repeat_every: i64,
    /// Life of a call.
    pub expiry: i64,
    /// Share of the fleet beyond which new calls go to the operators.
    pub max_raised_share: f64,
}

impl Rules {
    /// Checks the written form; errors name `decide.…`.
    pub fn check(w: &WrittenDecide) -> Result<Self, ConfigError> {
        let share = |key: &str, value: f64| {
            if value > 0.0 && value <= 1.0 { Ok(value) } else { Err(ConfigError::new(key, value, "a share above 0 and at most 1")) }
        };
        if w.raise_readings == 0 {
            return Err(ConfigError::new("decide.raise_readings", 0, "at least 1"));
        }
        let rules = Self {
            raise_for: parse_duration("decide.raise_for", &w.raise_for)?,
            raise_readings: w.raise_readings,
            clear_ratio: share("decide.clear_ratio", w.clear_ratio)?,
            clear_for: parse_duration("decide.clear_for", &w.clear_for)?,
            repeat_every: parse_duration("decide.repeat_every", &w.repeat_every)?,
            expiry: parse_duration("decide.expiry", &w.expiry)?,
            max_raised_share: share("decide.max_raised_share", w.max_raised_share)?,
        };
        if rules.expiry < 1_000 {
            return Err(ConfigError::new("decide.expiry", format!("{:?}", w.expiry), "at least \"1s\""));
        }
        if rules.repeat_every == 0 {
            return Err(ConfigError::new("decide.repeat_every", format!("{:?}", w.repeat_every), "more than \"0s\""));
        }
        Ok(rules)
    }
}

/// What a reading's risk changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The alert is raised.
    Raised,
    /// The alert is cleared.
    Cleared,
}

/// What a [`Gate`] remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GateMemory {
    /// Whether an alert stands.
    pub raised: bool,
    /// Since when, and for how many readings, the risk has been at the threshold.
    pub above: Option<(i64, u32)>,
    /// Since when it has been below the clearing level.
    pub below: Option<i64>,
}

/// Hysteresis over one device's risks: never raised twice without a clear between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate {
    raised: bool,
    /// Since when, and for how many readings, the risk has been at the threshold.
    above: Option<(i64, u32)>,
    /// Since when it has been below the clearing level.
    below: Option<i64>,
}

impl Gate {
    /// Takes the risk of a reading at `ts`; readings come in rising `ts`.
    pub fn step(&mut self, ts: i64, risk: f64, threshold: f64, rules: &Rules) -> Change {
        if self.raised {
            return self.step_raised(ts, risk < rules.clear_ratio * threshold, rules);
        }
        if risk < threshold {
            self.above = None;
            return Change::None;
        }
        let (since, readings) = self.above.map_or((ts, 1), |(since, n)| (since, n + 1));
        self.above = Some((since, readings));
        if readings < rules.raise_readings || ts - since < rules.raise_for {
            return Change::None;
        }
        *self = Self { raised: true, ..Self::default() };
        Change::Raised
    }

    fn step_raised(&mut self, ts: i64, low: bool, rules: &Rules) -> Change {
        if !low {
            self.below = None;
            return Change::None;
        }
        let since = *self.below.get_or_insert(ts);
        if ts - since < rules.clear_for {
            return Change::None;
        }
        *self = Self::default();
        Change::Cleared
    }

    /// Whether an alert stands.
    pub fn raised(&self) -> bool {
        self.raised
    }

    /// What it remembers, to be kept over a restart.
    pub fn memory(&self) -> GateMemory {
        GateMemory { raised: self.raised, above: self.above, below: self.below }
    }

    /// A gate that goes on from what another remembered.
    pub fn recall(memory: GateMemory) -> Self {
        Self { raised: memory.raised, above: memory.above, below: memory.below }
    }

    /// Event time begins anew: what was counted is dropped, an alert that stands goes on standing.
    pub fn forget_times(&mut self) {
        *self = Self { raised: self.raised, ..Self::default() };
    }

    /// Forgets all: maintenance or retirement. Whether an alert stood.
    pub fn reset(&mut self) -> bool {
        std::mem::take(self).raised
    }
}

/// The alert that stands for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Names the alert over repeats, restarts and replicas.
    pub alert_id: String,
    /// `ts` of the reading that raised it.
    pub raised_ts: i64,
    /// How often it has been called, from 1.
    pub revision: u32,
    /// `ts` of the reading of the last call.
    pub called_ts: i64,
    /// The device's answer, if any.
    pub answer: Option<AckStatus>,
    /// The component named.
    pub component: Option<String>,
}

impl Standing {
    /// A new alert of `device`, raised by the reading at `ts` under `model_version`.
    pub fn raise(device: &str, ts: i64, model_version: &str, component: Option<String>) -> Self {
        Self { alert_id: alert_id(device, ts, model_version), raised_ts: ts, revision: 1, called_ts: ts, answer: None, component }
    }

    /// Whether the call is due again at `ts`; if so it has a new revision.
    pub fn repeat(&mut self, ts: i64, rules: &Rules) -> bool {
        let due = self.answer.is_none() && ts - self.called_ts >= rules.repeat_every;
        if due {
            self.revision += 1;
            self.called_ts = ts;
        }
        due
    }

    /// When the last call ends.
    pub fn expires_at(&self, rules: &Rules) -> i64 {
        self.called_ts + rules.expiry
    }
}

/// The name of an alert: a pure function of device, the `ts` of the reading that raised it, and model version.
pub fn alert_id(device: &str, ts: i64, model_version: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(format!("{device}\n{ts}\n{model_version}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> Rules {
        Rules::check(&WrittenDecide::default()).unwrap()
    }

    /// Risks a second apart; `R` raised, `C` cleared, `.` nothing.
    fn check(risks: &[f64], expected: &str) {
        let mut gate = Gate::default();
        let letter = |c| match c {
            Change::None => '.',
            Change::Raised => 'R',
            Change::Cleared => 'C',
        };
        let drawn: String =
            risks.iter().zip(0..).map(|(r, s)| letter(gate.step(s * 1_000, *r, 0.5, &Rules { clear_for: 2_000, ..rules() }))).collect();
        assert_eq!(drawn, expected);
    }

    #[test]
    fn risk_must_hold_to_raise_and_stay_low_to_clear() {
        check(&[0.6, 0.6, 0.6, 0.6, 0.6], "...R.");
        check(&[0.6, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6, 0.6], ".......R");
        check(&[0.5, 0.5, 0.5, 0.5, 0.45, 0.45, 0.45, 0.3, 0.3, 0.3, 0.9], "...R.....C.");
        check(&[0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.45, 0.3, 0.3], "...R.....");
    }

    #[test]
    fn the_number_of_readings_counts_too() {
        let mut gate = Gate::default();
        assert_eq!(gate.step(0, 0.9, 0.5, &rules()), Change::None);
        assert_eq!(gate.step(60_000, 0.9, 0.5, &rules()), Change::None, "a minute, but two readings");
        assert_eq!(gate.step(60_100, 0.9, 0.5, &rules()), Change::Raised);
    }

    proptest! {
        #[test]
        fn raised_and_cleared_take_turns(risks in prop::collection::vec(0.0f64..1.0, 0..400)) {
            let mut gate = Gate::default();
            let mut raised = false;
            for (s, risk) in (0..).zip(risks) {
                match gate.step(s * 1_000, risk, 0.3, &Rules { raise_readings: 1, raise_for: 0, clear_for: 1_000, ..rules() }) {
                    Change::Raised => { prop_assert!(!raised); raised = true; }
                    Change::Cleared => { prop_assert!(raised); raised = false; }
                    Change::None => (),
                }
                prop_assert_eq!(gate.raised(), raised);
            }
        }
    }

    proptest! {
        #[test]
        fn a_gate_that_is_kept_and_recalled_anywhere_goes_on_as_one_that_was_not(
            steps in prop::collection::vec((1i64..5_000, 0.0f64..1.0, any::<bool>()), 0..200),
        ) {
            let rules = Rules { raise_readings: 2, raise_for: 1_000, clear_for: 3_000, ..rules() };
            let (mut whole, mut cut, mut ts) = (Gate::default(), Gate::default(), 0);
            for (pause, risk, restart) in steps {
                ts += pause;
                if restart {
                    cut = Gate::recall(cut.memory());
                }
                prop_assert_eq!(whole.step(ts, risk, 0.5, &rules), cut.step(ts, risk, 0.5, &rules));
            }
        }
    }

    #[test]
    fn calls_repeat_until_answered() {
        let mut standing = Standing::raise("d", 0, "v", None);
        assert!(!standing.repeat(19_000, &rules()));
        assert!(standing.repeat(20_000, &rules()));
        assert_eq!((standing.revision, standing.expires_at(&rules())), (2, 80_000));
        standing.answer = Some(AckStatus::Accepted);
        assert!(!standing.repeat(90_000, &rules()));
    }

    #[test]
    fn an_alert_is_named_by_device_time_and_model_alone() {
        assert_eq!(alert_id("d", 1, "v"), alert_id("d", 1, "v"));
        let others = [alert_id("e", 1, "v"), alert_id("d", 2, "v"), alert_id("d", 1, "w")];
        assert!(!others.contains(&alert_id("d", 1, "v")));
    }

    #[test]
    fn mistakes_name_their_key() {
        let key = |w: WrittenDecide| Rules::check(&w).unwrap_err().key;
        assert_eq!(key(WrittenDecide { clear_ratio: 1.2, ..Default::default() }), "decide.clear_ratio");
        assert_eq!(key(WrittenDecide { raise_readings: 0, ..Default::default() }), "decide.raise_readings");
        assert_eq!(key(WrittenDecide { expiry: "0s".into(), ..Default::default() }), "decide.expiry");
        assert_eq!(key(WrittenDecide { repeat_every: "x".into(), ..Default::default() }), "decide.repeat_every");
    }
}
