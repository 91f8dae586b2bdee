//! The advice for a device by where it is and how long it may last; distances; mistakes by their key.

use super::*;
use crate::cost::WrittenCosts;
use indexmap::IndexMap;
use proptest::prelude::*;

/// Signals `lat`, `lon`, `eta`, `left`, `throttle`.
fn fleet() -> Fleet {
    let signals = ["lat", "lon", "eta", "left", "throttle"].map(|n| format!(r#""{n}": {{"at": "/{n}", "range": [-180, 1e6]}}"#)).join(", ");
    Fleet::check(&serde_json::from_str(&format!(r#"{{"name": "t", "signals": {{{signals}}}}}"#)).unwrap()).unwrap()
}

fn written() -> WrittenDecide {
    WrittenDecide {
        position: vec!["lat".into(), "lon".into()],
        speed: 10.0,
        margin: 1.5,
        ground: IndexMap::from([("throttle".to_owned(), 0.05)]),
        land_cost: Some(200.0),
        ..Default::default()
    }
}

fn homing(w: &WrittenDecide) -> Homing {
    Homing::check(w, &fleet()).unwrap()
}

/// Failure 2000, trip 100, inspect 100, repair 200.
fn costs() -> Costs {
    let w = WrittenCosts { failure: 2000.0, trip: 100.0, inspect: 100.0, repair: 200.0, ..Default::default() };
    Costs::check(&w, 600_000).unwrap()
}

fn check(risks: [f64; 2], situation: Situation, w: &WrittenDecide, expected: Advice) -> ExpectedCost {
    let outlook = Outlook { horizons: &[60_000, 600_000], risks: &risks };
    let (advice, cost) = decide(&outlook, &situation, &costs(), &homing(w));
    assert_eq!(advice, expected, "{cost:?}");
    cost
}

const AWAY: Situation = Situation { on_ground: false, time_home: None, mission_left: None };

#[test]
fn without_a_probability_nothing_is_weighed_it_is_home_or_the_ground() {
    let far = Situation { time_home: Some(3_600_000), mission_left: Some(1), ..Default::default() };
    assert_eq!(unweighed(&far).0, Advice::Return);
    let (advice, cost) = unweighed(&Situation { on_ground: true, ..far });
    assert_eq!((advice, serde_json::to_value(cost).unwrap()), (Advice::NoTakeoff, serde_json::json!({"return": null, "continue": null})));
}

#[test]
fn without_positions_it_is_return_at_the_price_of_a_trip_and_a_look() {
    let cost = check([0.1, 0.5], AWAY, &written(), Advice::Return);
    assert_eq!((cost.come_home, cost.fly_on, cost.land), (100.0 + 0.5 * 200.0 + 0.5 * 100.0, 1000.0, None));
}

#[test]
fn on_the_ground_it_stays_there() {
    check([0.1, 0.5], Situation { on_ground: true, ..AWAY }, &written(), Advice::NoTakeoff);
}

#[test]
fn it_lands_where_the_way_home_is_longer_than_it_may_last() {
    let at = |ms| Situation { time_home: Some(ms), ..AWAY };
    check([0.01, 0.9], at(60_000), &written(), Advice::Return);
    check([0.6, 0.9], at(600_000), &written(), Advice::Land);
    check([0.6, 0.9], at(600_000), &WrittenDecide { land_cost: None, ..written() }, Advice::Return);
}

#[test]
fn it_goes_on_only_where_the_mission_ends_before_the_failure_is_due() {
    let left = |ms| Situation { mission_left: Some(ms), ..AWAY };
    check([0.001, 0.5], left(30_000), &written(), Advice::Fly);
    check([0.001, 0.5], left(600_000), &written(), Advice::Return);
    check([0.001, 0.02], AWAY, &written(), Advice::Return);
}

#[test]
fn the_way_home_is_the_autopilots_word_else_distance_over_speed() {
    let h = homing(&WrittenDecide { time_home: "eta".into(), ..written() });
    let mut sight = Sight::default();
    let nan = f64::NAN;
    sight.see(&h, 0, &[37.0, 127.0, nan, nan, 0.5]);
    assert_eq!(sight.situation(&h, 0), AWAY, "where home is nobody has said");
    let event = |extra: &str| Event { ts: 0, kind: EventKind::Attributes, component: None, alert_id: None, extra: Some(extra.into()) };
    sight.event(&event(r#"{"home": {"lat": 200, "lon": 127.0}}"#));
    assert_eq!(sight.home, None, "no such place");
    sight.event(&event(r#"{"home": {"lat": 37.01, "lon": 127.0}, "model": "x"}"#));
    // A hundredth of a degree of latitude is 1111.95 m, 111.195 s at 10 m/s.
    assert_eq!(sight.situation(&h, 0).time_home, Some(166_792));
    sight.see(&h, 1_000, &[nan, nan, 42.0, nan, 0.01]);
    assert_eq!(sight.situation(&h, 1_000), Situation { on_ground: true, time_home: Some(42_000), mission_left: None });
    assert_eq!(sight.situation(&h, 61_500), AWAY, "all of it is old news");
}

#[test]
fn distances_are_those_of_the_globe() {
    // Paris to New York: 5,837 km on the sphere.
    let d = distance_m([48.8566, 2.3522], [40.7128, -74.006]);
    assert!((d - 5_837_240.0).abs() < 1_000.0, "{d}");
    assert!((distance_m([0.0, 179.5], [0.0, -179.5]) - 111_195.0).abs() < 1.0, "across the date line");
    assert!((distance_m([90.0, 0.0], [-90.0, 7.0]) - EARTH_M * std::f64::consts::PI).abs() < 1.0);
}

#[test]
fn mistakes_name_their_key() {
    let key = |w: WrittenDecide| Homing::check(&w, &fleet()).unwrap_err().key;
    assert_eq!(key(WrittenDecide { position: vec!["lat".into()], ..Default::default() }), "decide.position");
    assert_eq!(key(WrittenDecide { position: vec!["lat".into(), "x".into()], ..Default::default() }), "decide.position");
    assert_eq!(key(WrittenDecide { time_home: "x".into(), ..Default::default() }), "decide.time_home");
    assert_eq!(key(WrittenDecide { home: vec![91.0, 0.0], ..Default::default() }), "decide.home");
    assert_eq!(key(WrittenDecide { speed: -1.0, ..Default::default() }), "decide.speed");
    assert_eq!(key(WrittenDecide { margin: 0.5, ..Default::default() }), "decide.margin");
    assert_eq!(key(WrittenDecide { land_cost: Some(f64::NAN), ..Default::default() }), "decide.land_cost");
    assert_eq!(key(WrittenDecide { land_time: "x".into(), ..Default::default() }), "decide.land_time");
    let ground = IndexMap::from([("lat".to_owned(), f64::INFINITY)]);
    assert_eq!(key(WrittenDecide { ground, ..Default::default() }), "decide.ground.lat");
}

proptest! {
    #[test]
    fn risk_over_time_rises_from_none_through_each_horizon(a in 0.0..=1.0f64, b in 0.0..=1.0f64, mut at in prop::collection::vec(0i64..2_000_000, 2..40)) {
        let risks = [a.min(b), a.max(b)];
        let outlook = Outlook { horizons: &[60_000, 600_000], risks: &risks };
        at.sort_unstable();
        let drawn: Vec<f64> = at.iter().map(|ms| outlook.within(*ms)).collect();
        prop_assert!(drawn.windows(2).all(|w| w[0] <= w[1] + 1e-12) && drawn.iter().all(|r| (0.0..=1.0).contains(r)), "{drawn:?}");
        prop_assert_eq!(outlook.within(0), 0.0);
        prop_assert!((outlook.within(60_000) - risks[0]).abs() < 1e-12 && (outlook.within(600_000) - risks[1]).abs() < 1e-12);
    }

    #[test]
    fn no_other_action_would_have_been_expected_to_cost_less(a in 0.0..=1.0f64, b in 0.0..=1.0f64, home in prop::option::of(0i64..3_600_000), left in prop::option::of(0i64..3_600_000)) {
        let risks = [a.min(b), a.max(b)];
        let outlook = Outlook { horizons: &[60_000, 600_000], risks: &risks };
        let situation = Situation { on_ground: false, time_home: home, mission_left: left };
        let (advice, cost) = decide(&outlook, &situation, &costs(), &homing(&written()));
        let mine = match advice {
            Advice::Fly => cost.fly_on,
            Advice::Return => cost.come_home,
            Advice::Land => cost.land.unwrap(),
            Advice::NoTakeoff => unreachable!(),
        };
        prop_assert!(mine <= cost.come_home && cost.land.is_none_or(|l| mine <= l));
        prop_assert!(left.is_none() || mine <= cost.fly_on);
        prop_assert!(left.is_some() || advice != Advice::Fly);
    }
}
