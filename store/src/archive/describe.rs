//! What an object says of itself, in the metadata of its footer.

use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::ROWS_HASH;
use crate::error::ArchiveError;

/// Bytes at the end of a Parquet file: the footer's length and a magic word.
const TAIL: usize = 8;

/// What an archive object says of itself. Two objects with the same hash hold the same rows, however they are encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// Rows in it.
    pub rows: u64,
    /// Who wrote it; `None` for an object of others.
    pub writer: Option<String>,
    /// First and last journal position that it covers.
    pub seqs: Option<(u64, u64)>,
    /// A hash of its columns' names and of its rows.
    pub rows_hash: Option<String>,
}

/// What an object says of itself.
///
/// # Errors
/// [`ArchiveError::Parquet`] for bytes that are no Parquet file.
pub fn describe(bytes: Bytes) -> Result<Described, ArchiveError> {
    Ok(of(SerializedFileReader::new(bytes)?.metadata()))
}

/// How many bytes of an object's end its footer takes, told by its last bytes (at least 8).
pub(crate) fn footer_len(end: &[u8]) -> Option<usize> {
    let tail = end.get(end.len().checked_sub(TAIL)?..)?;
    let len = u32::from_le_bytes(tail[..4].try_into().ok()?) as usize;
    (&tail[4..] == b"PAR1").then_some(len + TAIL)
}

/// What an object says of itself, by the bytes of its end, which hold its footer.
pub(crate) fn describe_footer(end: &[u8]) -> Result<Described, ArchiveError> {
    let from = footer_len(end).and_then(|len| end.len().checked_sub(len)).unwrap_or(end.len());
    let footer = end.get(from..end.len().saturating_sub(TAIL)).unwrap_or_default();
    Ok(of(&ParquetMetaDataReader::decode_metadata(footer)?))
}

fn of(metadata: &ParquetMetaData) -> Described {
    let file = metadata.file_metadata();
    let pairs = file.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let value = |key: &str| pairs.iter().find(|p| p.key == key).and_then(|p| p.value.clone());
    let number = |key: &str| value(key).and_then(|v| v.parse().ok());
    Described {
        rows: u64::try_from(file.num_rows()).unwrap_or(0),
        writer: value("homeward.writer"),
        seqs: number("homeward.first_seq").zip(number("homeward.last_seq")),
        rows_hash: value(ROWS_HASH),
    }
}
