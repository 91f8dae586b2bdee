//! `[compact]`, written and checked.

use homeward_models::ConfigError;
use homeward_models::time::parse_duration;
use homeward_store::keys::Table;
use serde::{Deserialize, Serialize};

/// `[compact]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenCompact {
    /// A partition counts as closed this long after its end, default 1 h.
    pub after: String,
    /// Size of the objects made, default 128 MiB.
    pub target_bytes: usize,
    /// Memory that a merge takes, about; what does not fit waits in temporary files. Default 512 MiB.
    pub memory_bytes: usize,
    /// Fewer loose objects than this in a partition are left as they are, default 2.
    pub min_objects: usize,
    /// zstd level, 1 to 22, default 3.
    pub zstd_level: i32,
    /// Old partitions.
    pub cold: WrittenCold,
    /// What is deleted.
    pub retain: WrittenRetain,
}

/// `[compact.cold]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenCold {
    /// A partition is cold this long after its end; default never.
    pub after: Option<String>,
    /// zstd level, 1 to 22, default 12.
    pub zstd_level: i32,
    /// Whether cold objects move below `cold/`, where other readers must be told to look; default no.
    pub separate: bool,
    /// Storage class of the store, as `STANDARD_IA`; default the store's own.
    pub storage_class: Option<String>,
}

/// `[compact.retain]` as written: a partition is deleted this long after its end. Default: never.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenRetain {
    /// Readings.
    pub telemetry: Option<String>,
    /// Quarantined messages.
    pub quarantine: Option<String>,
    /// What the predictor saw and said.
    pub scores: Option<String>,
}

impl Default for WrittenCompact {
    fn default() -> Self {
        Self {
            after: "1h".into(),
            target_bytes: 128 << 20,
            memory_bytes: 512 << 20,
            min_objects: 2,
            zstd_level: 3,
            cold: WrittenCold::default(),
            retain: WrittenRetain::default(),
        }
    }
}

impl Default for WrittenCold {
    fn default() -> Self {
        Self { after: None, zstd_level: 12, separate: false, storage_class: None }
    }
}

/// `[compact]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactSettings {
    /// How long after its end a partition is closed, milliseconds.
    pub after_ms: i64,
    /// Size of the objects made.
    pub target_bytes: usize,
    /// Memory that a merge takes, about.
    pub memory_bytes: usize,
    /// Loose objects that are worth a merge.
    pub min_objects: usize,
    /// zstd level.
    pub zstd_level: i32,
    /// How old partitions are kept, if otherwise.
    pub cold: Option<Cold>,
    /// How long after its end a partition is kept, milliseconds, by table.
    pub retain_ms: Vec<(Table, i64)>,
}

/// `[compact.cold]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Cold {
    /// How long after its end a partition is cold, milliseconds.
    pub after_ms: i64,
    /// zstd level.
    pub zstd_level: i32,
    /// Whether the objects move below `cold/`.
    pub separate: bool,
    /// Storage class.
    pub storage_class: Option<String>,
}

impl CompactSettings {
    /// Checks the written form; errors name `compact.…`.
    ///
    /// # Errors
    /// The first key whose value cannot be used, or two that contradict each other.
    pub fn check(w: &WrittenCompact) -> Result<Self, ConfigError> {
        level("compact.zstd_level", w.zstd_level)?;
        level("compact.cold.zstd_level", w.cold.zstd_level)?;
        if !(1 << 16..=1 << 30).contains(&w.target_bytes) {
            return Err(ConfigError::new("compact.target_bytes", w.target_bytes, "65536 to 1073741824 bytes"));
        }
        if w.memory_bytes < 64 << 20 {
            return Err(ConfigError::new("compact.memory_bytes", w.memory_bytes, "at least 67108864 bytes"));
        }
        if w.min_objects < 2 {
            return Err(ConfigError::new("compact.min_objects", w.min_objects, "at least 2: one object cannot be merged"));
        }
        let after_ms = parse_duration("compact.after", &w.after)?;
        let cold = cold(&w.cold)?;
        let kept = [
            (Table::Telemetry, "compact.retain.telemetry", &w.retain.telemetry),
            (Table::Quarantine, "compact.retain.quarantine", &w.retain.quarantine),
            (Table::Scores, "compact.retain.scores", &w.retain.scores),
        ];
        let mut retain_ms = Vec::new();
        for (table, key, text) in kept {
            let Some(text) = text else { continue };
            let age = parse_duration(key, text)?;
            // "0s" as a way to say "off" would delete the archive.
            if age < after_ms.max(3_600_000) {
                return Err(ConfigError::new(
                    key,
                    format!("{text:?}"),
                    "an hour or more, and no less than compact.after; leave it out to keep all",
                ));
            }
            retain_ms.push((table, age));
        }
        if let Some(cold) = cold.as_ref().filter(|c| c.after_ms < after_ms) {
            return Err(ConfigError::new("compact.cold.after", format!("{} ms", cold.after_ms), "no less than compact.after"));
        }
        Ok(Self {
            after_ms,
            target_bytes: w.target_bytes,
            memory_bytes: w.memory_bytes,
            min_objects: w.min_objects,
            zstd_level: w.zstd_level,
            cold,
            retain_ms,
        })
    }
}

fn level(key: &str, level: i32) -> Result<(), ConfigError> {
    if (1..=22).contains(&level) { Ok(()) } else { Err(ConfigError::new(key, level, "a level from 1 to 22")) }
}

fn cold(w: &WrittenCold) -> Result<Option<Cold>, ConfigError> {
    let Some(after) = &w.after else {
        let set = if w.separate { Some("compact.cold.separate") } else { w.storage_class.as_ref().map(|_| "compact.cold.storage_class") };
        // Set without effect is most likely a mistake.
        return set.map_or(Ok(None), |key| Err(ConfigError::new(key, "set", "together with compact.cold.after, which is not set")));
    };
    let storage_class = w.storage_class.clone();
    let word = |class: &String| !class.is_empty() && class.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if let Some(class) = storage_class.as_ref().filter(|class| !word(class)) {
        return Err(ConfigError::new("compact.cold.storage_class", format!("{class:?}"), "a class of the store, as \"STANDARD_IA\""));
    }
    let after_ms = parse_duration("compact.cold.after", after)?;
    Ok(Some(Cold { after_ms, zstd_level: w.zstd_level, separate: w.separate, storage_class }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_their_key() {
        let key = |text: &str| {
            let written: WrittenCompact = serde_json::from_str(text).unwrap();
            CompactSettings::check(&written).unwrap_err().key
        };
        assert_eq!(key(r#"{"after": "soon"}"#), "compact.after");
        assert_eq!(key(r#"{"target_bytes": 1}"#), "compact.target_bytes");
        assert_eq!(key(r#"{"memory_bytes": 1}"#), "compact.memory_bytes");
        assert_eq!(key(r#"{"min_objects": 1}"#), "compact.min_objects");
        assert_eq!(key(r#"{"zstd_level": 23}"#), "compact.zstd_level");
        assert_eq!(key(r#"{"cold": {"after": "9d", "zstd_level": 0}}"#), "compact.cold.zstd_level");
        assert_eq!(key(r#"{"cold": {"after": "1m"}}"#), "compact.cold.after");
        assert_eq!(key(r#"{"cold": {"separate": true}}"#), "compact.cold.separate");
        assert_eq!(key(r#"{"cold": {"after": "9d", "storage_class": "a b"}}"#), "compact.cold.storage_class");
        assert_eq!(key(r#"{"retain": {"telemetry": "0s"}}"#), "compact.retain.telemetry");
        assert_eq!(key(r#"{"after": "2d", "retain": {"scores": "1d"}}"#), "compact.retain.scores");
    }

    #[test]
    fn nothing_is_cooled_or_deleted_unless_it_is_said() {
        let settings = CompactSettings::check(&WrittenCompact::default()).unwrap();
        assert_eq!((settings.cold, settings.retain_ms), (None, vec![]));
    }
}
