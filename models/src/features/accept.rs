//! Which readings of a device enter its history: they rise strictly in `ts`; a clock step and a frozen clock are recognised.
//! The one place of this rule. It depends on nothing but the readings: no clock, no rate.

/// Why a reading stays out of the device's history. It is archived all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Older than the newest accepted reading.
    Late,
    /// Of the same `ts` as the newest accepted reading.
    Duplicate,
    /// One of ten or more in a row with one and the same `ts`: the device's clock stands still.
    FrozenClock,
}

impl Refusal {
    /// The word in the archive's `scores`: `late`, `duplicate`, `frozen_clock`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::FrozenClock => "frozen_clock",
        }
    }
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the newest.
    Accepted,
    /// The device's clock stepped back: the windows restart with this reading. It is accepted.
    ClockStep,
    /// It stays out.
    Refused(Refusal),
}

impl Verdict {
    /// The word in the archive's `scores`: none for an accepted reading, `clock_step`, or the refusal's.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Accepted => None,
            Self::ClockStep => Some("clock_step"),
            Self::Refused(refusal) => Some(refusal.word()),
        }
    }
}

/// Readings refused in a row, rising among themselves, that make a clock step; and refused in a row with one `ts`, a frozen clock.
const IN_A_ROW: u32 = 10;

/// How many readings of a device met which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted, clock steps among them.
    pub accepted: u64,
    /// Of those, clock steps.
    pub clock_steps: u64,
    /// Refused as late.
    pub late: u64,
    /// Refused as duplicate.
    pub duplicate: u64,
    /// Refused for a frozen clock.
    pub frozen_clock: u64,
}

impl Counts {
    fn count(&mut self, verdict: Verdict) {
        let place = match verdict {
            Verdict::Accepted => &mut self.accepted,
            Verdict::ClockStep => {
                self.accepted += 1;
                &mut self.clock_steps
            }
            Verdict::Refused(Refusal::Late) => &mut self.late,
            Verdict::Refused(Refusal::Duplicate) => &mut self.duplicate,
            Verdict::Refused(Refusal::FrozenClock) => &mut self.frozen_clock,
        };
        *place += 1;
    }
}

/// The rule's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acceptance {
    newest: Option<i64>,
    /// Readings refused since the last accepted one: the newest run that rose, the newest run of one `ts`, and the last one's `ts`.
    pub(super) rising: u32,
    pub(super) standing: u32,
    pub(super) last_refused: i64,
    pub(super) counts: Counts,
}

impl Acceptance {
    /// A memory whose newest accepted reading is `newest`.
    pub(super) fn resumed(newest: Option<i64>, counts: Counts) -> Self {
        Self { newest, counts, ..Self::default() }
    }

    /// Judges a reading of time `ts`, and counts it.
    pub fn judge(&mut self, ts: i64) -> Verdict {
        let verdict = self.verdict(ts);
        self.counts.count(verdict);
        verdict
    }

    fn verdict(&mut self, ts: i64) -> Verdict {
        let Some(newest) = self.newest.filter(|newest| ts <= *newest) else {
            *self = Self::resumed(Some(ts), self.counts);
            return Verdict::Accepted;
        };
        let again = self.rising > 0;
        self.rising = if again && ts > self.last_refused { self.rising + 1 } else { 1 };
        self.standing = if again && ts == self.last_refused { self.standing.saturating_add(1) } else { 1 };
        self.last_refused = ts;
        if self.rising == IN_A_ROW {
            *self = Self::resumed(Some(ts), self.counts);
            return Verdict::ClockStep;
        }
        Verdict::Refused(match ts {
            _ if self.standing >= IN_A_ROW => Refusal::FrozenClock,
            _ if ts == newest => Refusal::Duplicate,
            _ => Refusal::Late,
        })
    }

    /// The `ts` of the newest accepted reading.
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// How many readings met which end.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(ts: &[i64]) -> String {
        let mut acceptance = Acceptance::default();
        let letter = |v| match v {
            Verdict::Accepted => 'a',
            Verdict::ClockStep => 'S',
            Verdict::Refused(Refusal::Late) => 'l',
            Verdict::Refused(Refusal::Duplicate) => 'd',
            Verdict::Refused(Refusal::FrozenClock) => 'f',
        };
        ts.iter().map(|ts| letter(acceptance.judge(*ts))).collect()
    }

    #[test]
    fn accepted_readings_rise_strictly() {
        assert_eq!(judge(&[1, 2, 2, 1, 3, 10, 9, 11]), "aadlaala");
    }

    #[test]
    fn ten_late_ones_that_rise_among_themselves_are_a_clock_step() {
        let stepped: Vec<i64> = [1000].into_iter().chain(1..=12).collect();
        assert_eq!(judge(&stepped), "alllllllllSaa");
    }

    #[test]
    fn a_clock_that_stands_still_is_frozen_from_the_tenth_on_until_it_moves() {
        assert_eq!(judge(&[5; 13]), "adddddddddfff");
        let late: Vec<i64> = [9].into_iter().chain([5; 11]).chain([6, 10, 10]).collect();
        assert_eq!(judge(&late), "alllllllllfflad");
    }

    #[test]
    fn a_shuffled_past_is_no_step() {
        let shuffled: Vec<i64> = [1000].into_iter().chain((1..=20).map(|i| if i % 2 == 0 { i } else { 500 - i })).collect();
        assert!(!judge(&shuffled).contains('S'));
    }

    #[test]
    fn every_reading_is_counted_once() {
        let mut acceptance = Acceptance::default();
        [1000].into_iter().chain(1..=10).chain([10; 11]).for_each(|ts| _ = acceptance.judge(ts));
        let counts = Counts { accepted: 2, clock_steps: 1, late: 9, duplicate: 9, frozen_clock: 2 };
        assert_eq!(acceptance.counts(), counts);
        assert_eq!(Verdict::Refused(Refusal::FrozenClock).word(), Some("frozen_clock"));
        assert_eq!((Verdict::ClockStep.word(), Verdict::Accepted.word()), (Some("clock_step"), None));
    }
}
