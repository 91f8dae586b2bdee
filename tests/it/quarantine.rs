//! Ten kinds of bad message: each ends in quarantine with its reason and its bytes, and the good ones around it are archived.

use homeward_store::keys::Table;

use crate::harness::archive::{Archive, Quarantined};
use crate::harness::mqtt::Clients;
use crate::harness::{Site, beside_others, mosquitto, wait_until};

const CONFIG: &str = r#"
[fleet]
name = "t"
[fleet.signals]
n = { at = "/n" }
v = { at = "/v" }
[ingest]
max_age = "100ms"
max_rows = 7
"#;
const BASE: i64 = 1_764_000_000_000;
const TOPIC: &str = "fleet/d/telemetry";

/// A message, and what quarantine has to say of it.
struct Bad {
    topic: &'static str,
    payload: Vec<u8>,
    reason: &'static str,
    idx: i32,
    /// The bytes that are kept: the payload, or the bad element of its array.
    kept: Vec<u8>,
    /// What the detail names.
    names: &'static str,
}

fn bad(topic: &'static str, payload: impl Into<Vec<u8>>, reason: &'static str, names: &'static str) -> Bad {
    let payload = payload.into();
    Bad { topic, kept: payload.clone(), payload, reason, idx: 0, names }
}

fn ten_kinds() -> Vec<Bad> {
    let large = format!(r#"{{"ts": {BASE}, "n": 1, "note": "{}"}}"#, "x".repeat(1 << 20));
    let invalid = [br#"{"ts": 1764000000000, "n": 1, "note": ""#.as_slice(), &[0xff, 0xfe], br#""}"#.as_slice()].concat();
    let element = r#"{"ts": 1764000000501, "n": [1]}"#;
    let array = format!(r#"[{{"ts": 1764000000500, "n": 500}}, {element}, {{"ts": 1764000000502, "n": 502}}]"#);
    vec![
        bad(TOPIC, "hello", "not_json", ""),
        bad(TOPIC, r#"{"n": 1}"#, "no_ts", "ts"),
        bad(TOPIC, r#"{"ts": 1764000000000, "n": "hot"}"#, "not_a_number", "/n"),
        bad(TOPIC, r#"{"ts": 1764000000000, "n": NaN}"#, "not_json", ""),
        bad(TOPIC, large, "too_large", "262144"),
        bad("fleet/a b/telemetry", r#"{"ts": 1764000000000, "n": 1}"#, "bad_device", "a b"),
        bad(TOPIC, r#"{"ts": 1764000000000, "n": 1, "device": "e"}"#, "device_mismatch", "\"d\""),
        Bad { idx: 1, kept: element.into(), ..bad(TOPIC, array, "not_a_number", "/n") },
        bad(TOPIC, r#"{"ts": 12345, "n": 1}"#, "ts_out_of_range", "1970"),
        bad(TOPIC, invalid, "invalid_utf8", ""),
    ]
}

#[test]
fn ten_kinds_of_bad_message_are_kept_with_their_reason_and_the_good_ones_are_archived() {
    let Some(broker) = mosquitto("quarantine") else { return };
    let _turn = beside_others();
    let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url());
    let mut ingest = site.start(&["ingest", "--json"]);
    ingest.says("ingest runs");
    let kinds = ten_kinds();
    let mut messages = Vec::new();
    for (n, kind) in (0..).zip(&kinds) {
        messages.push((TOPIC.to_owned(), format!(r#"{{"ts": {}, "n": {n}}}"#, BASE + n).into_bytes()));
        messages.push((kind.topic.to_owned(), kind.payload.clone()));
    }
    messages.push((TOPIC.to_owned(), format!(r#"{{"ts": {}, "n": 10}}"#, BASE + 10).into_bytes()));
    Clients::of(&broker.url()).publish(messages);
    let mut archive = Archive::of(&site);
    wait_until("13 good readings and 10 bad ones", || archive.count(Table::Telemetry) >= 13 && archive.count(Table::Quarantine) >= 10);
    let done = ingest.terminate();
    assert_eq!(done.code, Some(0), "{done:?}");

    let good: Vec<f64> = (0..=10).chain([500, 502]).map(f64::from).collect();
    assert_eq!(archive.readings("n").into_iter().map(|r| r.2).collect::<Vec<_>>(), good);
    let kept = archive.quarantine();
    assert_eq!(kept.len(), 10, "{kept:?}");
    kinds.iter().for_each(|kind| assert_kept(kind, &kept));
    let counts: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&counts["messages"], &counts["released"]), (&21.into(), &21.into()), "{counts}");
    assert_eq!(counts["quarantined"]["not_a_number"], 2, "{counts}");
}

fn assert_kept(kind: &Bad, kept: &[Quarantined]) {
    let is = |row: &&Quarantined| {
        (row.reason.as_str(), row.topic.as_str(), row.idx) == (kind.reason, kind.topic, kind.idx) && row.payload == kind.kept
    };
    let shown = String::from_utf8_lossy(&kind.kept[..kind.kept.len().min(80)]);
    let row = kept.iter().find(is).unwrap_or_else(|| panic!("{} {shown} is not in quarantine", kind.reason));
    assert!(row.detail.contains(kind.names) && !row.detail.is_empty(), "{shown}: {:?} does not name {:?}", row.detail, kind.names);
}
