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
}

/// Labels of the readings at `times` (ascending) of one device, given its marks (ascending by time).
pub fn label(times: &[i64], marks: &[(i64, Mark)], target: Target) -> Vec<RowLabel> {
    let mut labels = vec![RowLabel::LeftOut; times.len()];
    for life in lives(times, marks) {
        let rows = life.first..life.end;
        let known_until = life_end(times, marks, &life);
        let faulty_from = marks.iter().find(|(at, m)| *m == Mark::Fault && *at >= life_start(times, marks, &life)).map(|m| m.0);
        for row in rows {
            let t = times[row];
            labels[row] = match (target, life.failure) {
                (Target::Present, _) => RowLabel::Present(faulty_from.is_some_and(|from| t >= from)),
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
    let mut first = 0;
    let mut broken = false;
    let mut retired = false;
    for (at, mark) in marks {
        let past = times.partition_point(|t| t <= at);
        match mark {
            Mark::Failure if !broken && !retired => {
                push(&mut lives, first, past, Some(*at));
                broken = true;
            }
            Mark::Repair | Mark::Retired => {
                if !broken && !retired {
                    push(&mut lives, first, past, None);
                }
                broken = false;
                retired = *mark == Mark::Retired;
            }
            Mark::Failure | Mark::Fault => continue,
        }
        first = past;
    }
    if !broken && !retired {
        push(&mut lives, first, times.len(), None);
    }
    lives
}

fn push(lives: &mut Vec<Life>, first: usize, end: usize, failure: Option<i64>) {
    if first < end {
        lives.push(Life { first, end, failure });
    }
}

/// Until when a life without failure is known to have gone well: the repair that ended it, else its last reading.
fn life_end(times: &[i64], marks: &[(i64, Mark)], life: &Life) -> i64 {
    let last = times[life.end - 1];
    let next = times.get(life.end).copied();
    let closing = marks.iter().filter(|(at, m)| matches!(m, Mark::Repair | Mark::Retired) && *at >= last && next.is_none_or(|n| *at < n));
    closing.map(|(at, _)| *at).next().unwrap_or(last)
}

/// The repair that began a life, or the dawn of time.
fn life_start(times: &[i64], marks: &[(i64, Mark)], life: &Life) -> i64 {
    let first = times[life.first];
    let before = marks.iter().filter(|(at, m)| *m == Mark::Repair && *at <= first).map(|m| m.0);
    before.max().unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drawn timeline, one column a minute: `.` reading, `F` failure, `f` fault, `M` maintenance, `R` retired, ` ` nothing;
    /// a reading and an event in one minute are written as the lower row. Labels for a horizon of 3 minutes come back as
    /// `+` positive, `-` negative, `?` unknown.
    fn check(readings: &str, events: &str, target: Target, expected: &str) {
        let minutes = |line: &str, want: &dyn Fn(char) -> bool| {
            line.chars().enumerate().filter(|(_, c)| want(*c)).map(|(i, c)| (i as i64 * 60_000, c)).collect::<Vec<_>>()
        };
        let times: Vec<i64> = minutes(readings, &|c| c == '.').iter().map(|r| r.0).collect();
        let mark = |c| match c {
            'F' => Mark::Failure,
            'f' => Mark::Fault,
            'M' => Mark::Repair,
            'R' => Mark::Retired,
            other => panic!("no event {other}"),
        };
        let marks: Vec<_> = minutes(events, &|c| c != ' ').into_iter().map(|(t, c)| (t, mark(c))).collect();
        let mut drawn: Vec<char> = readings.chars().map(|_| ' ').collect();
        for (t, l) in times.iter().zip(label(&times, &marks, target)) {
            drawn[(t / 60_000) as usize] = match l.at(3 * 60_000) {
                Label::Positive => '+',
                Label::Negative => '-',
                Label::Unknown => '?',
            };
        }
        assert_eq!(drawn.into_iter().collect::<String>(), expected, "\nreadings {readings}\nevents   {events}");
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
    fn a_confirmed_inspection_is_a_failure() {
        let event = |kind| Event { ts: 0, kind, component: None, alert_id: None, extra: None };
        assert_eq!(Mark::of(&event(EventKind::Inspection(Finding::Confirmed))), Some(Mark::Failure));
        assert_eq!(Mark::of(&event(EventKind::Inspection(Finding::NoFaultFound))), None);
        assert_eq!(Mark::of(&event(EventKind::Attributes)), None);
    }
}
