//! What would have become of a life that an inspection ended: how high do scores climb before a failure?
//!
//! A device that was called and repaired tells how high a policy's score had climbed by then, not how high it would have gone. A policy that
//! calls at a higher score might have called in time, or not at all. The share that climbs on is estimated by Kaplan and Meier's method (1958, J. Am. Stat.
//! Assoc. 53) with the score in the place of time: a failure ends a climb, an inspection censors it. Without this, whoever had not called by then is taken to have missed,
//! and each generation of models would be told to call a little earlier than the one before.

use crate::cost::{Answer, Costs, End, LifeRows, Tally};
use crate::decision::Rules;

/// How high a policy's score climbed in one life while an alarm would have helped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// The highest score that stood for as many readings as an alarm takes; negative infinity if there were not so many.
    pub score: f64,
    /// Whether the life ended in a failure; else it was ended by an inspection.
    pub failed: bool,
}

impl Reach {
    /// That of a life; `None` if it neither failed nor would have.
    pub fn of(life: LifeRows<'_>, rules: &Rules, costs: &Costs, answer: Answer) -> Option<Self> {
        let (at, failed) = match life.end {
            End::Failed(at) => (at, true),
            End::Found(at) => (at, false),
            End::Well | End::Faulty { .. } => return None,
        };
        let latest = if failed { at - costs.min_lead } else { at };
        // Who replaces unseen does so at any time.
        let earliest = if answer == Answer::Replace { i64::MIN } else { at - costs.detectable };
        let first = life.times.partition_point(|t| *t < earliest);
        let scores = &life.scores[first..life.times.partition_point(|t| *t <= latest).max(first)];
        let stood = scores.windows(rules.raise_readings.max(1) as usize).map(|w| w.iter().copied().fold(f64::INFINITY, f64::min));
        Some(Self { score: stood.fold(f64::NEG_INFINITY, f64::max), failed })
    }
}

/// The share of lives whose score climbs on, from any height to any other.
#[derive(Debug, Clone, PartialEq)]
pub struct Climb {
    /// Ascending: a height at which lives failed, and the share of those that came so far and climbed on.
    steps: Vec<(f64, f64)>,
    /// The highest of all.
    highest: f64,
}

impl Climb {
    /// Estimated from lives.
    pub fn new(reaches: impl IntoIterator<Item = Reach>) -> Self {
        let mut reaches: Vec<Reach> = reaches.into_iter().collect();
        reaches.sort_by(|a, b| a.score.total_cmp(&b.score));
        let (mut steps, mut left) = (Vec::new(), reaches.len());
        for equal in reaches.chunk_by(|a, b| a.score == b.score) {
            let failed = equal.iter().filter(|r| r.failed).count();
            if failed > 0 {
                steps.push((equal[0].score, 1.0 - failed as f64 / left as f64));
            }
            left -= equal.len();
        }
        Self { steps, highest: reaches.last().map_or(f64::NEG_INFINITY, |r| r.score) }
    }

    /// The share of the lives that climbed to `from` whose score reaches `to` in time; 0 where none was seen so high.
    pub fn goes_on(&self, from: f64, to: f64) -> f64 {
        if to > self.highest {
            return 0.0;
        }
        self.steps.iter().filter(|(score, _)| (from..to).contains(score)).map(|(_, share)| share).product()
    }

    /// Prices anew a life that an inspection ended before the policy called at `threshold`: it would have called in that share of the cases.
    /// Leaves other tallies as they are.
    pub fn settle(&self, tally: &mut Tally, reach: Reach, threshold: f64, costs: &Costs, answer: Answer) {
        if tally.open > 0 {
            let called = if answer == Answer::Replace { costs.repair } else { costs.trip + costs.repair };
            tally.cost -= self.goes_on(reach.score, threshold) * (costs.failure - called);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{WrittenCosts, price};
    use crate::decision::WrittenDecide;

    fn failed(score: f64) -> Reach {
        Reach { score, failed: true }
    }

    fn found(score: f64) -> Reach {
        Reach { score, failed: false }
    }

    #[test]
    fn without_inspections_it_is_the_share_of_those_that_came_higher() {
        let climb = Climb::new([0.1, 0.2, 0.3, 0.4].map(failed));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(climb.goes_on(0.0, 0.3), 0.5) && near(climb.goes_on(0.15, 0.4), 1.0 / 3.0));
        assert_eq!((climb.goes_on(0.0, 0.1), climb.goes_on(0.0, 0.41)), (1.0, 0.0));
    }

    #[test]
    fn what_an_inspection_ended_counts_up_to_there() {
        // Kaplan and Meier by hand: of four one failed at 0.1; the one found at 0.2 says no more; of two one failed at 0.3.
        let climb = Climb::new([failed(0.1), found(0.2), failed(0.3), failed(0.4)]);
        assert_eq!(climb.goes_on(0.0, 0.4), 0.75 * 0.5);
        assert_eq!(climb.goes_on(0.2, 0.4), 0.5);
        assert_eq!(climb.goes_on(0.2, 0.3), 1.0, "none is known to fail between");
    }

    #[test]
    fn nobody_is_believed_to_climb_higher_than_any_was_seen() {
        assert_eq!(Climb::new([failed(0.1), found(0.5)]).goes_on(0.5, 0.6), 0.0);
        assert_eq!(Climb::new([]).goes_on(0.0, 0.1), 0.0);
    }

    #[test]
    fn a_reach_is_what_stood_long_enough_while_it_would_have_helped() {
        let written = WrittenCosts { min_lead: "1m".into(), detectable: "5m".into(), ..Default::default() };
        let costs = Costs::check(&written, 0).unwrap();
        let rules = Rules::check(&WrittenDecide { raise_for: "0s".into(), raise_readings: 2, ..Default::default() }).unwrap();
        let times: Vec<i64> = (0..10).map(|m| m * 60_000).collect();
        //            too early     |                      | too late to help before a failure
        let scores = [0.9, 0.9, 0.0, 0.0, 0.3, 0.8, 0.4, 0.4, 0.5, 1.0];
        let reach = |end, answer| Reach::of(LifeRows { times: &times, scores: &scores, end }, &rules, &costs, answer);
        assert_eq!(reach(End::Failed(9 * 60_000), Answer::Inspect), Some(failed(0.4)));
        assert_eq!(reach(End::Found(9 * 60_000), Answer::Inspect), Some(found(0.5)));
        assert_eq!(reach(End::Found(9 * 60_000), Answer::Replace), Some(found(0.9)));
        assert_eq!(reach(End::Well, Answer::Inspect), None);
        assert_eq!(reach(End::Found(-1), Answer::Inspect), Some(found(f64::NEG_INFINITY)));

        // One of two climbs from 0.5 to 0.7: half a failure, half a call.
        let climb = Climb::new([failed(0.5), found(0.5), failed(0.8)]);
        let life = LifeRows { times: &times, scores: &scores, end: End::Found(9 * 60_000) };
        let mut tally = price(life, 0.7, &rules, &costs, Answer::Inspect, 1.0);
        climb.settle(&mut tally, found(0.5), 0.7, &costs, Answer::Inspect);
        assert_eq!(climb.goes_on(0.5, 0.7), 1.0 - 1.0 / 3.0);
        // The alarm at the first two minutes was false.
        let expected = 100.0 + 1000.0 / 3.0 + 200.0 * 2.0 / 3.0;
        assert!((tally.cost - expected).abs() < 1e-9, "{tally:?}");
    }
}
