//! Any bytes as the body of a saved device state of the sample fleet; magic, version, print and checksum are put right, or nothing would get
//! past them. Beyond not panicking:
//!
//! - what is taken has a form of its own: saved, read and saved again it gives the same bytes;
//! - such a state goes on: readings, events, a clock step, features, whatever its values are;
//! - the bytes as they are, without anything put right, are refused.
#![no_main]

use std::cell::RefCell;

use homeward_models::features::{BadState, DeviceState, FeatureSpec};
use homeward_models::{Event, EventKind, Fleet, WrittenFleet};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static STATES: RefCell<States> = RefCell::new(States::new());
}

fuzz_target!(|body: &[u8]| STATES.with_borrow_mut(|states| states.check(body)));

struct States {
    spec: FeatureSpec,
    /// Magic, version and print.
    head: Vec<u8>,
    row: Vec<f64>,
}

impl States {
    fn new() -> Self {
        // Two signals, a derived one, two windows, an event and an attribute: every part of the form, and small enough to be hit.
        let written: WrittenFleet = serde_json::from_str(
            r#"{"name": "f", "windows": ["1s", "7s"], "commissioning": "5s", "events": ["bump"], "attributes": {"cells": {"at": "/cells"}},
                "signals": {"a": {"at": "/a", "component": "motor"}, "b": {"at": "/b"}}, "derived": {"c": {"sum": ["a", "b"]}}}"#,
        )
        .unwrap();
        let spec = FeatureSpec::new(&Fleet::check(&written).unwrap());
        let head = DeviceState::new(&spec).to_bytes(&spec)[..14].to_vec();
        Self { row: vec![0.0; spec.len()], spec, head }
    }

    fn check(&mut self, body: &[u8]) {
        assert!(DeviceState::from_bytes(&self.spec, body).is_err());
        let mut bytes = [&self.head, body].concat();
        assert!(DeviceState::from_bytes(&self.spec, &bytes).is_err());
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
        match DeviceState::from_bytes(&self.spec, &bytes) {
            Ok(state) => self.go_on(state),
            Err(BadState::Impossible(_)) => (),
            Err(other) => panic!("{other}"),
        }
    }

    fn go_on(&mut self, mut state: DeviceState) {
        let spec = &self.spec;
        let saved = state.to_bytes(spec);
        assert_eq!(DeviceState::from_bytes(spec, &saved).unwrap().to_bytes(spec), saved);
        state.features(spec, &mut self.row);
        let newest = state.newest().unwrap_or(1_764_000_000_000);
        for (after, a) in [(100, 1.0), (900, f64::NAN), (2_000, -3.5), (0, 1.0), (60_000, 1e300), (-900_000, 0.0)] {
            state.reading(spec, newest + after, &[a, 2.0]);
            state.features(spec, &mut self.row);
            assert!(!self.row.iter().any(|x| x.is_infinite()));
        }
        for kind in [EventKind::Maintenance, EventKind::Other("bump".into()), EventKind::Attributes] {
            let extra = Some(r#"{"cells": 4, "commissioned": 1763990000000}"#.into());
            state.event(spec, &Event { ts: newest, kind, component: None, alert_id: None, extra });
        }
        (1..=10).for_each(|i| _ = state.reading(spec, newest - 1_000_000 + i, &[1.0, f64::NAN]));
        state.features(spec, &mut self.row);
        let saved = state.to_bytes(spec);
        assert_eq!(DeviceState::from_bytes(spec, &saved).unwrap().to_bytes(spec), saved);
    }
}
