//! The quarantine table: messages that could not be archived, as they came, with the reason.

use bytes::Bytes;

use super::WriteOptions;
use super::columns::{Blobs, Interned, Texts};
use super::read::Object;
use super::write::{Field, encode};
use crate::error::ArchiveError;

/// A message, or an element of one, to be quarantined.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuarantineRow<'a> {
    /// When it arrived, by our clock: milliseconds since 1970 UTC.
    pub received_at: i64,
    /// Position in the writer's journal.
    pub seq: i64,
    /// Element of the message's array, 0 for a message of one.
    pub idx: i32,
    /// The topic it came on.
    pub topic: &'a str,
    /// The payload as it came.
    pub payload: &'a [u8],
    /// Why: a word of a closed set, in snake_case.
    pub reason: &'a str,
    /// What exactly was found.
    pub detail: &'a str,
}

/// Quarantined messages that become one object.
#[derive(Debug, Clone, Default)]
pub struct QuarantineBatch {
    received_at: Vec<i64>,
    seq: Vec<i64>,
    idx: Vec<i32>,
    topic: Texts,
    payload: Blobs,
    reason: Interned,
    detail: Texts,
}

impl QuarantineBatch {
    /// Adds a message.
    pub fn push(&mut self, row: &QuarantineRow<'_>) {
        self.received_at.push(row.received_at);
        self.seq.push(row.seq);
        self.idx.push(row.idx);
        self.topic.push(Some(row.topic));
        self.payload.push(Some(row.payload));
        self.reason.push(row.reason);
        self.detail.push(Some(row.detail));
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seq.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seq.is_empty()
    }

    /// Memory the rows take, in bytes; an estimate.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = self.topic.bytes() + self.detail.bytes() + self.reason.bytes();
        self.len() * (2 * 8 + 4) + self.payload.bytes() + texts
    }

    /// The rows as a Parquet object, sorted by seq, idx.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`] (payloads of 2 GiB in all), or [`ArchiveError::Parquet`] for options the writer
    /// refuses.
    pub fn encode(&self, options: &WriteOptions) -> Result<Bytes, ArchiveError> {
        super::check_rows(self.len())?;
        let fields = [
            Field::time("received_at", &self.received_at),
            Field::i64("seq", &self.seq),
            Field::i32("idx", &self.idx),
            Field::text("topic", &self.topic),
            Field::binary("payload", &self.payload),
            Field::name("reason", &self.reason),
            Field::text("detail", &self.detail),
        ];
        let mut order: Vec<u32> = (0..).take(self.len()).collect();
        order.sort_by_key(|&row| (self.seq[row as usize], self.idx[row as usize]));
        encode(&fields, &order, &["seq", "idx"], options)
    }
}

/// A quarantine object read back; each column as in [`QuarantineRow`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuarantineTable {
    /// When it arrived.
    pub received_at: Vec<i64>,
    /// Position in the writer's journal.
    pub seq: Vec<i64>,
    /// Element of the message's array.
    pub idx: Vec<i32>,
    /// The topic it came on.
    pub topic: Texts,
    /// The payload as it came.
    pub payload: Blobs,
    /// Why.
    pub reason: Texts,
    /// What exactly was found.
    pub detail: Texts,
}

impl QuarantineTable {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seq.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seq.is_empty()
    }
}

/// Reads a quarantine object.
///
/// # Errors
/// As [`super::read_telemetry`].
pub fn read_quarantine(bytes: Bytes) -> Result<QuarantineTable, ArchiveError> {
    let object = Object::open(bytes)?;
    Ok(QuarantineTable {
        received_at: object.times("received_at")?,
        seq: object.i64("seq")?,
        idx: object.i32("idx")?,
        topic: object.texts("topic")?,
        payload: object.blobs("payload")?,
        reason: object.texts("reason")?,
        detail: object.texts("detail")?,
    })
}
