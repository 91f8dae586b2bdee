//! What goes into the scores archive: every refusal, event, change and start, and a share of the other scored readings.

use std::collections::BTreeMap;

use homeward_store::archive::{ScoreBatch, ScoreRow};
use homeward_store::keys::{Partition, Table};

use crate::stats::add;
use crate::{Settings, Stats};

/// Where a reading or event stands among all that came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// Position of its message in the inbox.
    pub(crate) seq: u64,
    /// Element of the message's array.
    pub(crate) idx: u32,
    /// When it arrived, milliseconds since 1970 UTC.
    pub(crate) received_at: i64,
}

/// Rows by partition, since the last time they were taken.
pub(crate) type Rows = BTreeMap<Partition, ScoreBatch>;

/// Writes rows.
#[derive(Debug, Default)]
pub(crate) struct Scribe {
    on: bool,
    /// A scored reading whose chain is at most this is a row.
    share: u64,
    /// One whose turned chain is at most this has its features with it.
    feature_share: u64,
    hourly: bool,
    rows: Rows,
}

impl Scribe {
    /// A scribe that writes; by [`Default`] it writes nothing.
    pub(crate) fn new(settings: &Settings) -> Self {
        // A share of 1 is all of them: the product saturates.
        let at_most = |share: f64| (share * u64::MAX as f64) as u64;
        let (share, feature_share) = (at_most(settings.score_share), at_most(settings.feature_share));
        Self { on: true, share, feature_share, hourly: settings.hourly, rows: Rows::new() }
    }

    /// Whether a scored reading with this chain is one of the share. The chain is a hash: of equal readings in equal order always the same ones are.
    pub(crate) fn samples(&self, chain: u64) -> bool {
        self.on && self.share > 0 && chain <= self.share
    }

    /// Whether a row with this chain keeps its features: another draw from the same hash.
    pub(crate) fn keeps_features(&self, chain: u64) -> bool {
        self.feature_share > 0 && chain.rotate_left(32) <= self.feature_share
    }

    /// Writes a row; place and arrival are taken from `at`.
    pub(crate) fn write(&mut self, at: At, row: ScoreRow<'_>, stats: &Stats) {
        let partition = if self.hourly { Partition::hour(Table::Scores, row.ts) } else { Partition::day(Table::Scores, row.ts) };
        // The wire takes no time that has no partition.
        let (true, Ok(partition)) = (self.on, partition) else { return };
        let row = ScoreRow { seq: at.seq as i64, idx: at.idx as i32, received_at: at.received_at, ..row };
        self.rows.entry(partition).or_default().push(&row);
        add(&stats.score_rows, 1);
    }

    /// Takes what was written.
    pub(crate) fn take(&mut self) -> Rows {
        std::mem::take(&mut self.rows)
    }
}

/// A 64-bit number as the archive's columns hold it: the same bits.
pub(crate) fn bits(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}
