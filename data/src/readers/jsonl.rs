//! JSON lines: one object a line, as `homeward simulate` writes them or as somebody else does.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{Fault, shown};
use super::source::{Lines, Text};
use super::table::DEVICE;
use super::{DeviceFrom, Rows, TimeUnit, TsFrom};
use crate::{Kind, Record, is_device_name};

/// How a JSON object becomes a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum JsonMapping {
    /// `{"topic":"fleet/d-001/telemetry","payload":{"ts":…}}`: the topic's last two levels are the device and `telemetry`
    /// or `events`; the payload goes through as it is written. The default.
    #[default]
    Topic,
    /// The object is the payload itself.
    Fields {
        /// A JSON Pointer to the device, a string or a whole number; or one device for the whole file.
        device: DeviceFrom,
        /// A JSON Pointer to the time, or a fixed distance between lines. The payload gets it as `ts` in ms.
        ts: TsFrom,
        /// A JSON Pointer to the event's code: an object that has a string there is an event. None: all is telemetry.
        event: Option<String>,
    },
}

/// JSON lines being read.
pub(super) struct Jsonl {
    lines: Lines,
    mapping: JsonMapping,
    /// The time of the next line where lines have a fixed distance.
    next_ms: i64,
}

#[derive(Deserialize)]
struct TopicLine<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Timed {
    ts: Value,
}

impl Jsonl {
    pub(super) fn new(mapping: &JsonMapping, text: Text) -> Result<Self, Fault> {
        let mut next_ms = 0;
        if let JsonMapping::Fields { device, ts, event } = mapping {
            match device {
                DeviceFrom::Field(pointer) => check_pointer(pointer)?,
                DeviceFrom::Fixed(name) if is_device_name(name) => {}
                DeviceFrom::Fixed(name) => return Err(Fault::format(format!("the fixed device {}", shown(name.as_bytes())), DEVICE)),
            }
            match ts {
                TsFrom::Field(pointer, _) => check_pointer(pointer)?,
                TsFrom::Steps { start_ms, .. } => next_ms = *start_ms,
            }
            event.as_deref().map_or(Ok(()), check_pointer)?;
        }
        Ok(Jsonl { lines: Lines::new(text), mapping: mapping.clone(), next_ms })
    }

    fn bad(&self, found: impl Into<String>, want: impl Into<String>) -> Fault {
        Fault::line(self.lines.number, found, want)
    }

    fn topic_line(&self) -> Result<Record, Fault> {
        let line = &self.lines.line;
        let want = r#"{"topic":"fleet/d-001/telemetry","payload":{"ts":…}}"#;
        let parsed: TopicLine<'_> = serde_json::from_slice(line).map_err(|error| self.bad(format!("{} ({error})", shown(line)), want))?;
        let mut levels = parsed.topic.rsplit('/');
        let kind = match levels.next() {
            Some("telemetry") => Kind::Telemetry,
            Some("events") => Kind::Event,
            _ => return Err(self.bad(format!("the topic {}", shown(parsed.topic.as_bytes())), "one that ends in telemetry or events")),
        };
        let device = levels.next().filter(|name| is_device_name(name));
        let device = device.ok_or_else(|| self.bad(format!("the topic {}", shown(parsed.topic.as_bytes())), DEVICE))?;
        let payload = parsed.payload.get();
        let ts = payload_ts(payload).ok_or_else(|| self.bad(format!("the payload {}", shown(payload.as_bytes())), TS))?;
        Ok(Record { device: device.to_owned(), kind, ts, payload: payload.as_bytes().to_vec() })
    }

    fn fields_line(&self, device: &DeviceFrom, ts: &TsFrom, event: Option<&str>) -> Result<Record, Fault> {
        let line = &self.lines.line;
        let not_json = |error| self.bad(format!("{} ({error})", shown(line)), "a JSON object");
        let object: Value = serde_json::from_slice(line).map_err(not_json)?;
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(line).map_err(not_json)?;
        let device = match device {
            DeviceFrom::Fixed(name) => name.clone(),
            DeviceFrom::Field(pointer) => self.device_at(&object, pointer)?,
        };
        let ts = match ts {
            TsFrom::Steps { .. } => self.next_ms,
            TsFrom::Field(pointer, unit) => self.time_at(&object, pointer, *unit)?,
        };
        let is_event = event.is_some_and(|pointer| object.pointer(pointer).is_some_and(Value::is_string));
        let kind = if is_event { Kind::Event } else { Kind::Telemetry };
        fields.remove("ts");
        Ok(Record { device, kind, ts, payload: with_ts(ts, &fields) })
    }

    fn device_at(&self, object: &Value, pointer: &str) -> Result<String, Fault> {
        let name = match object.pointer(pointer) {
            Some(Value::String(name)) => name.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => return Err(self.bad(format!("{} at {pointer}", shown(other.to_string().as_bytes())), DEVICE)),
            None => return Err(self.bad(format!("nothing at {pointer}"), DEVICE)),
        };
        if is_device_name(&name) { Ok(name) } else { Err(self.bad(format!("{} at {pointer}", shown(name.as_bytes())), DEVICE)) }
    }

    fn time_at(&self, object: &Value, pointer: &str, unit: TimeUnit) -> Result<i64, Fault> {
        let found = object.pointer(pointer).ok_or_else(|| self.bad(format!("nothing at {pointer}"), unit.example()))?;
        let ts = match found {
            Value::String(text) => unit.parse(text),
            Value::Number(number) => unit.parse(&number.to_string()),
            _ => None,
        };
        ts.ok_or_else(|| self.bad(format!("{} at {pointer}", shown(found.to_string().as_bytes())), unit.example()))
    }
}

impl Rows for Jsonl {
    fn read(&mut self, out: &mut VecDeque<Record>) -> Result<bool, Fault> {
        if !self.lines.advance()? {
            return Ok(false);
        }
        let record = match &self.mapping {
            JsonMapping::Topic => self.topic_line()?,
            JsonMapping::Fields { device, ts, event } => self.fields_line(device, ts, event.as_deref())?,
        };
        if let JsonMapping::Fields { ts: TsFrom::Steps { step_ms, .. }, .. } = &self.mapping {
            self.next_ms = self.next_ms.saturating_add(*step_ms);
        }
        out.push_back(record);
        Ok(true)
    }
}

const TS: &str = "`ts` in it: milliseconds since 1970, or RFC 3339";

fn check_pointer(pointer: &str) -> Result<(), Fault> {
    if pointer.starts_with('/') {
        return Ok(());
    }
    Err(Fault::format(format!("the JSON Pointer `{pointer}`"), "one that begins with /, e.g. /device"))
}

/// The `ts` of a payload, or of the first element where it is an array.
fn payload_ts(payload: &str) -> Option<i64> {
    let timed = if payload.starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(payload).ok()?;
        serde_json::from_str::<Timed>(elements.first()?.get())
    } else {
        serde_json::from_str::<Timed>(payload)
    };
    match timed.ok()?.ts {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => TimeUnit::Text.parse(&text),
        _ => None,
    }
}

/// The object again, its values as they were written, with `ts` in front.
fn with_ts(ts: i64, fields: &BTreeMap<String, &RawValue>) -> Vec<u8> {
    let mut text = format!("{{\"ts\":{ts}");
    for (name, value) in fields {
        text.push(',');
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    text.into_bytes()
}
