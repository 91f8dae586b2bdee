//! Labels: what each reading of a device knew of the future.
//!
//! A reading at t is positive for horizon h if the next failure f has 0 ≤ f − t ≤ h. Maintenance, retirement or the end of the
//! data without a failure censors the last h before it: a device that was called home and repaired never failed, and must not
//! teach that its readings were healthy. Readings after a failure until the next maintenance are left out.

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
    /// The device failed, or an inspection confirmed that it was about to.
    Failure,
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
            EventKind::Failure | EventKind::Inspection(Finding::Confirmed) => Some(Self::Failure),
            EventKind::Fault => Some(Self::Fault),
            EventKind::Maintenance => Some(Self::Repair),
            EventKind::Retired => Some(Self::Retired),
            _ => None,
        }
    }
}

/// The marks of a device's events, in order of time; of one moment, the failure comes before its repair.
pub fn marks(events: &[Event]) -> Vec<(i64, Mark)> {
    let mut marks: Vec<(i64, Mark)> = events.iter().filter_map(|e| Some((e.ts, Mark::of(e)?))).collect();
    marks.sort_by_key(|(ts, mark)| (*ts, *mark != Mark::Failure));
    marks
}

/// What one reading knows of the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLabel {
    /// The next failure comes this many milliseconds after the reading.
    Fails(i64),
    /// No failure is known; it is known that there was none for this many milliseconds.
    Survives(i64),
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
            Self::Survives(_) | Self::LeftOut => Label::Unknown,
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
    /// When a fault was first reported, if one was.
    pub fault: Option<i64>,
}

/// Labels of the readings at `times` (ascending) of one device, given its marks (ascending by time).
pub fn label(times: &[i64], marks: &[(i64, Mark)], target: Target) -> Vec<RowLabel> {
    let mut labels = vec![RowLabel::LeftOut; times.len()];
    for life in lives(times, marks) {
        let rows = life.first..life.end;
        let known_until = life_end(times, marks, &life);
        for row in rows {
            let t = times[row];
            labels[row] = match (target, life.failure) {
                (Target::Present, _) => RowLabel::Present(life.fault.is_some_and(|from| t >= from)),
                (Target::Failure, Some(f)) => RowLabel::Fails(f - t),
                (Target::Failure, None) => RowLabel::Survives(known_until - t),
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
                push(&mut lives, Life { first, end: past, failure: Some(*at), fault });
                broken = true;
            }
            Mark::Repair | Mark::Retired => {
                if !broken && !retired {
                    push(&mut lives, Life { first, end: past, failure: None, fault });
                }
                broken = false;
                retired = *mark == Mark::Retired;
            }
            Mark::Fault => {
                fault = fault.or(Some(*at));
                continue;
            }
            Mark::Failure => continue,
        }
        (first, fault) = (past, None);
    }
    if !broken && !retired {
        push(&mut lives, Life { first, end: times.len(), failure: None, fault });
    }
    lives
}

fn push(lives: &mut Vec<Life>, life: Life) {
    if life.first < life.end {
        lives.push(life);
    }
}

/// Until when a life without failure is known to have gone well: the repair that ended it, else its last reading.
fn life_end(times: &[i64], marks: &[(i64, Mark)], life: &Life) -> i64 {
    let last = times[life.end - 1];
    let next = times.get(life.end).copied();
    let closing = marks.iter().filter(|(at, m)| matches!(m, Mark::Repair | Mark::Retired) && *at >= last && next.is_none_or(|n| *at < n));
    closing.map(|(at, _)| *at).next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drawn timeline, one column a minute: `.` reading; events `F` failure, `f` fault, `M` maintenance, `R` retired, `C` inspection that
    /// confirmed, `n` inspection that found nothing, `d` inspection deferred, `a` attributes, ` ` nothing; a second row of events for those
    /// in the same minute. Labels for a horizon of `horizon` minutes come back as `+` positive, `-` negative, `?` unknown.
    fn draw(readings: &str, events: &[&str], target: Target, horizon: i64) -> String {
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
        let marks = marks(&events.iter().flat_map(|row| minutes(row)).filter(|(_, c)| *c != ' ').map(event).collect::<Vec<_>>());
        let mut drawn: Vec<char> = readings.chars().map(|_| ' ').collect();
        for (t, l) in times.iter().zip(label(&times, &marks, target)) {
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
    fn maintenance_some_time_after_the_last_reading_vouches_until_then() {
        check(".....   ....", "      M     ", Target::Failure, "----?   -???");
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
    fn a_confirmed_inspection_is_a_failure_at_its_time() {
        check("................", "        C  M    ", Target::Failure, "-----++++???-???");
    }

    #[test]
    fn inspections_that_found_nothing_or_were_put_off_and_attributes_change_nothing() {
        check("..........", "   n  d a ", Target::Failure, "-------???");
    }

    #[test]
    fn success_does_not_poison_a_device_called_home_and_repaired_is_no_healthy_example() {
        // Called at minute 8, repaired unseen at 9: the last horizon before it teaches nothing, least of all "healthy".
        check(".........       ......", "         M            ", Target::Failure, "-------??       ---???");
        // Called and the fault seen: it teaches what came before it.
        check(".........       ......", "        C M           ", Target::Failure, "-----++++       ---???");
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
                Life { first: 0, end: 5, failure: Some(m(4)), fault: Some(m(2)) },
                Life { first: 7, end: 12, failure: None, fault: Some(m(9)) },
            ]
        );
    }
}
