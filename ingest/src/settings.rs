//! `[ingest]`, written and checked.

use std::time::Duration;

use homeward_models::ConfigError;
use homeward_models::time::parse_duration;
use serde::{Deserialize, Serialize};

/// `[ingest]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenIngest {
    /// When a message is acknowledged; `object` (default and so far the only one): when all of it is in the object store.
    pub ack: String,
    /// Messages that are put together at most, default 16,384. At least two batches must fit the broker's in-flight window.
    pub max_rows: usize,
    /// Bytes of payload that are put together at most, default 64 MiB.
    pub max_bytes: usize,
    /// The oldest message waits this long at most, default 10 s.
    pub max_age: String,
    /// A larger payload is quarantined, default 256 KiB.
    pub max_message_bytes: usize,
    /// A reading further ahead of its arrival is quarantined, default 1 h.
    pub max_clock_skew: String,
    /// `day` (default) or `hour`.
    pub partition: String,
    /// zstd level of the objects, 1 to 22, default 1.
    pub zstd_level: i32,
}

impl Default for WrittenIngest {
    fn default() -> Self {
        Self {
            ack: "object".into(),
            max_rows: 16_384,
            max_bytes: 64 << 20,
            max_age: "10s".into(),
            max_message_bytes: 256 << 10,
            max_clock_skew: "1h".into(),
            partition: "day".into(),
            zstd_level: 1,
        }
    }
}

/// `[ingest]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Messages a batch.
    pub max_rows: usize,
    /// Bytes of payload a batch.
    pub max_bytes: usize,
    /// Age of a batch's oldest message.
    pub max_age: Duration,
    /// Largest payload that is decoded.
    pub max_message_bytes: usize,
    /// Most that a reading may be ahead of its arrival, milliseconds.
    pub max_clock_skew_ms: i64,
    /// Whether partitions are hours.
    pub hourly: bool,
    /// zstd level of the objects.
    pub zstd_level: i32,
}

impl Settings {
    /// Checks the written form against the in-flight window; errors name `ingest.…`.
    pub fn check(w: &WrittenIngest, receive_maximum: u16) -> Result<Self, ConfigError> {
        if w.ack != "object" {
            return Err(ConfigError::new("ingest.ack", format!("{:?}", w.ack), "\"object\", the one mode of this version"));
        }
        let most = (usize::from(receive_maximum) / 2).max(1);
        if w.max_rows == 0 || w.max_rows > most {
            let expected = format!("1 to {most}, half of broker.receive_maximum: else the broker stops sending before a batch is full");
            return Err(ConfigError::new("ingest.max_rows", w.max_rows, expected));
        }
        if w.max_bytes < 1 << 16 || w.max_bytes > 1 << 30 {
            return Err(ConfigError::new("ingest.max_bytes", w.max_bytes, "65536 to 1073741824 bytes"));
        }
        if w.max_message_bytes < 1 << 10 || w.max_message_bytes > 256 << 20 {
            return Err(ConfigError::new("ingest.max_message_bytes", w.max_message_bytes, "1024 to 268435456 bytes"));
        }
        if !(1..=22).contains(&w.zstd_level) {
            return Err(ConfigError::new("ingest.zstd_level", w.zstd_level, "a level from 1 to 22"));
        }
        let hourly = match w.partition.as_str() {
            "day" => false,
            "hour" => true,
            other => return Err(ConfigError::new("ingest.partition", format!("{other:?}"), "\"day\" or \"hour\"")),
        };
        let max_age = parse_duration("ingest.max_age", &w.max_age)?;
        if max_age == 0 {
            return Err(ConfigError::new("ingest.max_age", format!("{:?}", w.max_age), "more than \"0s\""));
        }
        Ok(Self {
            max_rows: w.max_rows,
            max_bytes: w.max_bytes,
            max_age: Duration::from_millis(max_age.unsigned_abs()),
            max_message_bytes: w.max_message_bytes,
            max_clock_skew_ms: parse_duration("ingest.max_clock_skew", &w.max_clock_skew)?,
            hourly,
            zstd_level: w.zstd_level,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_their_key() {
        let key = |w: WrittenIngest| Settings::check(&w, 65_535).unwrap_err().key;
        let default = WrittenIngest::default;
        assert_eq!(key(WrittenIngest { ack: "never".into(), ..default() }), "ingest.ack");
        assert_eq!(key(WrittenIngest { max_rows: 0, ..default() }), "ingest.max_rows");
        assert_eq!(key(WrittenIngest { max_rows: 60_000, ..default() }), "ingest.max_rows");
        assert_eq!(key(WrittenIngest { max_age: "0s".into(), ..default() }), "ingest.max_age");
        assert_eq!(key(WrittenIngest { partition: "week".into(), ..default() }), "ingest.partition");
        assert_eq!(key(WrittenIngest { zstd_level: 0, ..default() }), "ingest.zstd_level");
        assert_eq!(key(WrittenIngest { max_clock_skew: "?".into(), ..default() }), "ingest.max_clock_skew");
    }
}
