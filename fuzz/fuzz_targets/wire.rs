//! Any bytes as the payload of a telemetry, an event and an answer message of the sample fleet. Beyond not panicking:
//!
//! - a reading has a time that may be believed, a value a signal, none of them infinite, and `extra` is a JSON object or empty;
//! - what a decoder saw before changes nothing;
//! - an object alone and the same object as the one element of an array are the same reading.
#![no_main]

use std::cell::RefCell;

use homeward_models::time::EARLIEST_MS;
use homeward_models::wire::{Decoder, Reading, decode_ack, decode_event};
use homeward_models::{Event, Fleet, Refused, WrittenFleet};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

const DEVICE: &str = "d-1";
/// A minute after most seeds.
const LATEST: i64 = 1_764_000_060_500;

thread_local! {
    static WIRE: RefCell<Wire> = RefCell::new(Wire::new());
}

fuzz_target!(|payload: &[u8]| WIRE.with_borrow_mut(|wire| wire.check(payload)));

/// Decoders of the sample fleet.
struct Wire {
    signals: usize,
    fresh: Decoder,
    used: Decoder,
}

/// A reading, comparable to the last bit.
#[derive(Debug, PartialEq)]
struct Good {
    ts: i64,
    values: Vec<u64>,
    extra: String,
}

/// One element of a payload: its index, its bytes and what became of it.
type Element = (u32, Vec<u8>, Result<Good, Refused>);

impl Wire {
    fn new() -> Self {
        #[derive(serde::Deserialize)]
        struct Config {
            fleet: WrittenFleet,
        }
        let config: Config = toml::from_str(include_str!("../../homeward.toml")).unwrap();
        let fresh = Decoder::new(&Fleet::check(&config.fleet).unwrap());
        Self { signals: config.fleet.signals.len(), used: fresh.clone(), fresh }
    }

    fn check(&mut self, payload: &[u8]) {
        let elements = decode(&mut self.used, payload);
        assert!(!elements.is_empty());
        for (at, (idx, _, outcome)) in elements.iter().enumerate() {
            assert_eq!(*idx as usize, at);
            match outcome {
                Ok(good) => good.check(self.signals),
                Err(refused) => assert!(!refused.detail.is_empty()),
            }
        }
        assert_eq!(elements, decode(&mut self.fresh.clone(), payload));
        if let [(_, bytes, Ok(_))] = &elements[..]
            && bytes == payload
        {
            self.check_in_array(payload, &elements[0]);
        }
        if let Ok(event) = decode_event(DEVICE, payload, LATEST) {
            check_event(&event);
        }
        _ = decode_ack(payload);
    }

    fn check_in_array(&mut self, object: &[u8], alone: &Element) {
        let within = decode(&mut self.used, &[b"[", object, b"]"].concat());
        assert_eq!(within.len(), 1);
        assert_eq!(within[0].2, alone.2);
    }
}

impl Good {
    fn of(reading: &Reading) -> Self {
        Self { ts: reading.ts, values: reading.values.iter().map(|v| v.to_bits()).collect(), extra: reading.extra.clone() }
    }

    fn check(&self, signals: usize) {
        check_ts(self.ts);
        assert_eq!(self.values.len(), signals);
        assert!(!self.values.iter().any(|v| f64::from_bits(*v).is_infinite()));
        if !self.extra.is_empty() {
            check_object(&self.extra);
        }
    }
}

fn decode(decoder: &mut Decoder, payload: &[u8]) -> Vec<Element> {
    let (mut elements, all) = (Vec::new(), payload.as_ptr_range());
    decoder.telemetry(DEVICE, payload, LATEST, |idx, bytes, outcome| {
        let part = bytes.as_ptr_range();
        assert!(all.start <= part.start && part.end <= all.end);
        elements.push((idx, bytes.to_vec(), outcome.map(Good::of)));
    });
    elements
}

fn check_event(event: &Event) {
    check_ts(event.ts);
    assert!((1..=64).contains(&event.kind.code().len()));
    if let Some(extra) = &event.extra {
        check_object(extra);
    }
}

fn check_ts(ts: i64) {
    assert!((EARLIEST_MS..=LATEST).contains(&ts));
}

fn check_object(json: &str) {
    assert!(json.starts_with('{') && json != "{}" && serde_json::from_str::<IgnoredAny>(json).is_ok(), "{json}");
}
