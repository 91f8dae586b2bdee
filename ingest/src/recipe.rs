//! What a stretch of the inbox becomes, and the note of it that a restart honours.

use homeward_models::topic::{Topics, WrittenTopics};
use homeward_models::{ConfigError, Fleet, WrittenFleet};
use serde::{Deserialize, Serialize};

use crate::Settings;

/// The form of [`Cut`] written here, and the newest that is read.
const FORMAT: u32 = 1;

/// All that decides which rows a message becomes, and in which objects: the same messages under the same recipe give the same objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    fleet: WrittenFleet,
    topics: WrittenTopics,
    hourly: bool,
    max_message_bytes: usize,
    zstd_level: i32,
}

impl Recipe {
    /// The recipe of a configuration.
    pub fn new(fleet: &WrittenFleet, topics: &WrittenTopics, settings: &Settings) -> Self {
        Self {
            fleet: fleet.clone(),
            topics: topics.clone(),
            hourly: settings.hourly,
            max_message_bytes: settings.max_message_bytes,
            zstd_level: settings.zstd_level,
        }
    }

    /// Fleet and topics, checked.
    pub(crate) fn check(&self) -> Result<(Fleet, Topics), ConfigError> {
        Ok((Fleet::check(&self.fleet)?, Topics::check(&self.topics)?))
    }

    /// Whether partitions are hours.
    pub(crate) fn hourly(&self) -> bool {
        self.hourly
    }

    /// Largest payload that is decoded.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// zstd level of the objects.
    pub(crate) fn zstd_level(&self) -> i32 {
        self.zstd_level
    }
}

/// A stretch of the inbox that is being stored. It is noted before the first put of it; a restart stores exactly this stretch by
/// exactly this recipe, whatever the configuration says by then, and so finds its own objects again instead of archiving rows twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    format: u32,
    /// First position.
    pub first: u64,
    /// Last position.
    pub last: u64,
    /// What it becomes.
    pub recipe: Recipe,
}

/// A note that this version cannot honour.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cut noted in the journal cannot be read ({reason}): it was noted by another version of homeward; run that version until it has stored it"
)]
pub struct CutError {
    reason: String,
}

impl Cut {
    /// A cut of this version's form.
    pub fn new(first: u64, last: u64, recipe: Recipe) -> Self {
        Self { format: FORMAT, first, last, recipe }
    }

    /// The note.
    pub fn to_note(&self) -> Vec<u8> {
        // Texts, numbers and maps with text keys: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The cut of a note; `None` for an empty note.
    ///
    /// # Errors
    /// [`CutError`] for a note of another form.
    pub fn from_note(note: &[u8]) -> Result<Option<Self>, CutError> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        if note.is_empty() {
            return Ok(None);
        }
        let unreadable = |e: serde_json::Error| CutError { reason: e.to_string() };
        let Form { format } = serde_json::from_slice(note).map_err(unreadable)?;
        if format > FORMAT {
            return Err(CutError { reason: format!("form {format}, this version reads up to {FORMAT}") });
        }
        serde_json::from_slice(note).map(Some).map_err(unreadable)
    }
}
