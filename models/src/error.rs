//! The one error of checked settings: it names the key, what was given and what would be right.

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: found {found}, expected {expected}")]
pub struct ConfigError {
    /// The key as written, with its section: `signals.battery_v.range`.
    pub key: String,
    /// What was given.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl ConfigError {
    /// An error at `key` that was given `found` where `expected` would be right.
    pub fn new(key: impl Into<String>, found: impl std::fmt::Display, expected: impl Into<String>) -> Self {
        Self { key: key.into(), found: found.to_string(), expected: expected.into() }
    }

    /// The same error with `section.` before its key.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        self.key = format!("{section}.{}", self.key);
        self
    }
}
