//! `[source]`: how CSV and JSON lines map to readings.

use homeward_data::readers::{CsvMapping, DeviceFrom, EventColumn, JsonMapping, TimeUnit, TsFrom};
use homeward_models::ConfigError;
use homeward_models::time::{parse_duration, parse_rfc3339};
use serde::Deserialize;

/// `[source]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenSource {
    /// Column (CSV) or JSON Pointer (JSON lines) of the device.
    #[serde(default)]
    pub device: Option<String>,
    /// One device for the whole file, instead.
    #[serde(default)]
    pub device_name: Option<String>,
    /// Column or JSON Pointer of the time.
    #[serde(default)]
    pub ts: Option<String>,
    /// `ms` (default), `s`, `us`, `ns` or `text`.
    #[serde(default)]
    pub ts_unit: Option<String>,
    /// For files without times: the first row's time, RFC 3339.
    #[serde(default)]
    pub start: Option<String>,
    /// … and the distance between rows.
    #[serde(default)]
    pub step: Option<String>,
    /// Columns that announce events (CSV).
    #[serde(default)]
    pub events: Vec<WrittenEventColumn>,
    /// Columns to leave out (CSV).
    #[serde(default)]
    pub skip: Vec<String>,
    /// JSON Pointer of the event's code (JSON lines).
    #[serde(default)]
    pub event: Option<String>,
}

/// A column in which a value means an event, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenEventColumn {
    /// The column.
    pub column: String,
    /// The value that means it.
    pub value: String,
    /// The event's code.
    pub event: String,
    /// The component named, if any.
    #[serde(default)]
    pub component: Option<String>,
}

impl WrittenSource {
    /// Checks what both kinds of file need; errors name `source.…`.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.device_from()?;
        self.ts_from().map(|_| ())
    }

    /// The mapping for CSV.
    pub fn csv(&self) -> Result<CsvMapping, ConfigError> {
        let event = |e: &WrittenEventColumn| EventColumn {
            column: e.column.clone(),
            value: e.value.clone(),
            event: e.event.clone(),
            component: e.component.clone(),
        };
        Ok(CsvMapping {
            device: self.device_from()?,
            ts: self.ts_from()?,
            events: self.events.iter().map(event).collect(),
            skip: self.skip.clone(),
        })
    }

    /// The mapping for JSON lines.
    pub fn jsonl(&self) -> Result<JsonMapping, ConfigError> {
        Ok(JsonMapping::Fields { device: self.device_from()?, ts: self.ts_from()?, event: self.event.clone() })
    }

    fn device_from(&self) -> Result<DeviceFrom, ConfigError> {
        match (&self.device, &self.device_name) {
            (Some(field), None) => Ok(DeviceFrom::Field(field.clone())),
            (None, Some(name)) => Ok(DeviceFrom::Fixed(name.clone())),
            (found, _) => Err(ConfigError::new(
                "source.device",
                if found.is_some() { "device and device_name" } else { "neither device nor device_name" },
                "exactly one of them",
            )),
        }
    }

    fn ts_from(&self) -> Result<TsFrom, ConfigError> {
        match (&self.ts, &self.start, &self.step) {
            (Some(field), None, None) => Ok(TsFrom::Field(field.clone(), self.unit()?)),
            (None, Some(start), Some(step)) => {
                let start_ms = parse_rfc3339(start)
                    .ok_or_else(|| ConfigError::new("source.start", format!("{start:?}"), "RFC 3339, such as \"2026-01-01T00:00:00Z\""))?;
                Ok(TsFrom::Steps { start_ms, step_ms: parse_duration("source.step", step)? })
            }
            _ => Err(ConfigError::new(
                "source.ts",
                "neither ts alone nor start with step",
                "ts = \"column\", or start and step for files without times",
            )),
        }
    }

    fn unit(&self) -> Result<TimeUnit, ConfigError> {
        match self.ts_unit.as_deref().unwrap_or("ms") {
            "ms" => Ok(TimeUnit::Millis),
            "s" => Ok(TimeUnit::Seconds),
            "us" => Ok(TimeUnit::Micros),
            "ns" => Ok(TimeUnit::Nanos),
            "text" => Ok(TimeUnit::Text),
            other => Err(ConfigError::new("source.ts_unit", format!("{other:?}"), "\"ms\", \"s\", \"us\", \"ns\" or \"text\"")),
        }
    }
}
