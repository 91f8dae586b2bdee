//! Writes `seeds/state`: bodies of saved states of the target's fleet, young and old. Run it when the form changes.
use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_models::{Event, EventKind, Fleet, WrittenFleet};

fn main() {
    let written: WrittenFleet = serde_json::from_str(
        r#"{"name": "f", "windows": ["1s", "7s"], "commissioning": "5s", "events": ["bump"], "attributes": {"cells": {"at": "/cells"}},
            "signals": {"a": {"at": "/a", "component": "motor"}, "b": {"at": "/b"}}, "derived": {"c": {"sum": ["a", "b"]}}}"#,
    )
    .unwrap();
    let spec = FeatureSpec::new(&Fleet::check(&written).unwrap());
    std::fs::create_dir_all("seeds/state").unwrap();
    for (name, readings) in [("new", 0), ("young", 2), ("flown", 40)] {
        let mut state = DeviceState::new(&spec);
        for i in 0..readings {
            let a = if i % 9 == 4 { f64::NAN } else { 0.5 * i as f64 };
            state.reading(&spec, 1_764_000_000_000 + 300 * i, &[a, 2.0]);
            if i % 20 == 7 {
                let ts = 1_764_000_000_000 + 300 * i;
                let event = |kind| Event { ts, kind, component: None, alert_id: None, extra: Some(r#"{"cells": 4}"#.into()) };
                [EventKind::Maintenance, EventKind::Other("bump".into()), EventKind::Attributes]
                    .map(|kind| state.event(&spec, &event(kind)));
            }
        }
        let bytes = state.to_bytes(&spec);
        std::fs::write(format!("seeds/state/{name}"), &bytes[14..bytes.len() - 8]).unwrap();
    }
}
