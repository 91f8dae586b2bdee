//! Keys of the model registry: names, versions and the files of a version.

use std::fmt::{self, Write};
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, Timelike};

use crate::error::KeyError;

/// The name of a model: 1 to 64 characters of `a-z`, `0-9`, `_` and `-`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(String);

impl ModelName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModelName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let starts = text.bytes().next().is_some_and(plain);
        if starts && text.len() <= 64 && text.bytes().all(|b| plain(b) || b == b'_' || b == b'-') {
            return Ok(Self(text.to_owned()));
        }
        let wanted = "1 to 64 characters of a-z, 0-9, _ and -, beginning with a letter or digit";
        Err(KeyError { what: "model name", found: text.to_owned(), wanted })
    }
}

/// A model version, `20261122T131500Z-3fa9c1`: when it was trained (UTC) and six hexadecimal digits of what it holds.
/// Versions sort by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelVersion(String);

impl ModelVersion {
    /// The version trained at `trained_ms` (milliseconds since 1970 UTC; seconds are kept) whose content has `digest`
    /// (any hash; its low 24 bits are kept).
    ///
    /// # Errors
    /// A time outside the years 0001–9999.
    pub fn new(trained_ms: i64, digest: u64) -> Result<Self, KeyError> {
        let time = DateTime::from_timestamp_millis(trained_ms).filter(|t| (1..=9999).contains(&t.year()));
        let Some(t) = time else {
            let wanted = "a time within the years 0001 to 9999";
            return Err(KeyError { what: "model version", found: trained_ms.to_string(), wanted });
        };
        let date = format_args!("{:04}{:02}{:02}", t.year(), t.month(), t.day()).to_string();
        let clock = format_args!("{:02}{:02}{:02}", t.hour(), t.minute(), t.second()).to_string();
        Ok(Self(format!("{date}T{clock}Z-{:06x}", digest & 0xff_ffff)))
    }

    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModelVersion {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if is_version(text).is_some() {
            return Ok(Self(text.to_owned()));
        }
        let wanted = "YYYYMMDDTHHMMSSZ-xxxxxx with six lower-case hexadecimal digits";
        Err(KeyError { what: "model version", found: text.to_owned(), wanted })
    }
}

fn is_version(text: &str) -> Option<()> {
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0..4)?).ok()?, number(4..6)?, number(6..8)?)?;
    date.and_hms_opt(number(9..11)?, number(11..13)?, number(13..15)?)?;
    let marks = date.year() >= 1 && text.get(8..9)? == "T" && text.get(15..17)? == "Z-";
    let digest = text.get(17..)?.as_bytes();
    let hex = digest.len() == 6 && digest.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (marks && hex).then_some(())
}

/// The files of a model version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelFile {
    /// `metrics.json`: how well it does.
    Metrics,
    /// `model.json`: the model itself; written last, so a version is complete when it is there.
    Model,
    /// `report.html`: the same for people.
    Report,
}

impl ModelFile {
    /// All files of a version.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Model, Self::Report];

    /// The file's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics.json",
            Self::Model => "model.json",
            Self::Report => "report.html",
        }
    }
}

impl fmt::Display for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ModelFile {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let found = Self::ALL.into_iter().find(|f| f.as_str() == text);
        let wanted = "model.json, metrics.json or report.html";
        found.ok_or_else(|| KeyError { what: "model file", found: text.to_owned(), wanted })
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, b| {
        let _ = write!(out, "{b:02x}"); // writing to a String cannot fail
        out
    })
}
