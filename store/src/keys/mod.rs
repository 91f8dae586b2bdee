//! The typed keys of everything Homeward keeps in a store: [`Key`], its parser and its printer. No other place in the
//! workspace puts such a path together.
//!
//! ```text
//! telemetry|events|quarantine|scores/date=YYYY-MM-DD[/hour=HH]/{writer}-{first_seq}-{last_seq}.parquet
//! models/{name}/{version}/model.json|metrics.json|report.html
//! models/{name}/champion.json
//! models/{name}/training.json
//! ```
//!
//! Sequence numbers are plain decimals without leading zeros, so each key has exactly one spelling, and text that is
//! spelled otherwise is no key.

mod archive;
mod model;

use std::fmt;
use std::str::FromStr;

use object_store::path::{Path, PathPart};

pub use archive::{ArchiveKey, Compacted, Partition, Table, WriterId};
pub use model::{ModelFile, ModelName, ModelVersion};

use crate::error::KeyError;

const CHAMPION: &str = "champion.json";
const TRAINING: &str = "training.json";
const MODELS: &str = "models";
/// Spark, pyarrow, DuckDB and Athena pass over names that begin with an underscore, or take `*.parquet` alone.
const MANIFEST: &str = "_manifest.json";

/// The name of one object. `Display` prints it and `FromStr` reads it back; keys sort by table, partition, writer and
/// sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A Parquet object of the archive.
    Archive(ArchiveKey),
    /// What says which objects of a partition a compaction replaces; there while one is under way.
    Manifest(Partition),
    /// A file of one model version.
    Model {
        /// The model.
        name: ModelName,
        /// The version.
        version: ModelVersion,
        /// Which of the version's files.
        file: ModelFile,
    },
    /// The pointer to the version in service.
    Champion {
        /// The model.
        name: ModelName,
    },
    /// What says that a training is under way; there while one is.
    Training {
        /// The model.
        name: ModelName,
    },
}

impl From<ArchiveKey> for Key {
    fn from(key: ArchiveKey) -> Self {
        Self::Archive(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(key) => key.fmt(f),
            Self::Manifest(partition) => write!(f, "{partition}/{MANIFEST}"),
            Self::Model { name, version, file } => write!(f, "{MODELS}/{name}/{version}/{file}"),
            Self::Champion { name } => write!(f, "{MODELS}/{name}/{CHAMPION}"),
            Self::Training { name } => write!(f, "{MODELS}/{name}/{TRAINING}"),
        }
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let Some(rest) = text.strip_prefix("models/") else {
            return match text.rsplit_once('/') {
                Some((partition, MANIFEST)) => partition.parse().map(Self::Manifest),
                _ => text.parse().map(Self::Archive),
            };
        };
        let parts: Vec<&str> = rest.split('/').collect();
        match parts[..] {
            [name, CHAMPION] => Ok(Self::Champion { name: name.parse()? }),
            [name, TRAINING] => Ok(Self::Training { name: name.parse()? }),
            [name, version, file] => Ok(Self::Model { name: name.parse()?, version: version.parse()?, file: file.parse()? }),
            _ => Err(KeyError {
                what: "key",
                found: text.to_owned(),
                wanted: "models/{name}/champion.json or models/{name}/{version}/{file}",
            }),
        }
    }
}

/// A part of the key space, for listing. Whole path segments: `date=2026-11-2` lists nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// Everything.
    All,
    /// One table of the archive, without what lies under `cold/`.
    Table(Table),
    /// What of one table lies under `cold/`.
    Cold(Table),
    /// One partition; without an hour, all hours of the day.
    Partition(Partition),
    /// One model: all its versions and its champion.
    Model(ModelName),
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Table(table) => table.fmt(f),
            Self::Cold(table) => write!(f, "cold/{table}"),
            Self::Partition(partition) => partition.fmt(f),
            Self::Model(name) => write!(f, "{MODELS}/{name}"),
        }
    }
}

/// `key` below a store's own prefix, as the backend wants it.
pub(crate) fn path_under(root: &Path, key: &impl fmt::Display) -> Path {
    let text = key.to_string();
    let below = text.split('/').filter(|s| !s.is_empty()).map(PathPart::from);
    root.parts().chain(below).collect()
}

/// The key at `path` below a store's own prefix; `None` for objects that are not Homeward's.
pub(crate) fn key_at(root: &Path, path: &Path) -> Option<Key> {
    let parts: Vec<_> = path.prefix_match(root)?.collect();
    let texts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    texts.join("/").parse().ok()
}

#[cfg(test)]
mod tests;
