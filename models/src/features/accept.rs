//! Which readings of a device enter its history: they rise strictly in `ts`; a clock step is recognised.

/// Why a reading stays out of the device's history. It is archived all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Older than the newest accepted reading.
    Late,
    /// Of the same `ts` as the newest accepted reading.
    Duplicate,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the newest.
    Accepted,
    /// The device's clock stepped back: the windows restart with this reading.
    ClockStep,
    /// It stays out.
    Refused(Refusal),
}

/// Readings refused in a row, rising among themselves, that make a clock step.
const STEP_AFTER: u32 = 10;

/// The rule's memory. It depends on nothing but the readings: no clock, no rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acceptance {
    newest: Option<i64>,
    refused_in_a_row: u32,
    last_refused: i64,
}

impl Acceptance {
    /// Judges a reading of time `ts`.
    pub fn judge(&mut self, ts: i64) -> Verdict {
        let Some(newest) = self.newest.filter(|newest| ts <= *newest) else {
            *self = Self { newest: Some(ts), ..Self::default() };
            return Verdict::Accepted;
        };
        let rising = self.refused_in_a_row > 0 && ts > self.last_refused;
        self.refused_in_a_row = if rising { self.refused_in_a_row + 1 } else { 1 };
        self.last_refused = ts;
        if self.refused_in_a_row == STEP_AFTER {
            *self = Self { newest: Some(ts), ..Self::default() };
            return Verdict::ClockStep;
        }
        Verdict::Refused(if ts == newest { Refusal::Duplicate } else { Refusal::Late })
    }

    /// The `ts` of the newest accepted reading.
    pub fn newest(&self) -> Option<i64> {
        self.newest
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
    fn a_frozen_clock_or_a_shuffled_past_is_no_step() {
        assert_eq!(judge(&[5; 13]), "adddddddddddd");
        let shuffled: Vec<i64> = [1000].into_iter().chain((1..=20).map(|i| if i % 2 == 0 { i } else { 500 - i })).collect();
        assert!(!judge(&shuffled).contains('S'));
    }
}
