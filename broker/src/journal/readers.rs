//! What each reader has released and noted, and its file.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"HWREAD01";

/// A named reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reader {
    pub(crate) name: String,
    /// What it has released, exclusive.
    pub(crate) mark: u64,
    pub(crate) note: Option<Bytes>,
    /// The mark that is on disk.
    pub(crate) durable: u64,
    /// Whether its file says less than is known.
    pub(crate) dirty: bool,
}

impl Reader {
    /// Its file.
    pub(crate) fn to_file(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.mark.to_le_bytes());
        bytes.extend_from_slice(self.note.as_deref().unwrap_or_default());
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The reader of a file; `None` if it is damaged.
    pub(crate) fn from_file(name: &str, bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        let (mark, note) = body.strip_prefix(MAGIC)?.split_at_checked(8)?;
        if xxh3_64(body).to_le_bytes() != sum {
            return None;
        }
        let mark = u64::from_le_bytes(mark.try_into().ok()?);
        let note = (!note.is_empty()).then(|| Bytes::copy_from_slice(note));
        Some(Self { name: name.to_owned(), mark, note, durable: mark, dirty: false })
    }

    /// Whether a reader's name can be that of a file.
    pub(crate) fn good_name(name: &str) -> bool {
        !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    }
}
