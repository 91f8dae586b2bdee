//! The scores table: what predict saw and said, enough to score it again and compare.

use bytes::Bytes;

use super::WriteOptions;
use super::columns::{Blobs, Interned, Texts, order};
use super::read::Object;
use super::write::{Field, encode};
use crate::error::ArchiveError;

const RISK: &str = "risk_";

/// A row of the scores.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreRow<'a> {
    /// Whose reading or event.
    pub device: &'a str,
    /// Its time by the device's clock: milliseconds since 1970 UTC.
    pub ts: i64,
    /// When it arrived, by our clock: milliseconds since 1970 UTC.
    pub received_at: i64,
    /// Position in predict's own journal.
    pub seq: i64,
    /// Element of the message's array, 0 for a message of one.
    pub idx: i32,
    /// `scored`, `refused`, `event` or `start`.
    pub kind: &'a str,
    /// Readings of the device accepted so far, this one included.
    pub n: i64,
    /// Running hash of what the device's state has absorbed, the bits of a 64-bit number.
    pub chain: i64,
    /// Hash of the reading or event itself, the bits of a 64-bit number.
    pub content: i64,
    /// Risk within each horizon; empty where nothing was scored.
    pub risks: &'a [f64],
    /// The risk that raises; NaN where nothing was scored.
    pub threshold: f64,
    /// The model that scored it, if any.
    pub model_version: Option<&'a str>,
    /// Why the row is here: `late`, `duplicate`, `raised`, `cleared`, `model`, `sample`, …; an event's code.
    pub reason: Option<&'a str>,
    /// The alert that it raised or cleared.
    pub alert_id: Option<&'a str>,
    /// All features that were scored, of the rows that keep them; empty elsewhere.
    pub features: &'a [f64],
}

/// Scores that become one object.
#[derive(Debug, Clone, Default)]
pub struct ScoreBatch {
    device: Interned,
    ts: Vec<i64>,
    received_at: Vec<i64>,
    seq: Vec<i64>,
    idx: Vec<i32>,
    kind: Interned,
    n: Vec<i64>,
    chain: Vec<i64>,
    content: Vec<i64>,
    risks: Vec<Vec<f64>>,
    threshold: Vec<f64>,
    model_version: Texts,
    reason: Texts,
    alert_id: Texts,
    features: Blobs,
}

impl ScoreBatch {
    /// Adds a row.
    pub fn push(&mut self, row: &ScoreRow<'_>) {
        // A model of more horizons came: the rows before it have no such risk.
        let rows = self.ts.len();
        while self.risks.len() < row.risks.len() {
            self.risks.push(vec![f64::NAN; rows]);
        }
        for (k, column) in self.risks.iter_mut().enumerate() {
            column.push(row.risks.get(k).copied().unwrap_or(f64::NAN));
        }
        self.device.push(row.device);
        self.ts.push(row.ts);
        self.received_at.push(row.received_at);
        self.seq.push(row.seq);
        self.idx.push(row.idx);
        self.kind.push(row.kind);
        self.n.push(row.n);
        self.chain.push(row.chain);
        self.content.push(row.content);
        self.threshold.push(row.threshold);
        self.model_version.push(row.model_version);
        self.reason.push(row.reason);
        self.alert_id.push(row.alert_id);
        let features: Vec<u8> = row.features.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.features.push((!features.is_empty()).then_some(&features));
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// The rows as a Parquet object, sorted by device, ts, seq, idx.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`], or [`ArchiveError::Parquet`] for options the writer refuses.
    pub fn encode(&self, options: &WriteOptions) -> Result<Bytes, ArchiveError> {
        super::check_rows(self.len())?;
        let names: Vec<String> = (1..=self.risks.len()).map(risk_name).collect();
        let mut fields = vec![
            Field::name("device", &self.device),
            Field::time("ts", &self.ts),
            Field::time("received_at", &self.received_at),
            Field::i64("seq", &self.seq),
            Field::i32("idx", &self.idx),
            Field::name("kind", &self.kind),
            Field::i64("n", &self.n),
            Field::i64("chain", &self.chain),
            Field::i64("content", &self.content),
        ];
        fields.extend(names.iter().zip(&self.risks).map(|(name, values)| Field::double(name, values)));
        fields.extend([
            Field::double("threshold", &self.threshold),
            Field::maybe_text("model_version", &self.model_version),
            Field::maybe_text("reason", &self.reason),
            Field::maybe_text("alert_id", &self.alert_id),
            Field::maybe_binary("features", &self.features),
        ]);
        let order = order(&self.device, &self.ts, &self.seq, &self.idx);
        encode(&fields, &order, &["device", "ts", "seq", "idx"], options)
    }
}

fn risk_name(horizon: usize) -> String {
    [RISK, &horizon.to_string()].concat()
}

/// A scores object read back; each column as in [`ScoreRow`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreTable {
    /// Whose.
    pub device: Texts,
    /// Time by the device's clock.
    pub ts: Vec<i64>,
    /// When it arrived.
    pub received_at: Vec<i64>,
    /// Position in predict's journal.
    pub seq: Vec<i64>,
    /// Element of the message's array.
    pub idx: Vec<i32>,
    /// What kind of row.
    pub kind: Texts,
    /// Readings accepted so far.
    pub n: Vec<i64>,
    /// Running hash of what the state has absorbed.
    pub chain: Vec<i64>,
    /// Hash of the reading or event itself.
    pub content: Vec<i64>,
    /// One column a horizon; NaN where there is none.
    pub risks: Vec<Vec<f64>>,
    /// The risk that raises.
    pub threshold: Vec<f64>,
    /// The model that scored it.
    pub model_version: Texts,
    /// Why the row is here.
    pub reason: Texts,
    /// The alert that it raised or cleared.
    pub alert_id: Texts,
    /// All features that were scored, 64-bit floating-point numbers one after the other, lowest byte first; of few rows.
    pub features: Blobs,
}

impl ScoreTable {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// The risks of a row, as many as it has.
    #[must_use]
    pub fn risks_of(&self, row: usize) -> Vec<f64> {
        self.risks.iter().filter_map(|column| column.get(row).copied()).take_while(|r| !r.is_nan()).collect()
    }

    /// The features of a row, if it keeps them.
    #[must_use]
    pub fn features_of(&self, row: usize) -> Vec<f64> {
        self.features.get(row).unwrap_or_default().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }
}

/// Reads a scores object.
///
/// # Errors
/// As [`super::read_telemetry`].
pub fn read_scores(bytes: Bytes) -> Result<ScoreTable, ArchiveError> {
    let object = Object::open(bytes)?;
    let names = object.names();
    let risks = (1..).map(risk_name).take_while(|name| names.contains(name)).map(|name| object.doubles(&name));
    Ok(ScoreTable {
        risks: risks.collect::<Result<_, _>>()?,
        device: object.texts("device")?,
        ts: object.times("ts")?,
        received_at: object.times("received_at")?,
        seq: object.i64("seq")?,
        idx: object.i32("idx")?,
        kind: object.texts("kind")?,
        n: object.i64("n")?,
        chain: object.i64("chain")?,
        content: object.i64("content")?,
        threshold: object.doubles("threshold")?,
        model_version: object.maybe_texts("model_version")?,
        reason: object.maybe_texts("reason")?,
        alert_id: object.maybe_texts("alert_id")?,
        features: object.maybe_blobs("features")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_to_the_last_bit_sorted_and_without_the_risks_they_do_not_have() {
        let risks = [0.1 + 0.2, 0.9];
        let plain = ScoreRow { device: "b", kind: "start", threshold: f64::NAN, ..ScoreRow::default() };
        let scored = ScoreRow {
            device: "a",
            ts: 5,
            received_at: 7,
            seq: 3,
            idx: 1,
            kind: "scored",
            n: 9,
            chain: -1,
            content: i64::MIN,
            risks: &risks,
            threshold: 0.4,
            model_version: Some("v"),
            reason: Some("raised"),
            alert_id: Some("x"),
            features: &[1.5, -0.0, f64::NAN],
        };
        let one = ScoreRow { ts: 6, risks: &risks[..1], features: &[], ..scored };
        let mut batch = ScoreBatch::default();
        [plain, one, scored].iter().for_each(|row| batch.push(row));
        let table = read_scores(batch.encode(&WriteOptions::default()).unwrap()).unwrap();
        assert_eq!(table.device.iter().flatten().collect::<Vec<_>>(), ["a", "a", "b"]);
        assert_eq!((table.risks_of(0), table.risks_of(1), table.risks_of(2)), (risks.to_vec(), vec![risks[0]], vec![]));
        assert_eq!((table.ts[0], table.received_at[0], table.seq[0], table.idx[0], table.n[0]), (5, 7, 3, 1, 9));
        assert_eq!((table.chain[0], table.content[0], table.threshold[0]), (-1, i64::MIN, 0.4));
        assert_eq!((table.kind.get(2), table.model_version.get(2), table.reason.get(0)), (Some("start"), None, Some("raised")));
        let bits = |row| table.features_of(row).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!((bits(0), bits(1)), (scored.features.iter().map(|value| value.to_bits()).collect(), vec![]));
        assert!(table.threshold[2].is_nan() && table.alert_id.get(0) == Some("x"));
    }
}
