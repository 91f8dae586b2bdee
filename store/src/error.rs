//! The errors of this crate, named by what the caller can do about them.

use object_store::Error as Backend;

/// What the caller can do when the store says no.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object: go on without it, or list again.
    #[error("{key}: not found in the store")]
    NotFound {
        /// The object asked for.
        key: String,
    },
    /// Something else is there already, or it changed meanwhile: read again and decide; repeating cannot help.
    #[error("{key}: {found}")]
    Conflict {
        /// The object in question.
        key: String,
        /// What was found in the way.
        found: String,
    },
    /// The store does not answer or fails: keep the data and try again later.
    #[error("{key}: the store is unavailable after {attempts} attempts")]
    Unavailable {
        /// The object in question.
        key: String,
        /// How often the call was tried before giving up.
        attempts: u32,
        /// What the last attempt said.
        source: Backend,
    },
    /// The credentials or file permissions do not allow it: a person has to change them.
    #[error("{key}: the store denies access; check the credentials, the bucket's policy or the file permissions")]
    Denied {
        /// The object in question.
        key: String,
        /// What the store said.
        source: Backend,
    },
    /// The request can never succeed as it stands (URL, option, key, or a store without conditional puts).
    #[error("{what}: {found}; {wanted}")]
    Invalid {
        /// The URL, option or key.
        what: String,
        /// What was found.
        found: String,
        /// What would be right.
        wanted: String,
    },
    /// An object was written by a newer Homeward than this one: upgrade before touching it.
    #[error("{key}: has format {found}, this version reads up to format {supported}; upgrade homeward")]
    Newer {
        /// The object in question.
        key: String,
        /// The format number in the object.
        found: u64,
        /// The newest format number that this version reads.
        supported: u64,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Sorts a backend's error by what can be done about it.
    pub(crate) fn classify(key: &str, attempts: u32, source: Backend) -> Self {
        let key = key.to_owned();
        match source {
            Backend::NotFound { .. } => Self::NotFound { key },
            Backend::AlreadyExists { .. } => Self::Conflict { key, found: "an object is there already".into() },
            Backend::Precondition { .. } => Self::Conflict { key, found: "the object changed meanwhile".into() },
            Backend::PermissionDenied { .. } | Backend::Unauthenticated { .. } => Self::Denied { key, source },
            ref e if is_denied_io(e) => Self::Denied { key, source },
            Backend::InvalidPath { .. }
            | Backend::NotSupported { .. }
            | Backend::NotImplemented { .. }
            | Backend::UnknownConfigurationKey { .. } => {
                let wanted = "use a store and settings that support this operation".into();
                Self::Invalid { what: key, found: source.to_string(), wanted }
            }
            _ => Self::Unavailable { key, attempts, source },
        }
    }
}

/// Local files report permissions as an I/O error somewhere down the chain of sources.
fn is_denied_io(error: &Backend) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return matches!(io.kind(), PermissionDenied | ReadOnlyFilesystem);
        }
        next = e.source();
    }
    false
}

/// A text that is no key, or a value that no key can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a valid {what}: expected {wanted}")]
pub struct KeyError {
    /// What was being read: `key`, `writer`, `model version` …
    pub what: &'static str,
    /// The text or value found.
    pub found: String,
    /// What would be right.
    pub wanted: &'static str,
}

/// Why rows could not become an object, or an object not rows.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A signal's name cannot be a column: rename the signal in the configuration.
    #[error("signal {name:?} cannot be an archive column: {why}")]
    Signal {
        /// The signal's name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A row does not have one value for each signal: a fault of the caller.
    #[error("a row has {found} values where the batch has {wanted} signals")]
    Width {
        /// Values in the row.
        found: usize,
        /// Signals of the batch.
        wanted: usize,
    },
    /// A batch is too large to encode as one object: cut it earlier.
    #[error("a batch of {found} {what} is too large, at most {max} fit in one object")]
    TooLarge {
        /// `rows`, or the column whose bytes overflow.
        what: String,
        /// How many there are.
        found: usize,
        /// How many fit.
        max: usize,
    },
    /// The object lacks a column that the table must have.
    #[error("column {column:?} is missing, expected {wanted}")]
    Missing {
        /// The column.
        column: String,
        /// Its type in the table.
        wanted: String,
    },
    /// A column has another type, or holds what it must not.
    #[error("column {column:?} is {found}, expected {wanted}")]
    Column {
        /// The column.
        column: String,
        /// What was found.
        found: String,
        /// What the table declares.
        wanted: String,
    },
    /// The object was written in a newer archive format: upgrade before reading.
    #[error("archive format {found} is newer than {supported}, the newest this version reads; upgrade homeward")]
    Newer {
        /// The format in the file.
        found: String,
        /// The newest format readable.
        supported: u32,
    },
    /// A column is spelled otherwise than in the objects that it is to be merged with.
    #[error("column {column:?} is {other:?} in other objects of the partition: names that differ in case only cannot be in one object")]
    Case {
        /// The column.
        column: String,
        /// How others spell it.
        other: String,
    },
    /// A temporary file that takes what memory does not hold.
    #[error("a temporary file in {folder}: {source}")]
    Spill {
        /// Where.
        folder: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no readable Parquet file, or the writer failed.
    #[error("Parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}
