//! What a payload becomes: values, extra fields, or a reason.

use super::*;
use crate::fleet::tests::small;
use crate::{EventKind, Finding};

const NOW: i64 = 1_764_000_000_500;
const TS: i64 = 1_764_000_000_123;

fn decode(payload: impl AsRef<[u8]>) -> Vec<(u32, Result<Reading, Refused>)> {
    let mut decoder = Decoder::new(&Fleet::check(&small()).unwrap());
    let mut out = Vec::new();
    decoder.telemetry("d-1", payload.as_ref(), NOW + 60_000, |idx, _, r| out.push((idx, r.cloned())));
    out
}

fn good(payload: &str) -> Reading {
    decode(payload).pop().unwrap().1.unwrap()
}

fn reason(payload: impl AsRef<[u8]>) -> &'static str {
    decode(payload).pop().unwrap().1.unwrap_err().reason.word()
}

#[test]
fn signals_are_found_by_their_pointers() {
    let r = good(r#"{"ts": 1764000000123, "battery": {"v": 15.12}, "motor": [{"temp": 61.2}, {"temp": true}], "position": {"lat": null}}"#);
    assert_eq!(r.ts, TS);
    assert_eq!(r.values[..3], [15.12, 61.2, 1.0]);
    assert!(r.values[3].is_nan());
    assert_eq!(r.extra, "");
    assert_eq!(good(r#"{"ts": "2025-11-24T16:00:00.123Z", "device": "d-1"}"#).ts, TS);
}

#[test]
fn numbers_come_through_to_the_last_bit() {
    for text in ["0.1", "1e-7", "123456789.123456789", "5e-324", "-0.0", "9007199254740993", "18446744073709551615"] {
        let r = good(&format!(r#"{{"ts": {TS}, "battery": {{"v": {text}}}}}"#));
        assert_eq!(r.values[0].to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
    }
}

#[test]
fn unclaimed_fields_are_kept_where_they_stood() {
    let r = good(
        r#"{"fw": "1.2", "ts": 1764000000123, "battery": {"cells": [4, 5], "v": 1, "id": {"a":1}}, "motor": [{"x": 1}, {"temp": 2}, 7], "z": null}"#,
    );
    let extra: serde_json::Value = serde_json::from_str(&r.extra).unwrap();
    let expected =
        serde_json::json!({"fw": "1.2", "battery": {"cells": [4, 5], "id": {"a": 1}}, "motor": {"0": {"x": 1}, "2": 7}, "z": null});
    assert_eq!(extra, expected);
    assert_eq!(r.values[2], 2.0);
}

#[test]
fn bad_payloads_have_their_reason() {
    assert_eq!(reason("hello"), "not_json");
    assert_eq!(reason(r#"{"ts": 1764000000123, "battery": {"v": NaN}}"#), "not_json");
    assert_eq!(reason(r#"{"ts": 1764000000123"#), "not_json");
    assert_eq!(reason(r#"{"ts": 1764000000123} x"#), "not_json");
    assert_eq!(reason(b"{\"ts\": 1764000000123, \"a\": \"\xff\"}"), "invalid_utf8");
    assert_eq!(reason(b"\xff\xfe"), "invalid_utf8");
    assert_eq!(reason(""), "not_json");
    assert_eq!(reason("17"), "not_an_object");
    assert_eq!(reason("[]"), "not_an_object");
    assert_eq!(reason("{}"), "no_ts");
    assert_eq!(reason(r#"{"ts": "soon"}"#), "bad_ts");
    assert_eq!(reason(r#"{"ts": 1.5}"#), "bad_ts");
    assert_eq!(reason(r#"{"ts": null}"#), "bad_ts");
    assert_eq!(reason(r#"{"ts": 86400000}"#), "ts_out_of_range");
    assert_eq!(reason(r#"{"ts": 1764000100000}"#), "ts_in_future");
    assert_eq!(reason(r#"{"ts": 1764000000123, "battery": {"v": "15"}}"#), "not_a_number");
    assert_eq!(reason(r#"{"ts": 1764000000123, "battery": {"v": [15]}}"#), "not_a_number");
    assert_eq!(reason(r#"{"ts": 1764000000123, "battery": 4}"#), "not_a_number");
    assert_eq!(reason(r#"{"ts": 1764000000123, "ts": 1764000000124}"#), "duplicate_field");
    assert_eq!(reason(r#"{"ts": 1764000000123, "device": "d-2"}"#), "device_mismatch");
}

#[test]
fn details_name_the_place_what_was_found_and_what_would_be_right() {
    let refused = decode(r#"{"ts": 1764000000123, "motor": [{"temp": "hot"}]}"#).pop().unwrap().1.unwrap_err();
    assert_eq!(refused.to_string(), "not_a_number: /motor/0/temp: found \"hot\", expected a number, true, false or null");
}

#[test]
fn in_an_array_each_element_stands_for_itself() {
    let out =
        decode(r#"[{"ts": 1764000000123, "battery": {"v": 1}}, {"ts": 1764000000124, "battery": {"v": "x"}}, 3, {"ts": 1764000000125}]"#);
    let kinds: Vec<_> = out.iter().map(|(i, r)| (*i, r.as_ref().map_or_else(|e| e.reason.word(), |_| "good"))).collect();
    assert_eq!(kinds, [(0, "good"), (1, "not_a_number"), (2, "not_an_object"), (3, "good")]);
    assert!(out[3].1.as_ref().unwrap().values[0].is_nan(), "a value of an element before it shone through");
}

#[test]
fn events_are_read_and_their_mistakes_named() {
    let event =
        decode_event("d-1", br#"{"ts": 1764000000123, "event": "inspection", "finding": "confirmed", "alert_id": "5f", "by": "ann"}"#, NOW)
            .unwrap();
    assert_eq!(
        (event.kind, event.alert_id.as_deref(), event.extra.as_deref()),
        (EventKind::Inspection(Finding::Confirmed), Some("5f"), Some(r#"{"by":"ann"}"#))
    );
    let word = |p: &[u8]| decode_event("d-1", p, NOW).unwrap_err().reason.word();
    assert_eq!(word(br#"{"ts": 1764000000123}"#), "bad_event");
    assert_eq!(word(br#"{"ts": 1764000000123, "event": "inspection"}"#), "bad_event");
    assert_eq!(word(br#"{"event": "failure"}"#), "no_ts");
    assert_eq!(word(br#"{"ts": 1764000000123, "event": "failure", "device": "d-2"}"#), "device_mismatch");
    assert_eq!(word(b"["), "not_json");
    let ack = decode_ack(br#"{"alert_id": "a", "revision": 1, "status": "rejected", "by": "pilot"}"#).unwrap();
    assert_eq!(ack.status, AckStatus::Rejected);
}

/// Everything that a decoder makes of a payload, comparable to the last bit.
fn outcome(decoder: &mut Decoder, payload: &str) -> Vec<(u32, Result<(i64, Vec<u64>, String), Refused>)> {
    let mut out = Vec::new();
    let good = |r: &Reading| (r.ts, r.values.iter().map(|v| v.to_bits()).collect(), r.extra.clone());
    decoder.telemetry("d-1", payload.as_bytes(), NOW + 60_000, |idx, _, r| out.push((idx, r.map(good))));
    out
}

/// Tokens that stand where a number does in a payload.
fn token() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let odd = ["null", "true", "-0", "0", "1e-7", "18446744073709551616", "01", "1.", "-", "NaN", "\"1\"", "1e999", "[1]", "0.1 ", "{}"];
    prop_oneof![
        6 => (-100_000i64..100_000, 0usize..6).prop_map(|(m, d)| format!("{:.*}", d, m as f64 / 1_000.0)),
        1 => any::<f64>().prop_map(|x| format!("{x:?}")),
        2 => prop::sample::select(odd.to_vec()).prop_map(String::from),
    ]
}

proptest::proptest! {
    #[test]
    fn what_a_decoder_saw_before_changes_nothing(
        messages in proptest::collection::vec((0usize..6, token(), token(), token(), -3i64..1_000_000), 1..40),
    ) {
        let fleet = Fleet::check(&small()).unwrap();
        let mut used = Decoder::new(&fleet);
        for (shape, a, b, c, dt) in messages {
            let ts = TS + dt;
            let payload = match shape {
                0 => format!(r#"{{"ts": {ts}, "battery": {{"v": {a}}}, "motor": [{{"temp": {b}}}, {{"temp": {c}}}]}}"#),
                1 => format!(r#"{{"ts":{ts},"motor":[{{"temp":{b}}},{{"temp":{a}}}],"position":{{"lat":{c}}}}}"#),
                2 => format!(r#"{{"fw": "1 null", "ts": {ts}, "battery": {{"v": {a}, "id": "x\\"7"}}, "on": true}}"#),
                3 => format!(r#"{{"ts": {ts}, "device": "d-{}", "battery": {{"v": {a}}}}}"#, 1 + dt.rem_euclid(2)),
                4 => format!(r#"{{"ts": {ts}, "battery": {{"v": {a}}}, "position": {{"lat": {b}}}}}"#),
                _ => format!(r#"{{"ts": {ts}, "z": {a}, "battery": {{"v": {b}}}}}"#),
            };
            proptest::prop_assert_eq!(outcome(&mut used, &payload), outcome(&mut Decoder::new(&fleet), &payload), "{}", payload);
        }
    }
}
