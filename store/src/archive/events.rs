//! The events table: failures, faults, inspections, maintenance and whatever else devices and operators report.

use bytes::Bytes;

use super::WriteOptions;
use super::columns::{Interned, Texts, order};
use super::read::Object;
use super::write::{Field, encode};
use crate::error::ArchiveError;

/// An event to be archived.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventRow<'a> {
    /// Whom it is about.
    pub device: &'a str,
    /// When it happened: milliseconds since 1970 UTC.
    pub ts: i64,
    /// When it arrived, by our clock: milliseconds since 1970 UTC.
    pub received_at: i64,
    /// Position in the writer's journal.
    pub seq: i64,
    /// Element of the message's array, 0 for a message of one.
    pub idx: i32,
    /// What happened: `failure`, `fault`, `inspection`, `maintenance`, `attributes`, `retired` or another code.
    pub event: &'a str,
    /// Which component; none for all of them.
    pub component: Option<&'a str>,
    /// What an inspection found: `confirmed`, `no_fault_found` or `deferred`.
    pub finding: Option<&'a str>,
    /// The alert that an inspection answers.
    pub alert_id: Option<&'a str>,
    /// The event's other fields, as JSON.
    pub extra: Option<&'a str>,
}

/// Events that become one object.
#[derive(Debug, Clone, Default)]
pub struct EventBatch {
    device: Interned,
    ts: Vec<i64>,
    received_at: Vec<i64>,
    seq: Vec<i64>,
    idx: Vec<i32>,
    event: Interned,
    component: Texts,
    finding: Texts,
    alert_id: Texts,
    extra: Texts,
}

impl EventBatch {
    /// Adds an event.
    pub fn push(&mut self, row: &EventRow<'_>) {
        self.device.push(row.device);
        self.ts.push(row.ts);
        self.received_at.push(row.received_at);
        self.seq.push(row.seq);
        self.idx.push(row.idx);
        self.event.push(row.event);
        self.component.push(row.component);
        self.finding.push(row.finding);
        self.alert_id.push(row.alert_id);
        self.extra.push(row.extra);
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

    /// Memory the rows take, in bytes; an estimate.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [&self.component, &self.finding, &self.alert_id, &self.extra];
        let texts: usize = texts.into_iter().map(Texts::bytes).sum();
        self.len() * (3 * 8 + 4) + self.device.bytes() + self.event.bytes() + texts
    }

    /// The rows as a Parquet object, sorted by device, ts, seq, idx.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`], or [`ArchiveError::Parquet`] for options the writer refuses.
    pub fn encode(&self, options: &WriteOptions) -> Result<Bytes, ArchiveError> {
        super::check_rows(self.len())?;
        let fields = [
            Field::name("device", &self.device),
            Field::time("ts", &self.ts),
            Field::time("received_at", &self.received_at),
            Field::i64("seq", &self.seq),
            Field::i32("idx", &self.idx),
            Field::name("event", &self.event),
            Field::maybe_text("component", &self.component),
            Field::maybe_text("finding", &self.finding),
            Field::maybe_text("alert_id", &self.alert_id),
            Field::maybe_text("extra", &self.extra),
        ];
        let order = order(&self.device, &self.ts, &self.seq, &self.idx);
        encode(&fields, &order, &["device", "ts", "seq", "idx"], options)
    }
}

/// An events object read back; each column as in [`EventRow`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventTable {
    /// Whom it is about.
    pub device: Texts,
    /// When it happened.
    pub ts: Vec<i64>,
    /// When it arrived.
    pub received_at: Vec<i64>,
    /// Position in the writer's journal.
    pub seq: Vec<i64>,
    /// Element of the message's array.
    pub idx: Vec<i32>,
    /// What happened.
    pub event: Texts,
    /// Which component.
    pub component: Texts,
    /// What an inspection found.
    pub finding: Texts,
    /// The alert that an inspection answers.
    pub alert_id: Texts,
    /// The event's other fields, as JSON.
    pub extra: Texts,
}

impl EventTable {
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

    /// One row; `None` past the end.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<EventRow<'_>> {
        Some(EventRow {
            device: self.device.get(row)?,
            ts: *self.ts.get(row)?,
            received_at: *self.received_at.get(row)?,
            seq: *self.seq.get(row)?,
            idx: *self.idx.get(row)?,
            event: self.event.get(row)?,
            component: self.component.get(row),
            finding: self.finding.get(row),
            alert_id: self.alert_id.get(row),
            extra: self.extra.get(row),
        })
    }
}

/// Reads an events object.
///
/// # Errors
/// As [`super::read_telemetry`].
pub fn read_events(bytes: Bytes) -> Result<EventTable, ArchiveError> {
    let object = Object::open(bytes)?;
    Ok(EventTable {
        device: object.texts("device")?,
        ts: object.times("ts")?,
        received_at: object.times("received_at")?,
        seq: object.i64("seq")?,
        idx: object.i32("idx")?,
        event: object.texts("event")?,
        component: object.maybe_texts("component")?,
        finding: object.maybe_texts("finding")?,
        alert_id: object.maybe_texts("alert_id")?,
        extra: object.maybe_texts("extra")?,
    })
}
