//! Labels: what each reading of a device knew of the future.
//!
//! A reading at t is positive for horizon h if the next failure f has 0 ≤ f − t ≤ h. Maintenance, retirement or the end of the
//! data without a failure censors the last h before the last reading heard: a device that was called home and repaired never failed, and
//! must not teach that its readings were healthy. Readings after a failure until the next maintenance are left out.
//!
//! An inspection that confirmed a fault says that a failure was to come, but not when. It censors, too; only its last readings, taken at the
//! time of the call, are positive: that call was right. Taken for a failure at its `ts` it would teach each generation of models to call a
//! little earlier than the one before.

use crate::{Event, EventKind, Finding};

/// What a target learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A failure within a horizon.
    Failure,
    /// A fault present now: from `fault` to the failure or repair.
    Present,
}

/// What an event means to labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The device failed.
    Failure,
    /// An inspection confirmed that it was about to.
    Found,
    /// A fault began.
    Fault,
    /// Something was repaired or replaced: what came before tells nothing of what comes after.
    Repair,
    /// Taken out of service.
    Retired,
}

impl Mark {
    /// The mark of an event, or `None` if it means nothing to labels.
    pub fn of(event: &Event) -> Option<Self> {
        match event.kind {
            EventKind::Failure => Some(Self::Failure),
            EventKind::Inspection(Finding::Confirmed) => Some(Self::Found),
            EventKind::Fault => Some(Self::Fault),
            EventKind::Maintenance => Some(Self::Repair),
            EventKind::Retired => Some(Self::Retired),
            _ => None,
        }
    }
}

/// What a confirmed inspection tells labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A failure at its `ts`: for fleets with too few failures to do without, and for target `present`.
    Failure,
    /// The readings of the last `lead` milliseconds before it count as failing within `within` milliseconds; it censors the others.
    Within {
        /// How long before the last reading one still counts as taken at the time of the call: `costs.min_lead`.
        lead: i64,
        /// The longest horizon, which decides. An inspection may find what is farther ahead (`costs.detectable`), but then the call was right all the same.
        within: i64,
    },
    /// Nothing, and neither does a repair: what did not fail was healthy. Wrong once calls are obeyed; kept to be measured beside the others.
    Nothing,
}

/// How labels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labelling {
    /// What is learnt.
    pub target: Target,
    /// What a confirmed inspection tells.
    pub found: Found,
}

impl Labelling {
    /// The marks of a device's events, in order of time; of one moment, a failure comes before the inspection that confirms it, and both before the repair.
    pub fn marks(&self, events: &[Event]) -> Vec<(i64, Mark)> {
        let mark = |e: &Event| match (Mark::of(e)?, self.found) {
            (Mark::Found, Found::Failure) => Some((e.ts, Mark::Failure)),
            (Mark::Found, Found::Nothing) => None,
            (mark, _) => Some((e.ts, mark)),
        };
        let mut marks: Vec<(i64, Mark)> = events.iter().filter_map(mark).collect();
        let rank = |mark: &Mark| match mark {
            Mark::Failure => 0,
            Mark::Found => 1,
            Mark::Fault | Mark::Repair | Mark::Retired => 2,
        };
        marks.sort_by_key(|(ts, mark)| (*ts, rank(mark)));
        marks
    }
}

/// What one reading knows of the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLabel {
    /// The next failure comes this many milliseconds after the reading.
    Fails(i64),
    /// No failure is known; it is known that there was none for this many milliseconds.
    Survives(i64),
    /// The next failure comes within this many milliseconds, above 0; how soon is not known.
    FailsWithin(i64),
    /// Not to be used: after a failure and before the repair, or after retirement.
    LeftOut,
    /// Target `present`: whether a fault is present.
    Present(bool),
}

/// The label of a reading for one horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// It fails within the horizon.
    Positive,
    /// It does not.
    Negative,
    /// Nobody knows, or the reading is not to be used.
    Unknown,
}

impl RowLabel {
    /// The label for a horizon of `horizon_ms` (ignored where a fault is present or not).
    pub fn at(self, horizon_ms: i64) -> Label {
        match self {
            Self::Fails(ms) if ms <= horizon_ms => Label::Positive,
            Self::Present(true) => Label::Positive,
            Self::Fails(_) | Self::Present(false) => Label::Negative,
            Self::Survives(ms) if ms >= horizon_ms => Label::Negative,
            Self::FailsWithin(ms) if ms <= horizon_ms => Label::Positive,
            Self::Survives(_) | Self::FailsWithin(_) | Self::LeftOut => Label::Unknown,
        }
    }
}

/// A stretch of a device's history between repairs: readings `first..end` by index, none of them left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// First reading.
    pub first: usize,
    /// One past the last reading.
    pub end: usize,
    /// When it failed; `None` if it was repaired, retired or the data ends.
    pub failure: Option<i64>,
    /// Its last reading before an inspection confirmed that it was about to fail, if one did and it had not failed.
    pub found: Option<i64>,
    /// When a fault was first reported, if one was.
    pub fault: Option<i64>,
}

impl Life {
    /// Whether it ended in a failure, or would have.
    pub fn failed(&self) -> bool {
        self.failure.or(self.found).is_some()
    }

    /// When it failed or was found to be about to; else when its fault was first reported.
    pub fn trouble(&self) -> Option<i64> {
        self.failure.or(self.found).or(self.fault)
    }
}

/// Labels of the readings at `times` (ascending) of one device, given its marks (ascending by time) under the same `labelling`.
pub fn label(times: &[i64], marks: &[(i64, Mark)], labelling: &Labelling) -> Vec<RowLabel> {
    let mut labels = vec![RowLabel::LeftOut; times.len()];
    for life in lives(times, marks) {
        // Not the repair that ended it: between landing and workshop nobody flew, and nothing was survived.
        let last = times[life.end - 1];
        for row in life.first..life.end {
            let t = times[row];
            labels[row] = match (labelling.target, life.failure, life.found, labelling.found) {
                (Target::Present, ..) => RowLabel::Present(life.fault.is_some_and(|from| t >= from)),
                (Target::Failure, Some(f), ..) => RowLabel::Fails(f - t),
                (Target::Failure, None, Some(found), Found::Within { lead, within }) if found - t <= lead => RowLabel::FailsWithin(within),
                (Target::Failure, None, _, Found::Nothing) => RowLabel::Survives(i64::MAX),
                (Target::Failure, None, ..) => RowLabel::Survives(last - t),
            };
        }
    }
    labels
}

/// The lives in a device's history. A reading at the very time of a failure belongs to the life that failed; one at the very time of
/// a repair belongs to the life before it.
pub fn lives(times: &[i64], marks: &[(i64, Mark)]) -> Vec<Life> {
    let mut lives = Vec::new();
    let (mut first, mut fault) = (0, None);
    let mut broken = false;
    let mut retired = false;
    for (at, mark) in marks {
        let past = times.partition_point(|t| t <= at);
        match mark {
            Mark::Failure if !broken && !retired => {
                push(&mut lives, Life { first, end: past, failure: Some(*at), found: None, fault });
                broken = true;
            }
            Mark::Found if !broken && !retired => {
                let found = times[..past].last().copied();
                push(&mut lives, Life { first, end: past, failure: None, found, fault });
                broken = true;
            }
            Mark::Repair | Mark::Retired => {
                if !broken && !retired {
                    push(&mut lives, Life { first, end: past, failure: None, found: None, fault });
                }
                broken = false;
                retired = *mark == Mark::Retired;
            }
            Mark::Fault => {
                fault = fault.or(Some(*at));
                continue;
            }
            Mark::Failure | Mark::Found => continue,
        }
        (first, fault) = (past, None);
    }
    if !broken && !retired {
        push(&mut lives, Life { first, end: times.len(), failure: None, found: None, fault });
    }
    lives
}

fn push(lives: &mut Vec<Life>, life: Life) {
    if life.first < life.end {
        lives.push(life);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drawn timeline, one column a minute: `.` reading; events `F` failure, `f` fault, `M` maintenance, `R` retired, `C` inspection that
    /// confirmed, `n` inspection that found nothing, `d` inspection deferred, `a` attributes, ` ` nothing; a second row of events for those
    /// in the same minute. Labels for a horizon of `horizon` minutes come back as `+` positive, `-` negative, `?` unknown.
    fn draw(readings: &str, events: &[&str], target: Target, horizon: i64) -> String {
        draw_under(&Labelling { target, found: Found::Failure }, readings, events, horizon)
    }

    fn draw_under(labelling: &Labelling, readings: &str, events: &[&str], horizon: i64) -> String {
        let minutes = |line: &str| line.chars().enumerate().map(|(i, c)| (i as i64 * 60_000, c)).collect::<Vec<_>>();
        let times: Vec<i64> = minutes(readings).iter().filter(|(_, c)| *c == '.').map(|r| r.0).collect();
        let kind = |c| match c {
            'F' => EventKind::Failure,
            'f' => EventKind::Fault,
            'M' => EventKind::Maintenance,
            'R' => EventKind::Retired,
            'C' => EventKind::Inspection(Finding::Confirmed),
            'n' => EventKind::Inspection(Finding::NoFaultFound),
            'd' => EventKind::Inspection(Finding::Deferred),
            'a' => EventKind::Attributes,
            other => panic!("no event {other}"),
        };
        let event = |(ts, c)| Event { ts, kind: kind(c), component: None, alert_id: None, extra: None };
        let marks = labelling.marks(&events.iter().flat_map(|row| minutes(row)).filter(|(_, c)| *c != ' ').map(event).collect::<Vec<_>>());
        let mut drawn: Vec<char> = readings.chars().map(|_| ' ').collect();
        for (t, l) in times.iter().zip(label(&times, &marks, labelling)) {
            drawn[(t / 60_000) as usize] = match l.at(horizon * 60_000) {
                Label::Positive => '+',
                Label::Negative => '-',
                Label::Unknown => '?',
            };
        }
        drawn.into_iter().collect()
    }

    fn check(readings: &str, events: &str, target: Target, expected: &str) {
        assert_eq!(draw(readings, &[events], target, 3), expected, "\nreadings {readings}\nevents   {events}");
    }

    #[test]
    fn a_failure_makes_the_last_horizon_positive() {
        check("........  ", "        F ", Target::Failure, "-----+++  ");
        check(".........", "        F", Target::Failure, "-----++++");
    }

    #[test]
    fn readings_after_a_failure_are_left_out_until_maintenance() {
        check("............", "    F   M   ", Target::Failure, "-++++???????");
        check("................", "    F   M       ", Target::Failure, "-++++????----???");
    }

    #[test]
    fn maintenance_without_a_failure_censors_the_last_horizon() {
        check(".........", "        M", Target::Failure, "------???");
        check("................", "        M       ", Target::Failure, "------???----???");
    }

    #[test]
    fn the_end_of_the_data_censors() {
        check("........", "        ", Target::Failure, "-----???");
    }

    #[test]
    fn maintenance_some_time_after_the_last_reading_censors_from_that_reading() {
        check(".....   ....", "      M     ", Target::Failure, "--???   -???");
    }

    #[test]
    fn retirement_censors_and_ends() {
        check("..........", "      R   ", Target::Failure, "----??????");
    }

    #[test]
    fn a_second_failure_report_of_the_same_breakdown_changes_nothing() {
        check("..........", "    F F M ", Target::Failure, "-++++?????");
    }

    #[test]
    fn a_present_fault_is_positive_until_failure_or_repair() {
        check(".............", "   f    M  f ", Target::Present, "---++++++--++");
        check(".............", "   f F  M    ", Target::Present, "---+++???----");
    }

    #[test]
    fn while_failures_are_few_a_confirmed_inspection_is_one_at_its_time() {
        check("................", "        C  M    ", Target::Failure, "-----++++???-???");
    }

    #[test]
    fn inspections_that_found_nothing_or_were_put_off_and_attributes_change_nothing() {
        check("..........", "   n  d a ", Target::Failure, "-------???");
    }

    #[test]
    fn success_does_not_poison_a_device_called_home_and_repaired_is_no_healthy_example() {
        // Called at minute 8, repaired unseen at 9: the last horizon before it teaches nothing, least of all "healthy".
        check(".........       ......", "         M            ", Target::Failure, "------???       ---???");
        // Called and the fault seen: it teaches that what was heard last was near to failing, within three minutes of it.
        let within = |events: &str, horizon| {
            let labelling = Labelling { target: Target::Failure, found: Found::Within { lead: 60_000, within: 180_000 } };
            draw_under(&labelling, ".........       ......", &[events], horizon)
        };
        assert_eq!(within("        C M           ", 3), "------?++       ---???");
        assert_eq!(
            within("           C M        ", 3),
            "------?++       ---???",
            "seen on the ground, as far from the last reading as that may be"
        );
        assert_eq!(within("        C M           ", 2), "-------??       ----??", "three minutes say nothing of two");
        assert_eq!(within("      F C M           ", 3), "---++++??       ---???", "a failure is one");
        // Whoever takes what did not fail for healthy unlearns what he called.
        let nothing = Labelling { target: Target::Failure, found: Found::Nothing };
        let drawn = draw_under(&nothing, ".........       ......", &["        C M           "], 3);
        assert_eq!(drawn, "---------       ------");
    }

    #[test]
    fn a_failure_that_an_inspection_confirms_in_the_same_moment_is_a_failure() {
        let labelling = Labelling { target: Target::Failure, found: Found::Within { lead: 60_000, within: 180_000 } };
        for events in [["      F    ", "      C    "], ["      C    ", "      F    "]] {
            assert_eq!(draw_under(&labelling, "...........", &events, 3), "---++++????");
        }
    }

    #[test]
    fn a_found_life_ends_at_its_inspection_and_begins_anew_at_its_repair() {
        let m = |t: i64| t * 60_000;
        let times: Vec<i64> = (0..12).map(m).collect();
        let found = lives(&times, &[(m(4) + 1, Mark::Found), (m(7), Mark::Repair)]);
        let life = |first, end, found| Life { first, end, failure: None, found, fault: None };
        assert_eq!(found, [life(0, 5, Some(m(4))), life(8, 12, None)]);
    }

    #[test]
    fn a_failure_and_its_repair_in_one_moment_happened_in_that_order() {
        for events in [["    F     ", "    M     "], ["    M     ", "    F     "]] {
            assert_eq!(draw("..........", &events, Target::Failure, 3), "-++++--???");
        }
    }

    #[test]
    fn a_failure_before_the_first_and_after_the_last_reading_still_count() {
        check("   ......", " F       ", Target::Failure, "   ??????");
        check("......   ", "       F ", Target::Failure, "----++   ");
        check("......        ", "             F", Target::Failure, "------        ");
    }

    #[test]
    fn each_horizon_is_censored_on_its_own() {
        let end = |horizon| draw("..........", &["          "], Target::Failure, horizon);
        assert_eq!([end(1), end(3), end(6)], ["---------?", "-------???", "----??????"]);
        let both = |horizon| draw("................", &["     F  M       "], Target::Failure, horizon);
        assert_eq!([both(1), both(3)], ["----++???------?", "--++++???----???"]);
    }

    #[test]
    fn a_longer_horizon_never_turns_a_positive_into_a_negative() {
        let (readings, events) = ("..............................", "   n     F   M     C M     f  ");
        for (short, long) in [(1, 2), (2, 5), (3, 9)] {
            let labels = |h| draw(readings, &[events], Target::Failure, h);
            for (a, b) in labels(short).chars().zip(labels(long).chars()) {
                assert!(!(a == '+' && b != '+' || b == '-' && a != '-'), "{a} at {short} became {b} at {long}");
            }
        }
    }

    #[test]
    fn a_life_knows_its_fault() {
        let m = |t: i64| t * 60_000;
        let times: Vec<i64> = (0..12).map(m).collect();
        let found = lives(&times, &[(m(2), Mark::Fault), (m(4), Mark::Failure), (m(6), Mark::Repair), (m(9), Mark::Fault)]);
        assert_eq!(
            found,
            [
                Life { first: 0, end: 5, failure: Some(m(4)), found: None, fault: Some(m(2)) },
                Life { first: 7, end: 12, failure: None, found: None, fault: Some(m(9)) },
            ]
        );
    }
}
