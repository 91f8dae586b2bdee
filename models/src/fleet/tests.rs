//! Fleets checked, printed and refused.

use super::*;

/// Two motors' temperatures and a battery, one derived signal, windows of 6 s and 60 s.
pub(crate) fn small() -> WrittenFleet {
    serde_json::from_str(
        r#"{"name": "small", "windows": ["6s", "60s"], "commissioning": "5s",
            "signals": {"battery_v": {"at": "/battery/v", "unit": "V", "range": [0, 60], "component": "battery"},
                        "motor_1_temp": {"at": "/motor/0/temp", "component": "motor_1"},
                        "motor_2_temp": {"at": "/motor/1/temp", "component": "motor_2"},
                        "lat": {"at": "/position/lat", "features": false}},
            "derived": {"temp_spread": {"spread": ["motor_1_temp", "motor_2_temp"], "unit": "C"}}}"#,
    )
    .unwrap()
}

#[test]
fn a_fleet_is_checked_into_channels_and_components() {
    let fleet = Fleet::check(&small()).unwrap();
    assert_eq!(fleet.components, ["battery", "motor_1", "motor_2"]);
    assert_eq!((fleet.measured, fleet.channels.len()), (4, 5));
    assert_eq!(fleet.channels[4].source, Source::Derived(Formula::Spread(vec![1, 2])));
    assert_eq!(fleet.channels[4].component, None);
    assert_eq!(fleet.windows, [6_000, 60_000]);
}

#[test]
fn the_fingerprint_changes_with_what_changes_features_and_with_nothing_else() {
    let print = |change: &dyn Fn(&mut WrittenFleet)| {
        let mut w = small();
        change(&mut w);
        Fleet::check(&w).unwrap().fingerprint()
    };
    let same = print(&|_| ());
    assert_eq!(same, print(&|w| w.name = "other".into()));
    assert_eq!(same, print(&|w| w.signals[0].unit = "mV".into()));
    assert_eq!(same, print(&|w| w.windows = vec!["60s".into(), "6000ms".into()]));
    assert_ne!(same, print(&|w| w.signals[0].range = Some([0.0, 61.0])));
    assert_ne!(same, print(&|w| w.windows = vec!["6s".into()]));
    assert_ne!(same, print(&|w| w.commissioning = "6s".into()));
    assert_eq!(same, print(&|w| w.features = [("age".into(), true)].into()));
    assert_ne!(same, print(&|w| w.features = [("age".into(), false)].into()));
    assert_ne!(same, print(&|w| w.events = vec!["bump".into()]));
}

#[test]
fn every_mistake_names_its_key() {
    let key = |change: &dyn Fn(&mut WrittenFleet)| {
        let mut w = small();
        change(&mut w);
        Fleet::check(&w).unwrap_err().key
    };
    assert_eq!(key(&|w| w.name = "A b".into()), "fleet.name");
    assert_eq!(key(&|w| w.windows = vec!["5ms".into()]), "fleet.windows");
    assert_eq!(key(&|w| w.commissioning = "x".into()), "fleet.commissioning");
    assert_eq!(key(&|w| w.signals[0].at = "battery".into()), "fleet.signals.battery_v.at");
    assert_eq!(key(&|w| w.signals[1].at = "/battery".into()), "fleet.signals.motor_1_temp.at");
    assert_eq!(key(&|w| w.signals[0].range = Some([2.0, 1.0])), "fleet.signals.battery_v.range");
    assert_eq!(key(&|w| w.derived[0].mean = Some(vec![])), "fleet.derived.temp_spread");
    assert_eq!(key(&|w| w.derived[0].spread = Some(vec!["nope".into(), "lat".into()])), "fleet.derived.temp_spread.spread");
    assert_eq!(key(&|w| w.signals.clear()), "fleet.signals");
    assert_eq!(key(&|w| w.features = [("ages".into(), false)].into()), "fleet.features.ages");
    let channels = ["last", "delta", "ewm", "mean", "std", "min", "max", "slope"];
    assert_eq!(key(&|w| w.features = channels.map(|f| (f.into(), false)).into()), "fleet.features");
    assert_eq!(key(&|w| w.events = vec!["failure".into()]), "fleet.events");
    assert_eq!(key(&|w| w.events = vec!["bump".into(), "bump".into()]), "fleet.events");
    assert_eq!(key(&|w| w.signals[1].component = Some("device".into())), "fleet.signals.motor_1_temp.component");
    let residual = |of: &str, given: Option<&[&str]>| WrittenDerived {
        residual: Some(of.into()),
        given: given.map(|g| g.iter().map(|s| (*s).to_string()).collect()),
        ..Default::default()
    };
    assert_eq!(key(&|w| _ = w.derived.insert("r".into(), residual("battery_v", None))), "fleet.derived.r.given");
    assert_eq!(key(&|w| _ = w.derived.insert("r".into(), residual("battery_v", Some(&["x"])))), "fleet.derived.r.residual");
    assert_eq!(key(&|w| w.derived[0].given = Some(vec!["lat".into()])), "fleet.derived.temp_spread.given");
}
