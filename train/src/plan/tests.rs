//! Plans over drawn timelines, one column a minute; the horizon is three minutes and the window one.

use super::*;
use crate::testing::{Drawn, M, matrix, settings};

/// What each reading of a device is for: a fold's number, `H` hold-out, `p` purged.
fn draw(matrix: &Matrix, plan: &Plan, device: usize) -> String {
    let rows = matrix.devices[device].rows.clone();
    let word = |row: usize| {
        let part = plan.parts().find(|p| plan.judged(matrix, *p).iter().any(|r| r.contains(&row)));
        match part {
            Some(Part::Fold(fold)) => char::from_digit(fold as u32, 36).unwrap(),
            Some(Part::HoldOut) => 'H',
            None => 'p',
        }
    };
    rows.map(word).collect()
}

fn owned(names: &[String], readings: &str, events: impl Fn(usize) -> String) -> Vec<(String, String, String)> {
    names.iter().enumerate().map(|(i, n)| (n.clone(), readings.to_string(), events(i))).collect()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("d-{i:02}")).collect()
}

fn with<T>(devices: &[(String, String, String)], test: impl FnOnce(&[Drawn<'_>]) -> T) -> T {
    let drawn: Vec<Drawn<'_>> = devices.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    test(&drawn)
}

/// Twelve devices that fail and are repaired again and again, each a minute after the one before.
fn repaired() -> Vec<(String, String, String)> {
    let readings = ".".repeat(80);
    owned(&names(12), &readings, |i| {
        let mut events = vec![' '; 80];
        for life in 0..3 {
            events[20 + 20 * life + i] = 'F';
            events[22 + 20 * life + i] = 'M';
        }
        events.into_iter().collect()
    })
}

#[test]
fn where_devices_live_again_the_latest_failures_are_held_out_and_the_gap_before_them_is_purged() {
    with(&repaired(), |devices| {
        let settings = settings(|_| ());
        let matrix = matrix(devices, &settings);
        let plan = Plan::new(&matrix, &settings, None);
        // 36 failures, a fifth is 7: the 29th is that of the fifth device's third life.
        let cut = plan.cut.unwrap();
        assert_eq!((cut.from - 1) / M, 64);
        assert_eq!(cut.from - cut.until, 3 * M + M, "horizon and longest window");
        let drawn = draw(&matrix, &plan, 0);
        let fold = drawn.chars().next().unwrap();
        let expected: String = (0..80)
            .map(|m| {
                if m <= 60 {
                    fold
                } else if m <= 64 {
                    'p'
                } else {
                    'H'
                }
            })
            .collect();
        assert_eq!(drawn, expected);
    });
}

#[test]
fn no_row_learnt_from_sees_a_failure_of_the_hold_out() {
    with(&repaired(), |devices| {
        let settings = settings(|_| ());
        let matrix = matrix(devices, &settings);
        let plan = Plan::new(&matrix, &settings, None);
        let from = plan.cut.unwrap().from;
        for row in plan.learnt_from(&matrix, Some(Part::HoldOut)).into_iter().flatten() {
            assert!(matrix.times[row] + settings.horizon() + longest_window(&matrix) < from, "row at minute {}", matrix.times[row] / M);
        }
    });
}

#[test]
fn an_alarm_in_sight_of_a_failure_beyond_the_cut_is_not_priced_as_false() {
    with(&repaired(), |devices| {
        let settings = settings(|_| ());
        let matrix = matrix(devices, &settings);
        let plan = Plan::new(&matrix, &settings, None);
        for stretch in plan.stretches.iter().filter(|s| s.part != Part::HoldOut && s.end == End::Well) {
            let device = &matrix.devices[stretch.device];
            let last = matrix.times[stretch.rows.end - 1];
            let next = device.lives.iter().filter_map(|l| l.failure).find(|f| *f > last);
            assert!(next.is_none_or(|f| f - last > settings.costs.detectable), "{stretch:?} fails at {next:?}");
        }
        let failures = |part: &dyn Fn(Part) -> bool| plan.stretches.iter().filter(|s| part(s.part) && s.end != End::Well).count();
        assert_eq!(failures(&|p| p == Part::HoldOut), 7);
        assert_eq!(failures(&|p| p != Part::HoldOut), 25, "four more fail in the gap and are judged by nobody");
    });
}

#[test]
fn where_each_device_has_one_life_other_devices_are_held_out() {
    let devices = owned(&names(20), "..........", |i| if i < 10 { "         F".into() } else { "          ".into() });
    with(&devices, |devices| {
        let settings = settings(|_| ());
        let matrix = matrix(devices, &settings);
        let plan = Plan::new(&matrix, &settings, None);
        assert_eq!(plan.cut, None);
        let held_out = |failing: bool| (0..20).filter(|d| plan.device[*d].is_none() && matrix.failing(*d) == failing).count();
        assert_eq!((held_out(true), held_out(false)), (2, 2), "a fifth of the failing and of the healthy");
        for d in 0..20 {
            let drawn = draw(&matrix, &plan, d);
            assert!(drawn.chars().all(|c| drawn.starts_with(c)), "a device is in one part: {drawn}");
        }
    });
}

#[test]
fn no_model_learns_from_a_device_that_it_is_judged_on() {
    let devices = owned(&names(20), "..........", |i| if i < 10 { "         F".into() } else { "          ".into() });
    with(&devices, |devices| {
        let settings = settings(|_| ());
        let matrix = matrix(devices, &settings);
        let plan = Plan::new(&matrix, &settings, None);
        let mut judged = vec![0; matrix.rows()];
        for part in plan.parts() {
            let learnt = plan.learnt_from(&matrix, Some(part));
            for rows in plan.judged(&matrix, part) {
                rows.clone().for_each(|row| judged[row] += 1);
                assert!(learnt.iter().all(|l| l.end <= rows.start || l.start >= rows.end), "{part:?} {rows:?}");
            }
            let held_out: Vec<_> = plan.judged(&matrix, Part::HoldOut);
            assert!(
                held_out.iter().flat_map(Clone::clone).all(|row| !learnt.iter().any(|l| l.contains(&row))),
                "{part:?} has learnt from the hold-out"
            );
        }
        assert!(judged.iter().all(|n| *n == 1), "each row is judged once");
    });
}

#[test]
fn with_fewer_than_ten_failures_each_failing_device_is_a_fold_and_nothing_is_held_out() {
    let devices = owned(&names(12), "..........", |i| if i < 4 { "         F".into() } else { "          ".into() });
    with(&devices, |devices| {
        let settings = settings(|_| ());
        let matrix = matrix(devices, &settings);
        let plan = Plan::new(&matrix, &settings, None);
        assert!(plan.few);
        assert_eq!((plan.folds, plan.parts().count()), (4, 4));
        let mut folds: Vec<_> = (0..12).filter(|d| matrix.failing(*d)).map(|d| plan.device[d]).collect();
        folds.sort();
        assert_eq!(folds, [Some(0), Some(1), Some(2), Some(3)]);
    });
}

#[test]
fn the_hold_out_begins_later_than_the_champion_has_seen_if_enough_fails_after_that() {
    with(&repaired(), |devices| {
        let settings = settings(|t| t.holdout = 0.5);
        let matrix = matrix(devices, &settings);
        let from = |seen: Option<i64>| (Plan::new(&matrix, &settings, seen).cut.unwrap().from - 1) / M;
        assert_eq!(from(None), 45, "half of 36");
        assert_eq!(from(Some(20 * M)), 45, "what it has not seen begins before");
        assert_eq!(from(Some(54 * M)), 57, "after its horizon and window");
        assert_eq!(from(Some(68 * M)), 45, "nothing to compare on is left after that");
    });
}
