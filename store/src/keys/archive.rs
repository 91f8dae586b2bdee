//! Keys of the archive: tables, partitions by date and hour, writers, sequence ranges.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, Timelike};

use crate::error::KeyError;

const WANTED_KEY: &str = "[cold/]{table}/date=YYYY-MM-DD[/hour=HH]/{writer}-{first_seq}-{last_seq}.parquet";

/// The tables of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Readings as they came.
    Telemetry,
    /// Failures, maintenance, inspections and all other events.
    Events,
    /// Messages that could not be archived, with the reason.
    Quarantine,
    /// What the predictor saw and said.
    Scores,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 4] = [Self::Telemetry, Self::Events, Self::Quarantine, Self::Scores];

    /// The table's name and folder.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Events => "events",
            Self::Quarantine => "quarantine",
            Self::Scores => "scores",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Table {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let found = Self::ALL.into_iter().find(|t| t.as_str() == text);
        found.ok_or_else(|| bad("table", text, "telemetry, events, quarantine or scores"))
    }
}

/// What the folders of cold partitions lie under.
const COLD: &str = "cold/";

/// A Hive partition of one table: a UTC date and, where configured, an hour below it. A cold one lies under `cold/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    table: Table,
    date: NaiveDate,
    hour: Option<u8>,
    cold: bool,
}

impl Partition {
    /// The day of `ts_ms` (milliseconds since 1970 UTC, rounded down also before 1970).
    ///
    /// # Errors
    /// A time outside the years 0001–9999: its date has no `YYYY-MM-DD` that every reader takes.
    pub fn day(table: Table, ts_ms: i64) -> Result<Self, KeyError> {
        Ok(Self { hour: None, ..Self::hour(table, ts_ms)? })
    }

    /// The day and hour of `ts_ms`.
    ///
    /// # Errors
    /// As [`Partition::day`].
    pub fn hour(table: Table, ts_ms: i64) -> Result<Self, KeyError> {
        // chrono floors: -1 ms is 1969-12-31T23:59:59.999.
        let time = DateTime::from_timestamp_millis(ts_ms).filter(|t| (1..=9999).contains(&t.year()));
        let time = time.ok_or_else(|| bad("partition time", ts_ms, "milliseconds within the years 0001 to 9999"))?;
        let hour = u8::try_from(time.hour()).ok();
        Ok(Self { table, date: time.date_naive(), hour, cold: false })
    }

    /// The table this is a partition of.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table
    }

    /// The same stretch of time under `cold/`.
    #[must_use]
    pub fn cold(self) -> Self {
        Self { cold: true, ..self }
    }

    /// The same stretch of time where ingest writes it.
    #[must_use]
    pub fn hot(self) -> Self {
        Self { cold: false, ..self }
    }

    /// Whether it lies under `cold/`.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.cold
    }

    /// The first millisecond of the partition and the first after it.
    #[must_use]
    pub fn range_ms(&self) -> (i64, i64) {
        const HOUR: i64 = 3_600_000;
        let day = self.date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
        match self.hour {
            Some(h) => (day + i64::from(h) * HOUR, day + (i64::from(h) + 1) * HOUR),
            None => (day, day + 24 * HOUR),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, date) = (self.table, self.date);
        let cold = if self.cold { COLD } else { "" };
        write!(f, "{cold}{table}/date={:04}-{:02}-{:02}", date.year(), date.month(), date.day())?;
        self.hour.map_or(Ok(()), |hour| write!(f, "/hour={hour:02}"))
    }
}

impl FromStr for Partition {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let error = || bad("partition", text, "[cold/]{table}/date=YYYY-MM-DD[/hour=HH]");
        let hot = text.strip_prefix(COLD);
        let mut parts = hot.unwrap_or(text).split('/');
        let table = parts.next().ok_or_else(error)?.parse()?;
        let date = parts.next().and_then(parse_date).ok_or_else(error)?;
        let hour = match parts.next() {
            Some(part) => Some(parse_hour(part).ok_or_else(error)?),
            None => None,
        };
        let partition = Self { table, date, hour, cold: hot.is_some() };
        if parts.next().is_some() { Err(error()) } else { Ok(partition) }
    }
}

fn parse_date(part: &str) -> Option<NaiveDate> {
    let text = part.strip_prefix("date=")?;
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = i32::try_from(digits(text.get(..4)?)?).ok()?;
    let month = u32::try_from(digits(text.get(5..7)?)?).ok()?;
    let day = u32::try_from(digits(text.get(8..)?)?).ok()?;
    NaiveDate::from_ymd_opt(year, month, day).filter(|d| d.year() >= 1)
}

fn parse_hour(part: &str) -> Option<u8> {
    let text = part.strip_prefix("hour=").filter(|t| t.len() == 2)?;
    u8::try_from(digits(text)?).ok().filter(|h| *h < 24)
}

fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

/// A decimal in its one spelling: no sign, no leading zeros.
fn canonical(text: &str) -> Option<u64> {
    if text.len() > 1 && text.starts_with('0') { None } else { digits(text) }
}

const COMPACTED_WRITER: &str = "compacted";
const COLD_WRITER: &str = "cold";

/// The writer of an object: 8 to 32 lower-case letters or digits, minted with its journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(String);

impl WriterId {
    /// The writer named by 8 random bytes (16 hexadecimal digits). Randomness is the caller's.
    #[must_use]
    pub fn from_bytes(random: [u8; 8]) -> Self {
        Self(super::model::hex(&random))
    }

    /// The writer of a compaction, named by 8 random bytes: `compacted` and 16 hexadecimal digits, or `cold` and as many.
    #[must_use]
    pub fn compaction(random: [u8; 8], cold: bool) -> Self {
        let hex = super::model::hex(&random);
        Self([if cold { COLD_WRITER } else { COMPACTED_WRITER }, &hex].concat())
    }

    /// Whether a compaction wrote it, and if so, whether for the cold.
    #[must_use]
    pub fn compacted(&self) -> Option<Compacted> {
        let by = |prefix| self.0.strip_prefix(prefix).is_some_and(|rest: &str| rest.len() == 16);
        by(COMPACTED_WRITER).then_some(Compacted::Warm).or_else(|| by(COLD_WRITER).then_some(Compacted::Cold))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For which temperature a compaction wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// For everyday reading.
    Warm,
    /// For the cold: packed harder, perhaps elsewhere.
    Cold,
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WriterId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if letters && (8..=32).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(bad("writer", text, "8 to 32 characters of a-z and 0-9"))
    }
}

/// One Parquet object: which partition, who wrote it, and which positions of the writer's journal it covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArchiveKey {
    partition: Partition,
    writer: WriterId,
    first_seq: u64,
    last_seq: u64,
}

impl ArchiveKey {
    /// The object with the rows of `first_seq..=last_seq` that fall into `partition`.
    ///
    /// # Errors
    /// A range that ends before it begins.
    pub fn new(partition: Partition, writer: WriterId, first_seq: u64, last_seq: u64) -> Result<Self, KeyError> {
        if first_seq > last_seq {
            let found = format_args!("{first_seq}-{last_seq}").to_string();
            return Err(bad("sequence range", found, "first_seq <= last_seq"));
        }
        Ok(Self { partition, writer, first_seq, last_seq })
    }

    /// Where the object lies.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Who wrote it.
    #[must_use]
    pub fn writer(&self) -> &WriterId {
        &self.writer
    }

    /// The first journal position covered.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The last journal position covered.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

impl fmt::Display for ArchiveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, writer, first_seq, last_seq } = self;
        write!(f, "{partition}/{writer}-{first_seq}-{last_seq}.parquet")
    }
}

impl FromStr for ArchiveKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let error = || bad("key", text, WANTED_KEY);
        let (folder, file) = text.rsplit_once('/').ok_or_else(error)?;
        let partition = folder.parse()?;
        let stem = file.strip_suffix(".parquet").ok_or_else(error)?;
        let (rest, last) = stem.rsplit_once('-').ok_or_else(error)?;
        let (writer, first) = rest.rsplit_once('-').ok_or_else(error)?;
        let first = canonical(first).ok_or_else(error)?;
        let last = canonical(last).ok_or_else(error)?;
        Self::new(partition, writer.parse()?, first, last)
    }
}

fn bad(what: &'static str, found: impl ToString, wanted: &'static str) -> KeyError {
    KeyError { what, found: found.to_string(), wanted }
}
