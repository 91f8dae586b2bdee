//! Money: what a policy would have cost over the lives that were lived.
//!
//! One function prices every policy: the classifier, never, a fixed age, a single signal. It walks a life reading by reading with
//! the very gate that decides live. An alert ends the flight; if the device would fail within `detectable` after it, the
//! component is replaced and the life ends; otherwise nothing is found, and it goes on with its next flight. Because every
//! alert is paid for and priced per operating hour, an alarm that is always on costs more than none.
//! For target `present` the same walk prices how a fault that is there is found.

use serde::{Deserialize, Serialize};

use crate::ConfigError;
use crate::decision::{Change, Gate, Rules};
use crate::time::parse_duration;

/// `[costs]` as written; money in any one currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenCosts {
    /// A failure nobody called in time, default 1000.
    pub failure: f64,
    /// A mission given up, default 50.
    pub trip: f64,
    /// Looked at and nothing found, default 50.
    pub inspect: f64,
    /// A planned repair, default 150.
    pub repair: f64,
    /// The part replaced, for a whole mean life of it; default 100.
    pub part: f64,
    /// An alert must stand this long before the failure, default 30 s.
    pub min_lead: String,
    /// An inspection finds a fault that would fail within this time; empty (the default) for the longest horizon.
    pub detectable: String,
    /// A longer silence than this ends a flight, default 2 min.
    pub flight_gap: String,
    /// The most that a silence between two readings counts as operating time; empty (the default) for `flight_gap`.
    pub operating_gap: String,
}

impl Default for WrittenCosts {
    fn default() -> Self {
        Self {
            failure: 1000.0,
            trip: 50.0,
            inspect: 50.0,
            repair: 150.0,
            part: 100.0,
            min_lead: "30s".into(),
            detectable: String::new(),
            flight_gap: "2m".into(),
            operating_gap: String::new(),
        }
    }
}

/// `[costs]`, checked; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// A failure nobody called in time.
    pub failure: f64,
    /// A mission given up.
    pub trip: f64,
    /// Looked at and nothing found.
    pub inspect: f64,
    /// A planned repair.
    pub repair: f64,
    /// The part, for a whole mean life.
    pub part: f64,
    /// How long an alert must stand before the failure.
    pub min_lead: i64,
    /// How far ahead of its failure an inspection finds a fault.
    pub detectable: i64,
    /// A longer silence ends a flight.
    pub flight_gap: i64,
    /// The most that a silence counts as operating time.
    pub operating_gap: i64,
}

impl Costs {
    /// Checks the written form; errors name `costs.…`. `longest_horizon` in milliseconds.
    pub fn check(w: &WrittenCosts, longest_horizon: i64) -> Result<Self, ConfigError> {
        let money = [("failure", w.failure), ("trip", w.trip), ("inspect", w.inspect), ("repair", w.repair), ("part", w.part)];
        if let Some((key, value)) = money.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return Err(ConfigError::new(format!("costs.{key}"), value, "an amount of money of at least 0"));
        }
        if w.failure <= w.trip + w.repair {
            let expected = format!("more than trip + repair = {}: else it is cheaper to let the device fail", w.trip + w.repair);
            return Err(ConfigError::new("costs.failure", w.failure, expected));
        }
        if w.trip + w.inspect <= 0.0 {
            return Err(ConfigError::new(
                "costs.inspect",
                w.inspect,
                "trip + inspect above 0: else an alarm that is always on costs nothing",
            ));
        }
        let or = |key: &str, text: &str, default| if text.is_empty() { Ok(default) } else { parse_duration(key, text) };
        let min_lead = parse_duration("costs.min_lead", &w.min_lead)?;
        let flight_gap = parse_duration("costs.flight_gap", &w.flight_gap)?;
        let detectable = or("costs.detectable", &w.detectable, longest_horizon)?;
        if detectable <= min_lead {
            return Err(ConfigError::new(
                "costs.min_lead",
                format!("{:?}", w.min_lead),
                "less than detectable (by default the longest horizon)",
            ));
        }
        let operating_gap = or("costs.operating_gap", &w.operating_gap, flight_gap)?;
        Ok(Self {
            failure: w.failure,
            trip: w.trip,
            inspect: w.inspect,
            repair: w.repair,
            part: w.part,
            min_lead,
            detectable,
            flight_gap,
            operating_gap,
        })
    }
}

/// How a life ended, and with it what an alarm can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing is known to have gone wrong.
    Well,
    /// It failed at this `ts`: an alarm within `detectable` before it finds the coming failure.
    Failed(i64),
    /// An inspection confirmed that it was about to fail; its last reading before that has this `ts`. An alarm within `detectable` before it
    /// finds the same. What would have become of a policy that had not called by then is estimated by [`crate::climb`].
    Found(i64),
    /// Target `present`: a fault has been there since a `ts`, and every alarm from then on finds it. If it went on to fail, the
    /// alarm must stand `min_lead` before that.
    Faulty {
        /// `ts` of the fault.
        since: i64,
        /// `ts` of the failure it led to, if it did.
        failure: Option<i64>,
    },
}

impl End {
    /// The `ts` that the alarm is measured by: the failure, the last reading before an inspection, or the begin of the fault.
    pub fn ts(self) -> Option<i64> {
        match self {
            Self::Well => None,
            Self::Failed(at) | Self::Found(at) | Self::Faulty { since: at, .. } => Some(at),
        }
    }

    /// What an alarm at `ts` comes to.
    fn judge(self, ts: i64, costs: &Costs) -> Outcome {
        match self {
            Self::Failed(at) if at - ts < costs.min_lead => Outcome::Late,
            Self::Failed(at) | Self::Found(at) if at - ts <= costs.detectable => Outcome::Called,
            Self::Faulty { since, .. } if ts < since => Outcome::False,
            Self::Faulty { failure: Some(at), .. } if at - ts < costs.min_lead => Outcome::Late,
            Self::Faulty { .. } => Outcome::Called,
            Self::Well | Self::Failed(_) | Self::Found(_) => Outcome::False,
        }
    }
}

/// What an alarm came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device came home in time and was repaired.
    Called,
    /// Less than `min_lead` before the failure: as dear as no alarm.
    Late,
    /// Nothing was found.
    False,
    /// Replaced unseen, as planned.
    Replaced,
}

/// One life to price: its readings with a policy's scores, and its end.
#[derive(Debug, Clone, Copy)]
pub struct LifeRows<'a> {
    /// `ts` of the readings, ascending.
    pub times: &'a [i64],
    /// The policy's score of each: a risk, an age, a signal's value.
    pub scores: &'a [f64],
    /// How it ended.
    pub end: End,
}

/// What follows an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The flight ends and somebody looks.
    Inspect,
    /// The component is replaced unseen between two flights, as a fixed-age policy does.
    Replace,
}

/// What a policy cost, and what it caught.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Money.
    pub cost: f64,
    /// Operating hours.
    pub hours: f64,
    /// Failures (target `present`: faults) that were in the lives priced.
    pub failures: u32,
    /// Of these, called at least `min_lead` ahead.
    pub called: u32,
    /// Of these, called later than that.
    pub late: u32,
    /// Of these, ended by an inspection before the policy called: paid for as missed, until [`Climb::settle`](crate::climb::Climb::settle).
    pub open: u32,
    /// Alerts after which nothing was found.
    pub false_alarms: u32,
    /// Sum of the lead times of the called ones, milliseconds; target `present`: of the times from the fault to its alarm.
    pub lead_ms: i64,
}

impl Tally {
    /// Money per operating hour; NaN without operating hours.
    pub fn per_hour(&self) -> f64 {
        self.cost / self.hours
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.cost += other.cost;
        self.hours += other.hours;
        self.failures += other.failures;
        self.called += other.called;
        self.late += other.late;
        self.open += other.open;
        self.false_alarms += other.false_alarms;
        self.lead_ms += other.lead_ms;
    }
}

/// Prices one life under the policy "score ≥ threshold", with `answer` to each alarm. `mean_life_h` is the fleet's mean operating
/// hours between failures.
pub fn price(life: LifeRows<'_>, threshold: f64, rules: &Rules, costs: &Costs, answer: Answer, mean_life_h: f64) -> Tally {
    price_and_tell(life, threshold, rules, costs, answer, mean_life_h, |_, _| ())
}

/// As [`price`], and `tell` hears the row of every alarm and what it came to.
pub fn price_and_tell(
    life: LifeRows<'_>,
    threshold: f64,
    rules: &Rules,
    costs: &Costs,
    answer: Answer,
    mean_life_h: f64,
    mut tell: impl FnMut(usize, Outcome),
) -> Tally {
    let mut walk = Walk { life, costs, mean_life_h, tally: Tally { failures: u32::from(life.end != End::Well), ..Tally::default() } };
    let mut gate = Gate::default();
    let mut row = 0;
    while row < life.times.len() {
        walk.tally.hours += walk.hours_before(row);
        if gate.step(life.times[row], life.scores[row], threshold, rules) == Change::Raised {
            let outcome = walk.alarm(row, answer);
            tell(row, outcome);
            if outcome != Outcome::False {
                return walk.tally;
            }
            row = walk.rest_of_flight(row);
            gate = Gate::default();
        }
        row += 1;
    }
    if life.end != End::Well {
        walk.tally.cost += costs.failure;
        walk.tally.open = u32::from(matches!(life.end, End::Found(_)));
    }
    walk.tally
}

/// The row at which one who knows the end would call: the last reading at least `min_lead` before the failure and at most
/// `detectable`, so that as little life as possible is thrown away; of a fault that is present the first reading that shows it.
/// `None` if there is nothing to call, or no reading at which it would help: such a failure is not announced.
pub fn oracle(times: &[i64], end: End, costs: &Costs) -> Option<usize> {
    let helps = |row: &usize| end.judge(times[*row], costs) == Outcome::Called;
    match end {
        End::Well => None,
        End::Failed(_) | End::Found(_) => (0..times.len()).rev().find(helps),
        End::Faulty { .. } => (0..times.len()).find(helps),
    }
}

/// Operating hours of a whole life.
pub fn operating_hours(times: &[i64], costs: &Costs) -> f64 {
    times.windows(2).map(|w| hours((w[1] - w[0]).min(costs.operating_gap))).sum()
}

fn hours(ms: i64) -> f64 {
    ms as f64 / 3_600_000.0
}

struct Walk<'a> {
    life: LifeRows<'a>,
    costs: &'a Costs,
    mean_life_h: f64,
    tally: Tally,
}

impl Walk<'_> {
    /// Operating time between the reading before `row` and `row`.
    fn hours_before(&self, row: usize) -> f64 {
        if row == 0 { 0.0 } else { hours((self.life.times[row] - self.life.times[row - 1]).min(self.costs.operating_gap)) }
    }

    /// Pays for an alarm at `row`; all but a false one end the life.
    fn alarm(&mut self, row: usize, answer: Answer) -> Outcome {
        let (at, c) = (self.life.times[row], self.costs);
        let outcome = if answer == Answer::Replace { Outcome::Replaced } else { self.life.end.judge(at, c) };
        match outcome {
            Outcome::Replaced => self.replaced(row, c.repair),
            Outcome::Late => {
                self.tally.late += 1;
                self.tally.cost += c.failure;
            }
            Outcome::Called => {
                self.tally.called += 1;
                self.tally.lead_ms += self.life.end.ts().map_or(0, |end| (end - at).abs());
                self.replaced(row, c.trip + c.repair);
            }
            Outcome::False => {
                self.tally.false_alarms += 1;
                self.tally.cost += c.trip + c.inspect;
            }
        }
        outcome
    }

    /// Pays `work` and the part for the share of a mean life thrown away. Where the failure is not known, that is what was left of
    /// a mean life; of a part with a fault nothing is left.
    fn replaced(&mut self, row: usize, work: f64) {
        let thrown_away = match self.life.end {
            End::Failed(_) | End::Found(_) => operating_hours(&self.life.times[row..], self.costs),
            End::Faulty { since, .. } if self.life.times[row] >= since => 0.0,
            End::Faulty { .. } | End::Well => (self.mean_life_h - self.tally.hours).max(0.0),
        };
        let share = if self.mean_life_h > 0.0 { (thrown_away / self.mean_life_h).min(1.0) } else { 1.0 };
        self.tally.cost += work + self.costs.part * share;
    }

    /// The last row of the flight that an alarm at `row` ended: not flown, so its hours do not count.
    fn rest_of_flight(&self, row: usize) -> usize {
        let times = self.life.times;
        let mut last = row;
        while last + 1 < times.len() && times[last + 1] - times[last] <= self.costs.flight_gap {
            last += 1;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::WrittenDecide;

    const H: i64 = 3_600_000;

    fn costs() -> Costs {
        let w = WrittenCosts {
            min_lead: "1h".into(),
            detectable: "5h".into(),
            flight_gap: "30m".into(),
            operating_gap: "1h".into(),
            ..Default::default()
        };
        Costs::check(&w, 0).unwrap()
    }

    /// Ten hourly readings, each its own flight, scores as given; failure an hour after the last.
    fn run(scores: &[f64], end: End, answer: Answer) -> Tally {
        let times: Vec<i64> = (0..scores.len() as i64).map(|h| h * H).collect();
        let rules = Rules::check(&WrittenDecide { raise_for: "0s".into(), raise_readings: 1, ..Default::default() }).unwrap();
        price(LifeRows { times: &times, scores, end }, 0.5, &rules, &costs(), answer, 20.0)
    }

    const F: End = End::Failed(10 * H);

    #[test]
    fn a_failure_without_an_alert_costs_a_failure() {
        let t = run(&[0.0; 10], F, Answer::Inspect);
        assert_eq!((t.cost, t.hours, t.failures, t.called), (1000.0, 9.0, 1, 0));
        assert_eq!(run(&[0.0; 10], End::Well, Answer::Inspect).cost, 0.0);
    }

    #[test]
    fn an_alert_in_time_costs_trip_repair_and_the_life_thrown_away() {
        let mut scores = [0.0; 10];
        scores[7] = 0.9;
        let t = run(&scores, F, Answer::Inspect);
        assert_eq!((t.cost, t.hours, t.called), (50.0 + 150.0 + 100.0 * 2.0 / 20.0, 7.0, 1));
        assert_eq!(t.lead_ms, 3 * H);
    }

    #[test]
    fn an_alert_that_nobody_can_confirm_costs_trip_and_inspection_and_life_goes_on() {
        let mut scores = [0.0; 10];
        scores[1] = 0.9;
        let t = run(&scores, F, Answer::Inspect);
        assert_eq!((t.cost, t.false_alarms, t.called), (50.0 + 50.0 + 1000.0, 1, 0));
    }

    #[test]
    fn what_an_inspection_found_is_called_up_to_its_last_reading_and_none_is_late() {
        let called = |row| {
            let t = alarm_at(row, End::Found(9 * H));
            (t.cost, t.called, t.late, t.false_alarms)
        };
        assert_eq!(called(9), (50.0 + 150.0, 1, 0, 0));
        assert_eq!(called(4), (50.0 + 150.0 + 100.0 * 5.0 / 20.0, 1, 0, 0));
        assert_eq!(called(3), (50.0 + 50.0 + 1000.0, 0, 0, 1), "longer before than an inspection finds it");
        assert_eq!(run(&[0.0; 10], End::Found(9 * H), Answer::Inspect).cost, 1000.0);
    }

    #[test]
    fn an_alert_later_than_min_lead_costs_the_failure() {
        let mut scores = [0.0; 10];
        scores[9] = 0.9;
        let late = run(&scores, End::Failed(9 * H + H / 2), Answer::Inspect);
        assert_eq!((late.cost, late.late, late.called), (1000.0, 1, 0));
    }

    #[test]
    fn always_on_pays_at_every_flight_and_comes_out_worse_than_never() {
        let always = run(&[1.0; 100], End::Well, Answer::Inspect);
        assert_eq!(always.false_alarms, 100);
        assert!(always.cost > run(&[0.0; 100], End::Well, Answer::Inspect).cost);
    }

    #[test]
    fn in_one_long_flight_an_alarm_ends_it_once() {
        let times: Vec<i64> = (0..100).map(|m| m * 60_000).collect();
        let rules = Rules::check(&WrittenDecide::default()).unwrap();
        let t = price(LifeRows { times: &times, scores: &[1.0; 100], end: End::Well }, 0.5, &rules, &costs(), Answer::Inspect, 1.0);
        assert_eq!(t.false_alarms, 1);
    }

    #[test]
    fn replacing_by_age_pays_the_repair_and_what_is_left_of_the_part() {
        let mut scores = [0.0; 10];
        scores[4] = 0.9;
        assert_eq!(run(&scores, F, Answer::Replace).cost, 150.0 + 100.0 * 5.0 / 20.0);
        assert_eq!(run(&scores, End::Well, Answer::Replace).cost, 150.0 + 100.0 * 16.0 / 20.0);
    }

    /// A fault from the fifth reading on.
    const P: End = End::Faulty { since: 5 * H, failure: None };

    fn alarm_at(row: usize, end: End) -> Tally {
        let mut scores = [0.0; 10];
        scores[row] = 0.9;
        run(&scores, end, Answer::Inspect)
    }

    #[test]
    fn a_present_fault_is_found_by_any_alarm_from_its_begin_on_and_no_life_is_thrown_away() {
        let t = alarm_at(7, P);
        assert_eq!((t.cost, t.called, t.lead_ms), (50.0 + 150.0, 1, 2 * H), "two hours after its begin");
        assert_eq!(alarm_at(5, P).lead_ms, 0);
    }

    #[test]
    fn an_alarm_before_a_fault_is_false_and_a_fault_without_alarm_costs_a_failure() {
        let t = alarm_at(4, P);
        assert_eq!((t.cost, t.false_alarms, t.called), (50.0 + 50.0 + 1000.0, 1, 0));
        assert_eq!(run(&[0.0; 10], P, Answer::Inspect).cost, 1000.0);
    }

    #[test]
    fn a_present_fault_that_goes_on_to_fail_must_be_called_in_time() {
        let end = End::Faulty { since: 5 * H, failure: Some(9 * H) };
        assert_eq!((alarm_at(8, end).called, alarm_at(8, end).late), (1, 0));
        assert_eq!((alarm_at(9, end).called, alarm_at(9, end).late), (0, 1));
    }

    #[test]
    fn an_oracle_calls_at_the_last_moment_that_helps_and_pays_least() {
        let times: Vec<i64> = (0..10).map(|h| h * H).collect();
        assert_eq!(oracle(&times, F, &costs()), Some(9));
        assert_eq!(oracle(&times, End::Failed(9 * H), &costs()), Some(8));
        assert_eq!(oracle(&times, End::Failed(30 * H), &costs()), None, "its last reading is too early for an inspection");
        assert_eq!(oracle(&times, End::Found(9 * H), &costs()), Some(9));
        assert_eq!(oracle(&times, End::Well, &costs()), None);
        assert_eq!(oracle(&times, P, &costs()), Some(5));
        let cheapest = (0..10).map(|row| alarm_at(row, F).cost).fold(f64::INFINITY, f64::min);
        assert_eq!(alarm_at(9, F).cost, cheapest);
    }

    #[test]
    fn every_alarm_is_told_with_what_it_came_to() {
        let times: Vec<i64> = (0..10).map(|h| h * H).collect();
        let rules = Rules::check(&WrittenDecide { raise_for: "0s".into(), raise_readings: 1, ..Default::default() }).unwrap();
        let scores = [0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9];
        let mut told = Vec::new();
        let life = LifeRows { times: &times, scores: &scores, end: F };
        price_and_tell(life, 0.5, &rules, &costs(), Answer::Inspect, 20.0, |row, outcome| told.push((row, outcome)));
        assert_eq!(told, [(1, Outcome::False), (7, Outcome::Called)]);
    }

    #[test]
    fn costs_that_make_no_sense_are_refused() {
        let key = |w: WrittenCosts| Costs::check(&w, 600_000).unwrap_err().key;
        assert_eq!(key(WrittenCosts { failure: 100.0, ..Default::default() }), "costs.failure");
        assert_eq!(key(WrittenCosts { part: -1.0, ..Default::default() }), "costs.part");
        assert_eq!(key(WrittenCosts { trip: 0.0, inspect: 0.0, ..Default::default() }), "costs.inspect");
        assert_eq!(key(WrittenCosts { min_lead: "20m".into(), ..Default::default() }), "costs.min_lead");
    }
}
