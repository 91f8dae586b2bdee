//! Past failures name what looks alike, siblings included, and signatures that do not fit are refused by name.

use super::*;
use crate::Fleet;
use crate::fleet::tests::small;

fn spec() -> FeatureSpec {
    FeatureSpec::new(&Fleet::check(&small()).unwrap())
}

/// The last values of battery_v, motor_1_temp, motor_2_temp and temp_spread, uncorrelated, 10 ± 2 each.
pub(crate) fn written(past: &[(&str, [f64; 4])]) -> WrittenSignatures {
    let past = past.iter().map(|(component, d)| WrittenSignature { component: (*component).into(), direction: d.to_vec() });
    WrittenSignatures {
        columns: vec![0, 1, 2, 3],
        mean: vec![10.0; 4],
        inverse: vec![0.5; 4],
        lower: vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        past: past.collect(),
    }
}

/// What is voted for where the four columns are so many standard deviations from healthy ones.
fn voted(written: WrittenSignatures, z: [f64; 4]) -> Option<String> {
    let mut row = vec![f64::NAN; spec().len()];
    row.iter_mut().zip(z).for_each(|(x, z)| *x = 10.0 + 2.0 * z);
    Signatures::check(written, &spec()).unwrap().vote(&row).map(String::from)
}

fn names(past: &[(&str, [f64; 4])], z: [f64; 4]) -> Option<String> {
    voted(written(past), z)
}

#[test]
fn the_columns_are_those_that_the_tests_mean() {
    let names: Vec<String> = (0..4).map(|c| spec().name(c)).collect();
    assert_eq!(names, ["battery_v.last", "motor_1_temp.last", "motor_2_temp.last", "temp_spread.last"]);
}

#[test]
fn what_looks_like_a_past_failure_has_its_name_however_strong_it_is() {
    let past = [("battery", [-3.0, 0.0, 0.0, 0.0]), ("motor_1", [0.0, 2.0, 0.0, 1.0])];
    assert_eq!(names(&past, [-0.5, 0.1, 0.0, 0.0]).as_deref(), Some("battery"));
    assert_eq!(names(&past, [-0.5, 9.0, 0.0, 4.0]).as_deref(), Some("motor_1"));
}

#[test]
fn a_sibling_stands_in() {
    assert_eq!(names(&[("motor_1", [0.0, 2.0, 0.0, 1.0])], [0.0, 0.0, 5.0, 2.0]).as_deref(), Some("motor_2"));
}

#[test]
fn what_is_no_component_of_the_fleet_is_named_at_the_other_sibling_too() {
    let past = [("esc", [0.0, 2.0, 0.7, 0.0]), ("motor_1", [0.0, 2.0, 0.0, 0.0])];
    assert_eq!(names(&past, [0.0, 0.7, 2.0, 0.0]).as_deref(), Some("esc"));
    assert_eq!(names(&past, [0.0, 0.0, 2.0, 0.0]).as_deref(), Some("motor_2"));
}

#[test]
fn siblings_changed_are_no_further_evidence_where_nothing_changes() {
    let spec = spec();
    let directions = |past| Signatures::check(written(&[past]), &spec).unwrap().directions.len();
    assert_eq!(directions(("battery", [1.0, 0.0, 0.0, 0.0])), 1);
    assert_eq!(directions(("battery", [1.0, 1.0, 0.0, 0.0])), 2);
    assert_eq!(directions(("motor_1", [1.0, 0.0, 0.0, 0.0])), 2, "the same look is evidence for each of two siblings");
}

#[test]
fn one_that_is_alike_outvotes_many_that_are_somewhat() {
    let mut past = vec![("battery", [1.0, 0.0, 0.0, 1.0]); 5];
    past.push(("motor_1", [0.1, 1.0, 0.0, 0.0]));
    assert_eq!(names(&past, [0.6, 1.0, 0.0, 0.0]).as_deref(), Some("motor_1"));
}

#[test]
fn what_healthy_readings_do_together_is_no_news() {
    // The motors run hot together: correlated by 0.96.
    let together = |past| WrittenSignatures { lower: vec![1.0, 0.0, 1.0, 0.0, 0.96, 0.28, 0.0, 0.0, 0.0, 1.0], ..written(past) };
    let past = [("motor_1", [0.0, 1.0, 0.0, 0.0]), ("battery", [0.5, 1.5, 1.5, 0.0])];
    assert_eq!(voted(together(&past), [0.1, 2.0, 1.2, 0.0]).as_deref(), Some("motor_1"));
    assert_eq!(voted(written(&past), [0.1, 2.0, 1.2, 0.0]).as_deref(), Some("battery"), "without it the heat of both is seen");
}

#[test]
fn what_is_missing_looks_healthy_and_where_nothing_is_alike_the_loudest_features_name() {
    let past = [("motor_1", [0.0, 2.0, 0.0, 1.0])];
    assert_eq!(names(&past, [f64::NAN, 1.0, f64::NAN, f64::NAN]).as_deref(), Some("motor_1"));
    assert_eq!(names(&past, [f64::NAN; 4]), None);
    assert_eq!(names(&past, [0.0; 4]), None, "as healthy as can be");
    assert_eq!(names(&past, [5.0, 0.5, 0.0, 0.5]), None, "hardly alike");
    let (spec, mut row) = (spec(), vec![10.0; spec().len()]);
    let signatures = Signatures::check(written(&past), &spec).unwrap();
    let battery = |added: &mut [f64]| added[0] = 0.1;
    row[0] = 20.0;
    assert_eq!(component(&spec, Some(&signatures), &row, battery), Some("battery"));
    row[1] = 99.0;
    assert_eq!(component(&spec, Some(&signatures), &row, battery), Some("motor_1"));
    assert_eq!(component(&spec, None, &row, battery), Some("battery"));
}

#[test]
fn infinities_name_nothing_wrong_and_panic_nowhere() {
    let past = [("motor_1", [0.0, 2.0, 0.0, 1.0])];
    assert_eq!(names(&past, [0.0, f64::INFINITY, 0.0, 0.0]).as_deref(), Some("motor_1"));
    assert_eq!(names(&[("motor_1", [0.0, f64::MAX, 0.0, 0.0])], [0.0, 1.0, 0.0, 0.0]).as_deref(), Some("motor_1"));
}

#[test]
fn signatures_that_do_not_fit_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut WrittenSignatures)| {
        let mut w = written(&[("motor_1", [0.0, 2.0, 0.0, 1.0])]);
        change(&mut w);
        Signatures::check(w, &spec()).map(|_| ()).map_err(|e| e.to_string()).err()
    };
    assert_eq!(refused(&|_| ()), None);
    let said = |change: &dyn Fn(&mut WrittenSignatures), expected: &str| assert_eq!(refused(change).as_deref(), Some(expected));
    let n = spec().len();
    let columns = |found: &str| format!("signatures.columns: found {found}, expected columns below {n}, ascending");
    said(&|w| w.columns = vec![0, 1, 1, 3], &columns("[0, 1, 1, 3]"));
    said(&|w| w.columns[3] = n as u32, &columns(&format!("[0, 1, 2, {n}]")));
    said(&|w| w.columns.clear(), &columns("[]"));
    said(&|w| w.mean.truncate(3), "signatures.mean: found 3 values, expected 4");
    said(&|w| w.mean[1] = f64::NAN, "signatures.mean[1]: found NaN, expected a finite number");
    said(&|w| w.inverse[2] = -0.5, "signatures.inverse[2]: found -0.5, expected 0 or more");
    said(&|w| w.lower.push(1.0), "signatures.lower: found 11 values, expected 10");
    said(&|w| w.lower[5] = 0.0, "signatures.lower[5]: found 0, expected a diagonal above 0");
    said(&|w| w.past[0].direction.push(1.0), "signatures.past[0].direction: found 5 values, expected 4");
    said(&|w| w.past[0].direction[3] = f64::NAN, "signatures.past[0].direction[3]: found NaN, expected a finite number");
    said(&|w| w.past[0].direction.fill(0.0), "signatures.past[0].direction: found no direction, expected a value other than 0");
}
