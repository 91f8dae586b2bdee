//! The archive codec: rows into Parquet objects that any reader takes as they stand, and back.
//!
//! | table | columns |
//! |---|---|
//! | telemetry | `device` string · `ts`, `received_at` timestamp[ms, UTC] · `seq` int64 · `idx` int32 · each signal double? · `extra` string? |
//! | events | `device` · `ts` · `received_at` · `seq` · `idx` · `event` string · `component`, `finding`, `alert_id`, `extra` string? |
//! | quarantine | `received_at` · `seq` · `idx` · `topic` string · `payload` binary · `reason`, `detail` string |
//! | scores | `device` · `ts` · `received_at` · `seq` · `idx` · `kind` string · `n`, `chain`, `content` int64 · `risk_1` … `risk_K`, `threshold` double? · `model_version`, `reason`, `alert_id` string? |
//!
//! A table is a list of `Field`s beside its columns; the writer and the reader know nothing else of it.
//! Telemetry, events and scores are sorted by device, ts, seq, idx; quarantine by seq, idx.
//!
//! **Encodings.** Old and plain ones, for the sake of all readers: PLAIN, the dictionary, DELTA_BINARY_PACKED for times
//! and `seq`, zstd. A signal gets a dictionary where a sample of its values repeats. On 20 signals (`benches/encode.rs`)
//! that is 59 bytes a row for values rounded to a sensor's digits, 62 without dictionaries; for values that use all 52
//! bits 146, where a dictionary would make it 172 and take twice as long. BYTE_STREAM_SPLIT, which not every reader
//! knows, gives 76 and 124.

mod columns;
mod describe;
mod events;
mod merge;
mod quarantine;
mod read;
mod scores;
mod telemetry;
mod write;

pub use columns::{Blobs, Texts};
pub use describe::{Described, describe};
pub(crate) use describe::{describe_footer, footer_len};
pub use events::{EventBatch, EventRow, EventTable, read_events};
pub use merge::{Merge, Merged};
pub use quarantine::{QuarantineBatch, QuarantineRow, QuarantineTable, read_quarantine};
pub use scores::{ScoreBatch, ScoreRow, ScoreTable, read_scores};
pub use telemetry::{TelemetryBatch, TelemetryRow, TelemetryTable, read_telemetry};

use crate::error::ArchiveError;
use crate::keys::WriterId;

/// The archive format written here, in the files' metadata as `homeward.format`, and the newest that is read.
pub const FORMAT: u32 = 1;

/// Metadata of an object: a hash of its rows.
const ROWS_HASH: &str = "homeward.rows_hash";

/// How to write an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// zstd level, 1 to 22. Default 1: level 3 is slower and hardly smaller on telemetry.
    pub zstd_level: i32,
    /// Rows of a row group at most. Default 1,048,576.
    pub max_row_group_rows: usize,
    /// Who writes; kept in the file's metadata as `homeward.writer`.
    pub writer: Option<WriterId>,
    /// The first and last journal position; kept as `homeward.first_seq` and `homeward.last_seq`.
    pub seqs: Option<(u64, u64)>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { zstd_level: 1, max_row_group_rows: 1 << 20, writer: None, seqs: None }
    }
}

/// Rows are numbered in 32 bits.
fn check_rows(found: usize) -> Result<(), ArchiveError> {
    const MAX: usize = u32::MAX as usize;
    if found > MAX { Err(ArchiveError::TooLarge { what: "rows".into(), found, max: MAX }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
