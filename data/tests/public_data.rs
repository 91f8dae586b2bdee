//! The readers on the real files, where they are: `HOMEWARD_TEST_DATA`, or `shared/data` beside the clone.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use homeward_data::readers::{Format, Options, open};
use homeward_data::{Kind, is_device_name};
use serde_json::Value;

/// The folder of one data set; none, and said so, if it is not on this machine.
fn folder(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("HOMEWARD_TEST_DATA").map_or_else(beside, PathBuf::from).join(name);
    if !folder.is_dir() {
        assert!(std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and {} is not there", folder.display());
        eprintln!("SKIPPED: {} is not there; set HOMEWARD_TEST_DATA to the folder of public data sets", folder.display());
        return None;
    }
    Some(folder)
}

/// What a file holds.
#[derive(Debug, Default)]
struct Tally {
    readings: usize,
    devices: HashSet<String>,
    /// `code component` of all events but attributes.
    events: Vec<String>,
    attributes: usize,
}

fn tally(path: &Path, format: &Format) -> Tally {
    let mut tally = Tally::default();
    for record in open(path, format, &Options::default()).unwrap() {
        let record = record.unwrap();
        // Every fiftieth reading is parsed: enough to see the form, and quick without optimisation.
        if record.kind == Kind::Telemetry && tally.readings % 50 != 0 {
            tally.readings += 1;
            tally.devices.insert(record.device);
            continue;
        }
        let value: Value = serde_json::from_slice(&record.payload).unwrap();
        assert_eq!(value["ts"], record.ts);
        assert!(is_device_name(&record.device));
        tally.devices.insert(record.device);
        match (record.kind, value["event"].as_str()) {
            (Kind::Telemetry, None) => tally.readings += 1,
            (Kind::Event, Some("attributes")) => tally.attributes += 1,
            (Kind::Event, Some(code)) => tally.events.push(format!("{code} {}", value["component"].as_str().unwrap())),
            other => panic!("{other:?} {value}"),
        }
    }
    tally
}

#[test]
fn cmapss_is_read_whole() {
    let Some(folder) = folder("cmapss") else { return };
    for (name, readings, engines, failures) in [
        ("train_FD001", 20_631, 100, 100),
        ("test_FD001", 13_096, 100, 0),
        ("train_FD002", 53_759, 260, 260),
        ("test_FD002", 33_991, 259, 0),
    ] {
        let tally = tally(&folder.join(format!("{name}.txt.gz")), &Format::Cmapss);
        assert_eq!((tally.readings, tally.devices.len(), tally.events.len()), (readings, engines, failures), "{name}");
        assert!(tally.events.iter().all(|event| event == "failure engine"));
    }
}

#[test]
fn backblaze_is_read_whole() {
    let Some(folder) = folder("backblaze_2013") else { return };
    let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let tally = tally(&path, &Format::Backblaze);
    assert_eq!((tally.readings, tally.devices.len(), tally.attributes), (293_956, 7_480, 7_480));
    assert_eq!(tally.events, vec!["failure disk"; 75]);
}

#[test]
fn alfa_has_one_fault_in_each_failing_flight() {
    let Some(folder) = folder("alfa") else { return };
    let mut devices = HashSet::new();
    let mut flights = 0;
    for (fault, events) in [
        ("ailerons", vec!["fault aileron"]),
        ("elevator", vec!["fault elevator"]),
        ("engine", vec!["fault engine"]),
        ("rudder", vec!["fault rudder"]),
        ("no_failure", vec![]),
    ] {
        for entry in std::fs::read_dir(folder.join(fault)).unwrap() {
            let path = entry.unwrap().path();
            let tally = tally(&path, &Format::Alfa);
            assert_eq!(tally.events, events, "{}", path.display());
            assert!(tally.readings > 600 && tally.devices.len() == 1, "{}", path.display());
            devices.extend(tally.devices);
            flights += 1;
        }
    }
    assert_eq!((flights, devices.len()), (23, 23));
}
