//! The telemetry table: readings as they came.

use std::sync::Arc;

use bytes::Bytes;

use super::WriteOptions;
use super::columns::{Interned, Texts, order};
use super::read::Object;
use super::write::{Field, encode};
use crate::error::ArchiveError;

const FIXED: [&str; 6] = ["device", "ts", "received_at", "seq", "idx", "extra"];
/// Hive partitions become columns in every reader.
const PARTITIONS: [&str; 2] = ["date", "hour"];

/// A reading to be archived.
#[derive(Debug, Clone, Copy, Default)]
pub struct TelemetryRow<'a> {
    /// Who measured.
    pub device: &'a str,
    /// When, by the device's clock: milliseconds since 1970 UTC.
    pub ts: i64,
    /// When it arrived, by our clock: milliseconds since 1970 UTC.
    pub received_at: i64,
    /// Position in the writer's journal.
    pub seq: i64,
    /// Element of the message's array, 0 for a message of one.
    pub idx: i32,
    /// One value for each signal of the batch, in its order; NaN is missing.
    pub values: &'a [f64],
    /// Fields that no signal claims, as JSON.
    pub extra: Option<&'a str>,
}

/// Readings that become one object.
#[derive(Debug, Clone)]
pub struct TelemetryBatch {
    signals: Arc<[String]>,
    device: Interned,
    ts: Vec<i64>,
    received_at: Vec<i64>,
    seq: Vec<i64>,
    idx: Vec<i32>,
    values: Vec<Vec<f64>>,
    extra: Texts,
}

impl TelemetryBatch {
    /// An empty batch with a column for each of `signals`.
    ///
    /// # Errors
    /// [`ArchiveError::Signal`] for an empty name, one that is also a fixed column or a partition, or one given twice.
    /// Names that differ in case only are the same: Spark, Athena and DuckDB do not tell them apart.
    pub fn new(signals: Arc<[String]>) -> Result<Self, ArchiveError> {
        let mut seen = std::collections::HashSet::new();
        for name in signals.iter() {
            let lower = name.to_lowercase();
            if let Some(why) = name_fault(&lower, &seen) {
                return Err(ArchiveError::Signal { name: name.clone(), why });
            }
            seen.insert(lower);
        }
        let values = vec![Vec::new(); signals.len()];
        let (ts, received_at, seq, idx) = <(Vec<i64>, Vec<i64>, Vec<i64>, Vec<i32>)>::default();
        Ok(Self { signals, device: Interned::default(), ts, received_at, seq, idx, values, extra: Texts::default() })
    }

    /// Adds a reading.
    ///
    /// # Errors
    /// [`ArchiveError::Width`] if there is not one value for each signal; the batch is unchanged then.
    pub fn push(&mut self, row: &TelemetryRow<'_>) -> Result<(), ArchiveError> {
        if row.values.len() != self.values.len() {
            return Err(ArchiveError::Width { found: row.values.len(), wanted: self.values.len() });
        }
        self.device.push(row.device);
        self.ts.push(row.ts);
        self.received_at.push(row.received_at);
        self.seq.push(row.seq);
        self.idx.push(row.idx);
        for (column, value) in self.values.iter_mut().zip(row.values) {
            column.push(*value);
        }
        self.extra.push(row.extra);
        Ok(())
    }

    /// The signals, in the order of the values.
    #[must_use]
    pub fn signals(&self) -> &Arc<[String]> {
        &self.signals
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Memory the rows take, in bytes; an estimate. The object will be smaller, several times where signals repeat.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * (3 * 8 + 4 + 8 * self.values.len()) + self.device.bytes() + self.extra.bytes()
    }

    /// The rows as a Parquet object, sorted by device, ts, seq, idx.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`], or [`ArchiveError::Parquet`] for options the writer refuses.
    pub fn encode(&self, options: &WriteOptions) -> Result<Bytes, ArchiveError> {
        super::check_rows(self.len())?;
        let mut fields = vec![
            Field::name("device", &self.device),
            Field::time("ts", &self.ts),
            Field::time("received_at", &self.received_at),
            Field::i64("seq", &self.seq),
            Field::i32("idx", &self.idx),
        ];
        fields.extend(self.signals.iter().zip(&self.values).map(|(name, values)| Field::double(name, values)));
        fields.push(Field::maybe_text("extra", &self.extra));
        let order = order(&self.device, &self.ts, &self.seq, &self.idx);
        encode(&fields, &order, &["device", "ts", "seq", "idx"], options)
    }
}

fn name_fault(lower: &str, seen: &std::collections::HashSet<String>) -> Option<&'static str> {
    match lower {
        "" => Some("it is empty"),
        n if FIXED.contains(&n) => Some("every telemetry object has a column of that name already"),
        n if PARTITIONS.contains(&n) => Some("readers make a column of that name from the partition"),
        n if n.contains(|c: char| c.is_control()) => Some("it has control characters"),
        n if seen.contains(n) => Some("there is another signal of that name (case does not count)"),
        _ => None,
    }
}

/// A telemetry object read back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TelemetryTable {
    /// Who measured.
    pub device: Texts,
    /// When, by the device's clock.
    pub ts: Vec<i64>,
    /// When it arrived.
    pub received_at: Vec<i64>,
    /// Position in the writer's journal.
    pub seq: Vec<i64>,
    /// Element of the message's array.
    pub idx: Vec<i32>,
    /// The signals that the object has, by name in its order; NaN is missing.
    pub signals: Vec<(String, Vec<f64>)>,
    /// Fields that no signal claimed, as JSON.
    pub extra: Texts,
}

impl TelemetryTable {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// The values of a signal; `None` if the object does not have it.
    #[must_use]
    pub fn signal(&self, name: &str) -> Option<&[f64]> {
        self.signals.iter().find(|(n, _)| n == name).map(|(_, values)| values.as_slice())
    }
}

/// Reads a telemetry object with whatever signals it has: every column that is not a fixed one.
///
/// # Errors
/// [`ArchiveError::Missing`] and [`ArchiveError::Column`] for a table of another shape, [`ArchiveError::Newer`],
/// [`ArchiveError::Parquet`] for bytes that are no Parquet file.
pub fn read_telemetry(bytes: Bytes) -> Result<TelemetryTable, ArchiveError> {
    let object = Object::open(bytes)?;
    let signals = object.names().into_iter().filter(|n| !FIXED.contains(&n.as_str()));
    let signals = signals.map(|name| object.doubles(&name).map(|values| (name, values)));
    Ok(TelemetryTable {
        signals: signals.collect::<Result<_, _>>()?,
        device: object.texts("device")?,
        ts: object.times("ts")?,
        received_at: object.times("received_at")?,
        seq: object.i64("seq")?,
        idx: object.i32("idx")?,
        extra: object.maybe_texts("extra")?,
    })
}
