//! Readers of public data sets, CSV and JSON lines, as if their machines sent them live.
//!
//! A file may be gzip or plain; its first bytes tell. Records come in the file's own order.

mod alfa;
mod backblaze;
mod cmapss;
mod error;
mod json;
mod jsonl;
mod source;
mod table;
mod time;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::ReadError;
pub use jsonl::JsonMapping;
pub use table::{CsvMapping, EventColumn};
pub use time::TimeUnit;

use crate::{Kind, Record};
use error::Fault;
use source::Text;

/// What kind of file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// NASA C-MAPSS turbofans, `train_FD001.txt` and its kind: one cycle is one hour from 2020-01-01, a training engine
    /// fails at its last cycle.
    Cmapss,
    /// ALFA, one fixed-wing flight a file: a `fault` event at the first row with `field.data` > 0.
    Alfa,
    /// Backblaze's daily disk statistics: a `failure` event where `failure` is 1.
    Backblaze,
    /// Comma-separated values with a header.
    Csv(CsvMapping),
    /// One JSON object a line.
    Jsonl(JsonMapping),
}

/// Where a record's device comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceFrom {
    /// The column of this name; for JSON lines the field at this JSON Pointer (`/device`).
    Field(String),
    /// Always this device.
    Fixed(String),
}

/// Where a record's time comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TsFrom {
    /// The column of this name; for JSON lines the field at this JSON Pointer (`/ts`).
    Field(String, TimeUnit),
    /// Each row follows the one before it at a fixed distance, in a file without times.
    Steps {
        /// Time of the first row, ms since 1970 UTC.
        start_ms: i64,
        /// Distance of two rows, ms.
        step_ms: i64,
    },
}

/// What to read of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether events are read, or telemetry alone. Default true.
    pub events: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { events: true }
    }
}

/// A data set being read: an iterator of [`Record`]s.
///
/// After a bad line ([`ReadError::Line`]) it goes on with the next; after any other error it ends.
pub struct Reader {
    path: PathBuf,
    file_len: u64,
    bytes_read: Arc<AtomicU64>,
    rows: Box<dyn Rows>,
    queue: VecDeque<Record>,
    events: bool,
    ended: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("bytes_read", &self.bytes_read()).finish_non_exhaustive()
    }
}

/// One format: turns the next row into records.
trait Rows: Send {
    /// Appends the records of the next row; false when there is no more and nothing was appended.
    fn read(&mut self, out: &mut VecDeque<Record>) -> Result<bool, Fault>;
}

/// Opens the file at `path` as `format`.
///
/// # Errors
/// [`ReadError::Open`] if it cannot be opened, [`ReadError::Broken`] if it ends within its header, [`ReadError::Format`]
/// if its header is not of this format or lacks a column of the mapping.
pub fn open(path: impl AsRef<Path>, format: &Format, options: &Options) -> Result<Reader, ReadError> {
    let path = path.as_ref();
    let source = source::open(path).map_err(|source| ReadError::Open { path: path.to_owned(), source })?;
    let rows = rows(path, format, source.text).map_err(|fault| fault.at(path.to_owned()))?;
    Ok(Reader {
        path: path.to_owned(),
        file_len: source.file_len,
        bytes_read: source.bytes_read,
        rows,
        queue: VecDeque::new(),
        events: options.events,
        ended: false,
    })
}

fn rows(path: &Path, format: &Format, text: Text) -> Result<Box<dyn Rows>, Fault> {
    Ok(match format {
        Format::Cmapss => Box::new(cmapss::Cmapss::new(stem(path), text)),
        Format::Alfa => Box::new(alfa::Alfa::new(path, text)?),
        Format::Backblaze => Box::new(backblaze::Backblaze::new(text)?),
        Format::Csv(mapping) => Box::new(table::Csv::new(mapping, text)?),
        Format::Jsonl(mapping) => Box::new(jsonl::Jsonl::new(mapping, text)?),
    })
}

/// The file's name without its endings `.gz`, `.csv`, `.txt`.
fn stem(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.strip_suffix(".csv").or_else(|| name.strip_suffix(".txt")).unwrap_or(name)
}

impl Reader {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes, compressed if it is.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// How many of the file's bytes have been read so far, for a progress bar; it reaches [`Reader::file_len`].
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

impl Iterator for Reader {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.queue.pop_front() {
                if self.events || record.kind == Kind::Telemetry {
                    return Some(Ok(record));
                }
                continue;
            }
            if self.ended {
                return None;
            }
            match self.rows.read(&mut self.queue) {
                Ok(more) => self.ended = !more,
                Err(fault) => {
                    self.ended = !fault.is_passing();
                    return Some(Err(fault.at(self.path.clone())));
                }
            }
        }
    }
}
