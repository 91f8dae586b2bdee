//! `[ingest]`, written and checked.

use std::time::Duration;

use homeward_models::ConfigError;
use homeward_models::time::parse_duration;
use serde::{Deserialize, Serialize};

/// `[ingest]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenIngest {
    /// When a message is acknowledged to the broker: `journal` (default) when it is in the journal on disk, `object` when all of it is in
    /// the object store.
    pub ack: String,
    /// Messages that are put together at most; default 65,536, and 16,384 with `ack = "object"`, where two batches must fit the broker's
    /// in-flight window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<usize>,
    /// Partitions (days or hours, by table) that are open at once, default 64; the batch is stored when it has more.
    pub max_partitions: usize,
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
            ack: "journal".into(),
            max_rows: None,
            max_partitions: 64,
            max_bytes: 64 << 20,
            max_age: "10s".into(),
            max_message_bytes: 256 << 10,
            max_clock_skew: "1h".into(),
            partition: "day".into(),
            zstd_level: 1,
        }
    }
}

/// When a message is acknowledged to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// When it is in the fsynced journal.
    Journal,
    /// When all of it is in the object store.
    Object,
}

/// `[ingest]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// When a message is acknowledged.
    pub ack: Ack,
    /// Messages a batch.
    pub max_rows: usize,
    /// Partitions a batch.
    pub max_partitions: usize,
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
        let ack = match w.ack.as_str() {
            "journal" => Ack::Journal,
            "object" => Ack::Object,
            other => return Err(ConfigError::new("ingest.ack", format!("{other:?}"), "\"journal\" or \"object\"")),
        };
        let max_rows = max_rows(ack, w.max_rows, receive_maximum)?;
        if !(1..=10_000).contains(&w.max_partitions) {
            return Err(ConfigError::new("ingest.max_partitions", w.max_partitions, "1 to 10000"));
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
            ack,
            max_rows,
            max_partitions: w.max_partitions,
            max_bytes: w.max_bytes,
            max_age: Duration::from_millis(max_age.unsigned_abs()),
            max_message_bytes: w.max_message_bytes,
            max_clock_skew_ms: parse_duration("ingest.max_clock_skew", &w.max_clock_skew)?,
            hourly,
            zstd_level: w.zstd_level,
        })
    }
}

/// The largest batch of the journal mode: what encoding it takes in memory stays in bounds.
const MOST_ROWS: usize = 1 << 20;

fn max_rows(ack: Ack, written: Option<usize>, receive_maximum: u16) -> Result<usize, ConfigError> {
    let (default, most, why) = match ack {
        Ack::Journal => (65_536, MOST_ROWS, ""),
        Ack::Object => {
            let half = (usize::from(receive_maximum) / 2).max(1);
            (16_384.min(half), half, ", half of broker.receive_maximum: else the broker stops sending before a batch is full")
        }
    };
    match written.unwrap_or(default) {
        rows if (1..=most).contains(&rows) => Ok(rows),
        rows => Err(ConfigError::new("ingest.max_rows", rows, format!("1 to {most}{why}"))),
    }
}

/// What a strict configuration asks of the broker's window, and the broker does not grant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "ingest.ack: \"object\" would stall: the broker grants {granted} unacknowledged messages and a batch waits for {max_rows} of them; \
     {granted} / {max_age:?} is {rate:.1} messages/s at most. Set ingest.max_rows to {fits} or less, raise the broker's in-flight window, or use ack = \"journal\""
)]
pub struct WouldStall {
    granted: u16,
    max_rows: usize,
    max_age: Duration,
    /// The largest rate this configuration could hold, messages a second.
    pub rate: f64,
    fits: usize,
}

impl Settings {
    /// Whether batches fill before the window of `granted` unacknowledged messages is used up. Messages wait for acknowledgement while one batch
    /// fills and another is stored; a window that holds less than two batches is used up first, and then only `max_age` ends a batch.
    ///
    /// # Errors
    /// [`WouldStall`] with the largest rate that such a configuration could hold: the window by `max_age`.
    pub fn fits_window(&self, granted: u16) -> Result<(), WouldStall> {
        let fits = (usize::from(granted) / 2).max(1);
        if self.ack == Ack::Journal || self.max_rows <= fits {
            return Ok(());
        }
        let rate = f64::from(granted) / self.max_age.as_secs_f64();
        Err(WouldStall { granted, max_rows: self.max_rows, max_age: self.max_age, rate, fits })
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
        assert_eq!(key(WrittenIngest { max_rows: Some(0), ..default() }), "ingest.max_rows");
        assert_eq!(key(WrittenIngest { ack: "object".into(), max_rows: Some(60_000), ..default() }), "ingest.max_rows");
        assert!(Settings::check(&WrittenIngest { max_rows: Some(60_000), ..default() }, 65_535).is_ok(), "no window binds the journal");
        assert_eq!(key(WrittenIngest { max_partitions: 0, ..default() }), "ingest.max_partitions");
        assert_eq!(key(WrittenIngest { max_age: "0s".into(), ..default() }), "ingest.max_age");
        assert_eq!(key(WrittenIngest { partition: "week".into(), ..default() }), "ingest.partition");
        assert_eq!(key(WrittenIngest { zstd_level: 0, ..default() }), "ingest.zstd_level");
        assert_eq!(key(WrittenIngest { max_clock_skew: "?".into(), ..default() }), "ingest.max_clock_skew");
    }

    #[test]
    fn a_strict_configuration_that_would_stall_is_refused_with_the_largest_rate() {
        let settings = |ack: &str| Settings::check(&WrittenIngest { ack: ack.into(), ..WrittenIngest::default() }, 65_535).unwrap();
        assert_eq!(settings("object").fits_window(65_535), Ok(()));
        assert_eq!(settings("journal").fits_window(20), Ok(()));
        let stalls = settings("object").fits_window(20).unwrap_err();
        assert_eq!(stalls.rate, 2.0, "20 messages by 10 s");
        assert!(stalls.to_string().contains("2.0 messages/s") && stalls.to_string().contains("max_rows to 10"), "{stalls}");
    }
}
