//! The wire: JSON payloads to readings and events, and back to nothing else.
//!
//! A reading is parsed in one pass over the bytes, straight into a row of values: a trie of the signals' JSON Pointers guides
//! serde, what no signal claims is kept as JSON text. Payloads of a shape seen before go without serde (`shape`).

mod events;
mod shape;
mod trie;
mod visit;

pub use events::{AckStatus, CallAck, decode_ack, decode_event};

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use crate::time::{EARLIEST_MS, LATEST_MS};
use crate::{Fleet, Reason, Refused};
use shape::{Claimed, Shapes};
use trie::Trie;

/// One reading as decoded: the row of measured values (NaN is missing) and what no signal claimed.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The device's clock, milliseconds since 1970 UTC.
    pub ts: i64,
    /// One value a measured signal, in the fleet's order, as it came (range not applied); NaN is missing.
    pub values: Vec<f64>,
    /// Unclaimed fields as a JSON object, empty if there are none.
    pub extra: String,
}

/// Decodes telemetry of one fleet. Keeps its buffers: no allocation per reading once they have grown.
#[derive(Debug, Clone)]
pub struct Decoder {
    trie: Trie,
    reading: Reading,
    seen: Vec<bool>,
    path: Vec<(usize, usize)>,
    shapes: Shapes,
    claimed: Claimed,
}

impl Decoder {
    /// A decoder for `fleet`.
    pub fn new(fleet: &Fleet) -> Self {
        let values = vec![f64::NAN; fleet.measured];
        Self {
            trie: Trie::new(fleet),
            reading: Reading { values, ..Reading::default() },
            seen: vec![false; fleet.measured + 2],
            path: Vec::new(),
            shapes: Shapes::default(),
            claimed: Claimed::default(),
        }
    }

    /// Hands each element of `payload` (one object, or an array of objects) to `sink` with its index and bytes, good or refused.
    /// `device` is that of the topic; a reading after `latest_ts` (milliseconds since 1970 UTC) is refused:
    /// its device's clock cannot be believed.
    pub fn telemetry(&mut self, device: &str, payload: &[u8], latest_ts: i64, mut sink: impl FnMut(u32, &[u8], Result<&Reading, Refused>)) {
        match payload.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{') => {
                let outcome = self.object(device, payload, latest_ts);
                sink(0, payload, outcome.map(|()| &self.reading));
            }
            Some(b'[') => self.array(device, payload, latest_ts, &mut sink),
            _ => sink(0, payload, Err(not_an_object(payload))),
        }
    }

    fn array(&mut self, device: &str, payload: &[u8], latest_ts: i64, sink: &mut impl FnMut(u32, &[u8], Result<&Reading, Refused>)) {
        let elements: Vec<&RawValue> = match serde_json::from_slice(payload) {
            Ok(elements) => elements,
            Err(error) => return sink(0, payload, Err(not_json(payload, &error))),
        };
        if elements.is_empty() {
            return sink(0, payload, Err(Refused::new(Reason::NotAnObject, "found an empty array, expected readings in it")));
        }
        for (idx, element) in (0u32..).zip(elements) {
            let text = element.get().as_bytes();
            let outcome = if text.first() == Some(&b'{') { self.object(device, text, latest_ts) } else { Err(not_an_object(text)) };
            sink(idx, text, outcome.map(|()| &self.reading));
        }
    }

    fn object(&mut self, device: &str, payload: &[u8], latest_ts: i64) -> Result<(), Refused> {
        self.reading.values.fill(f64::NAN);
        self.reading.extra.clear();
        if let Some(ts) = self.shapes.read(payload, &mut self.reading.values, &mut self.reading.extra) {
            self.reading.ts = check_ts(ts, latest_ts)?;
            return Ok(());
        }
        self.parse(device, payload, latest_ts)
    }

    fn parse(&mut self, device: &str, payload: &[u8], latest_ts: i64) -> Result<(), Refused> {
        self.claimed.clear();
        self.seen.fill(false);
        self.path.clear();
        let mut parse = visit::Parse {
            trie: &self.trie,
            device,
            reading: &mut self.reading,
            seen: &mut self.seen,
            ts: None,
            open: 0,
            path: &mut self.path,
            claimed: &mut self.claimed,
            refused: None,
        };
        let mut json = serde_json::Deserializer::from_slice(payload);
        let outcome = visit::NodeSeed { parse: &mut parse, node: trie::ROOT }.deserialize(&mut json).and_then(|()| json.end());
        let (ts, refused) = (parse.ts, parse.refused.take());
        if let Some(refused) = refused {
            return Err(refused);
        }
        outcome.map_err(|error| not_json(payload, &error))?;
        let ts = ts.ok_or_else(|| Refused::new(Reason::NoTs, "found no ts, expected integer milliseconds since 1970 UTC or RFC 3339"))?;
        self.reading.ts = check_ts(ts, latest_ts)?;
        self.shapes.learn(payload, &self.claimed, &self.reading.extra);
        Ok(())
    }
}

/// `ts` if it is a time a fleet can live in and not after `latest`.
pub(crate) fn check_ts(ts: i64, latest: i64) -> Result<i64, Refused> {
    if !(EARLIEST_MS..LATEST_MS).contains(&ts) {
        let detail =
            format!("ts: found {ts} ({}), expected a time from 2000 to 2199 in milliseconds since 1970 UTC", crate::time::rfc3339(ts));
        return Err(Refused::new(Reason::TsOutOfRange, detail));
    }
    if ts > latest {
        let (found, latest) = (crate::time::rfc3339(ts), crate::time::rfc3339(latest));
        let detail = format!("ts: found {found}, expected at most {latest}: its arrival and max_clock_skew");
        return Err(Refused::new(Reason::TsInFuture, detail));
    }
    Ok(ts)
}

pub(crate) fn not_json(payload: &[u8], error: &serde_json::Error) -> Refused {
    if let Err(utf8) = std::str::from_utf8(payload) {
        return Refused::new(
            Reason::InvalidUtf8,
            format!("byte {}: found a byte that is not UTF-8, expected JSON in UTF-8", utf8.valid_up_to()),
        );
    }
    Refused::new(Reason::NotJson, format!("{error}; expected a JSON object (NaN and Infinity are no JSON: send null for a missing value)"))
}

fn not_an_object(payload: &[u8]) -> Refused {
    if std::str::from_utf8(payload).is_err() || serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_err() {
        let error = serde_json::from_slice::<serde::de::IgnoredAny>(payload).err();
        return error.map_or_else(|| Refused::new(Reason::InvalidUtf8, "expected JSON in UTF-8"), |e| not_json(payload, &e));
    }
    let start: String = String::from_utf8_lossy(payload).chars().take(40).collect();
    Refused::new(Reason::NotAnObject, format!("found {start}, expected a JSON object or an array of objects"))
}

#[cfg(test)]
mod tests;
