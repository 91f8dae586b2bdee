//! How a journal is kept, and why it cannot be.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::inbox::MAX_AHEAD_MS;
use crate::settings::{SettingsError, invalid};

/// The format of journals written here, and the newest that is read.
const FORMAT: u64 = 1;

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Its folder; made if it is not there.
    pub dir: PathBuf,
    /// The name of a new journal: random bytes. One that is there keeps its own.
    pub new_id: [u8; 8],
    /// Bytes that may wait unreleased before no more is taken. Default: 16 GiB.
    pub max_bytes: u64,
    /// A segment that reaches this size is followed by another. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Room kept aside on the disk, in bytes, so that on a full one readers can still release. What is remembered of segments that go is the
    /// most of it: 6 MiB. Default: 8 MiB; 0 for none.
    pub reserve_bytes: usize,
    /// How long a message waits at most for others to share its sync. Default: 5 ms.
    pub sync_every: Duration,
    /// Bytes that are synced without waiting for more. Default: 1 MiB.
    pub sync_bytes: usize,
    /// How far a device's clock may be ahead of its message's arrival, milliseconds, for the verdict kept with it. Default: 1 h.
    pub max_ahead_ms: i64,
    /// Move damage aside and go on, where otherwise opening fails. Default: no.
    pub skip_damaged: bool,
}

impl JournalOptions {
    /// The defaults, in a folder.
    pub fn new(dir: impl Into<PathBuf>, new_id: [u8; 8]) -> Self {
        Self {
            dir: dir.into(),
            new_id,
            max_bytes: 16 << 30,
            segment_bytes: 64 << 20,
            reserve_bytes: 8 << 20,
            sync_every: Duration::from_millis(5),
            sync_bytes: 1 << 20,
            max_ahead_ms: MAX_AHEAD_MS,
            skip_damaged: false,
        }
    }

    /// Whether these can be kept.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] with the option's name.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.dir.as_os_str().is_empty() {
            return Err(invalid("dir", "", "a folder"));
        }
        if !(64 << 10..=4 << 30).contains(&self.segment_bytes) {
            return Err(invalid("segment_bytes", &self.segment_bytes.to_string(), "65,536 to 4,294,967,296"));
        }
        if self.max_bytes < 2 * self.segment_bytes {
            return Err(invalid("max_bytes", &self.max_bytes.to_string(), "at least twice segment_bytes"));
        }
        if self.sync_every > Duration::from_secs(1) {
            return Err(invalid("sync_every", &format!("{:?}", self.sync_every), "at most 1 s: acknowledgements wait for it"));
        }
        if self.sync_bytes == 0 || self.sync_bytes > 64 << 20 {
            return Err(invalid("sync_bytes", &self.sync_bytes.to_string(), "1 to 67,108,864"));
        }
        Ok(())
    }
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The options must change.
    #[error(transparent)]
    Options(SettingsError),
    /// Another process has it: end that one, or give this one a folder of its own.
    #[error("journal {}: another process has it open", dir.display())]
    Locked {
        /// Its folder.
        dir: PathBuf,
    },
    /// The disk says no.
    #[error("journal: cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something that had been written safely is not there as it was: a person must decide.
    #[error(
        "journal: damage in {} at offset {offset}: {found}; restore the file, or start with --skip-damaged, which moves the damage aside and goes on",
        segment.display()
    )]
    Damaged {
        /// The segment's file.
        segment: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What was found there.
        found: String,
    },
    /// A file that is not what this version writes there.
    #[error("journal: {}: found {found}, expected a file of this version of homeward", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
}

/// `id.json`; its sum tells a damaged name from another journal's.
pub(crate) fn identity_text(id: [u8; 8]) -> String {
    let named = format!("{{\"format\":{FORMAT},\"writer\":\"{:016x}\",", u64::from_be_bytes(id));
    format!("{named}\"sum\":\"{:016x}\"}}\n", xxh3_64(named.as_bytes()))
}

/// The name in an `id.json`, or what is wrong with it.
pub(crate) fn parse_identity(text: &[u8]) -> Result<[u8; 8], String> {
    let text = std::str::from_utf8(text).map_err(|_| "bytes that are no text".to_owned())?;
    let field = |name: &str| text.split_once(&format!("\"{name}\":")).map(|(_, rest)| rest.trim_start_matches('"'));
    let hex = |name: &str| field(name).and_then(|rest| u64::from_str_radix(rest.get(..16)?, 16).ok());
    let writer = hex("writer").map(u64::to_be_bytes).ok_or_else(|| format!("{text:?}"))?;
    match field("format").and_then(|f| f.split(',').next()?.parse::<u64>().ok()) {
        Some(format) if format > FORMAT && hex("sum").is_some() => Err(format!("format {format}, newer than {FORMAT}")),
        _ if text == identity_text(writer) => Ok(writer),
        _ => Err(format!("{text:?}, whose sum does not match")),
    }
}
