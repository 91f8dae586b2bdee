//! Drawn histories for tests: one column a minute.

use homeward_models::cost::WrittenCosts;
use homeward_models::decision::WrittenDecide;
use homeward_models::features::FeatureSpec;
use homeward_models::{Event, EventKind, Finding, Fleet, WrittenFleet};

use crate::history::{DeviceHistory, History};
use crate::matrix::Matrix;
use crate::readings::Readings;
use crate::room::Room;
use crate::{Settings, WrittenTrain};

/// A minute.
pub(crate) const M: i64 = 60_000;

/// One signal, `heat` of an `engine`, one window of a minute.
pub(crate) fn fleet() -> Fleet {
    let written = r#"{"name": "t", "windows": ["1m"], "commissioning": "1m", "signals": {"heat": {"at": "/heat", "component": "engine"}}}"#;
    Fleet::check(&serde_json::from_str::<WrittenFleet>(written).unwrap()).unwrap()
}

/// A horizon of three minutes; alarms at once, an alarm must stand one minute, and finds what comes within three. Every silence above ten minutes ends a flight.
pub(crate) fn settings(change: impl FnOnce(&mut WrittenTrain)) -> Settings {
    let mut train = WrittenTrain { horizons: vec!["3m".into()], min_leaf: 1.0, ..Default::default() };
    change(&mut train);
    let decide = WrittenDecide { raise_for: "0s".into(), raise_readings: 1, ..Default::default() };
    let costs = WrittenCosts { min_lead: "1m".into(), flight_gap: "10m".into(), ..Default::default() };
    Settings::check(&train, &decide, &costs).unwrap()
}

/// A device as drawn: readings `.` or `0`–`9` (the heat; `.` is 0), and events `F` failure, `f` fault, `M` maintenance, `C` confirmed inspection, `R` retired.
pub(crate) type Drawn<'a> = (&'a str, &'a str, &'a str);

/// The history of drawn devices.
pub(crate) fn history(devices: &[Drawn<'_>]) -> History {
    let (mut ts, mut heat, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for (name, readings, events) in devices {
        let first = ts.len();
        for (minute, c) in readings.chars().enumerate().filter(|(_, c)| *c != ' ') {
            ts.push(minute as i64 * M);
            heat.push(c.to_digit(10).map_or(0.0, f64::from));
        }
        let events = events.chars().enumerate().filter(|(_, c)| *c != ' ').map(|(minute, c)| event(minute as i64 * M, c)).collect();
        all.push(DeviceHistory { name: (*name).into(), rows: first..ts.len(), events });
    }
    History { readings: Readings::new(ts, heat, 1), names: vec!["heat".into()], devices: all, objects: vec![], room: Room::endless() }
}

fn event(ts: i64, c: char) -> Event {
    let kind = match c {
        'F' => EventKind::Failure,
        'f' => EventKind::Fault,
        'M' => EventKind::Maintenance,
        'C' => EventKind::Inspection(Finding::Confirmed),
        'R' => EventKind::Retired,
        other => panic!("no event {other}"),
    };
    Event { ts, kind, component: Some("engine".into()), alert_id: None, extra: None }
}

/// The matrix of drawn devices.
pub(crate) fn matrix(devices: &[Drawn<'_>], settings: &Settings) -> Matrix {
    let history = history(devices);
    Matrix::build(&history, &FeatureSpec::new(&fleet()), settings).unwrap()
}
