//! Audit: the archived readings and events of a device scored again, and held against what predict archived of them.
//!
//! A device's history is a set of readings: those of the archive in order of `ts`, without the ones that the scores say were refused; events and
//! refusals at the place (`n`) that the scores say. Chains are compared first. Where one differs, the archive holds *other input* than predict
//! saw, and the reading is named; where chains are equal and the bits of a risk are not, that is a fault.
//!
//! `start` rows part the history: at `new` a state began at nothing, at `clock_step` the device's clock went back, so that what came before and
//! after cannot be told apart by `ts`. Which readings of the archive belong where is told by the order of their arrival.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::Event;
use crate::artifact::Model;
use crate::features::{DeviceState, FeatureSpec, Verdict};

/// What a row of the scores is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// A state began (`new`), went on (`restored`) or its clock stepped (`clock_step`).
    Start,
    /// A reading was scored.
    Scored,
    /// A reading was refused.
    Refused,
    /// An event was absorbed.
    Event,
}

/// A row of the scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is about.
    pub kind: RowKind,
    /// Time of the reading or event, milliseconds since 1970 UTC.
    pub ts: i64,
    /// When it arrived at predict, milliseconds since 1970 UTC.
    pub received_at: i64,
    /// Readings accepted by then, this one included.
    pub n: u64,
    /// The chain by then.
    pub chain: u64,
    /// Hash of the reading or event itself; 0 for none.
    pub content: u64,
    /// Risks, one a horizon.
    pub risks: Vec<f64>,
    /// All features that were scored; empty in rows that do not keep them.
    pub features: Vec<f64>,
    /// The model that gave them.
    pub model: Option<String>,
    /// Why the row is there.
    pub reason: String,
}

/// A reading of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archived {
    /// Milliseconds since 1970 UTC.
    pub ts: i64,
    /// When it arrived at ingest, milliseconds since 1970 UTC.
    pub received_at: i64,
    /// Hash of it.
    pub content: u64,
    /// Where the caller has its values.
    pub at: usize,
}

/// All that is known of one device.
pub struct History<'a> {
    /// The scores, in predict's order.
    pub rows: &'a [Row],
    /// The archived readings in order of arrival.
    pub readings: &'a [Archived],
    /// The archived events by their hash.
    pub events: &'a HashMap<u64, Event>,
    /// Writes the measured values of a reading, one a signal.
    pub values: &'a dyn Fn(usize, &mut [f64]),
}

/// The models that the scores name, and the fleet's features where none was in service.
pub struct Judges<'a> {
    /// By version.
    pub models: &'a BTreeMap<String, Model>,
    /// Features without a model.
    pub plain: &'a FeatureSpec,
}

/// Where the archive is not what predict saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherInput {
    /// Time of the reading or event.
    pub ts: i64,
    /// Readings accepted by then.
    pub n: u64,
    /// What is other.
    pub what: String,
}

/// A feature or a risk whose bits came out otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Time of the reading.
    pub ts: i64,
    /// Readings accepted by then.
    pub n: u64,
    /// The model.
    pub model: String,
    /// The feature's name, or `risk_` and the number of the horizon, from 1.
    pub what: String,
    /// What the scores hold.
    pub archived: f64,
    /// What it is when scored again.
    pub again: f64,
}

/// What an audit of a device found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// Rows of scored readings.
    pub scored: u64,
    /// Of these, rows whose chain was equal and whose risks were compared.
    pub compared: u64,
    /// Of these, rows that keep all features, which were compared too.
    pub with_features: u64,
    /// Rows that could not be compared, since the archive is other input.
    pub other_rows: u64,
    /// Where that began.
    pub other_input: Vec<OtherInput>,
    /// Rows whose reading is not in the archive yet.
    pub not_archived: u64,
    /// Rows whose model is not to be had.
    pub unknown_model: u64,
    /// Rows before the first start that the scores hold.
    pub unanchored: u64,
    /// Features and risks that differ.
    pub differing: Vec<Difference>,
}

/// Scores a device's history again.
pub fn audit(history: &History<'_>, judges: &Judges<'_>) -> Findings {
    let mut findings = Findings { scored: scored(history.rows), ..Findings::default() };
    let mut starts: Vec<usize> = (0..history.rows.len()).filter(|i| parts(&history.rows[*i])).collect();
    findings.unanchored = scored(&history.rows[..starts.first().copied().unwrap_or(history.rows.len())]);
    let cuts = arrivals(history, &starts);
    starts.push(history.rows.len());
    let mut state = None;
    for (i, cut) in cuts.windows(2).enumerate() {
        let rows = &history.rows[starts[i]..starts[i + 1]];
        if rows[0].reason == "new" {
            state = Some(DeviceState::new(judges.plain));
        }
        match state.take() {
            Some(before) => state = Replay::new(history, judges, before, rows, cut[0]..cut[1]).run(&mut findings),
            // What went wrong before a clock step goes on behind it.
            None => findings.other_rows += scored(rows),
        }
    }
    findings
}

/// Whether a row parts the history.
fn parts(row: &Row) -> bool {
    row.kind == RowKind::Start && matches!(row.reason.as_str(), "new" | "clock_step")
}

fn scored(rows: &[Row]) -> u64 {
    rows.iter().filter(|r| r.kind == RowKind::Scored).count() as u64
}

/// Where in the readings' order of arrival each part begins, and their end.
fn arrivals(history: &History<'_>, starts: &[usize]) -> Vec<usize> {
    let mut cuts = Vec::with_capacity(starts.len() + 1);
    let mut from = 0;
    for (i, start) in starts.iter().enumerate() {
        let rows = &history.rows[*start..starts.get(i + 1).copied().unwrap_or(history.rows.len())];
        let rest = &history.readings[from..];
        // A state that was lost, and no row of a reading since: the clocks of arrival must do, which are those of two services.
        let by_clock = || rest.partition_point(|r| r.received_at < rows[0].received_at);
        from += place(rest, &rows[0]).or_else(|| before_first(rest, rows)).unwrap_or_else(by_clock);
        cuts.push(from);
    }
    cuts.push(history.readings.len());
    cuts
}

/// The reading of a row. A device may send the same again after it was retired: then the one that arrived when the row was written.
fn place(readings: &[Archived], row: &Row) -> Option<usize> {
    let same = (0..readings.len()).filter(|i| readings[*i].content == row.content && readings[*i].ts == row.ts);
    same.min_by_key(|i| readings[*i].received_at.abs_diff(row.received_at))
}

/// Where a part begins that an event began: before the first reading that it has a row of, by as many as had been accepted by then.
fn before_first(readings: &[Archived], rows: &[Row]) -> Option<usize> {
    let row = rows.iter().find(|r| matches!(r.kind, RowKind::Scored | RowKind::Refused))?;
    let accepted = usize::try_from(row.n).ok()?.checked_sub(usize::from(row.kind == RowKind::Scored))?;
    place(readings, row)?.checked_sub(accepted)
}

/// One part of a history being scored again.
struct Replay<'a> {
    history: &'a History<'a>,
    judges: &'a Judges<'a>,
    state: DeviceState,
    spec: &'a FeatureSpec,
    /// Accepted readings in order of `ts`.
    readings: Vec<Archived>,
    /// Rows at a reading (scored, a step), and rows between readings (events, refusals, restarts), both in order.
    at: VecDeque<&'a Row>,
    between: VecDeque<&'a Row>,
    row: Vec<f64>,
    measured: Vec<f64>,
}

impl<'a> Replay<'a> {
    fn new(history: &'a History<'a>, judges: &'a Judges<'a>, state: DeviceState, rows: &'a [Row], arrived: std::ops::Range<usize>) -> Self {
        let is_at = |r: &&Row| r.kind == RowKind::Scored || r.reason == "clock_step";
        let readings = accepted(&history.readings[arrived], rows, state.accepted());
        let (at, between): (VecDeque<&Row>, VecDeque<&Row>) =
            rows.iter().filter(|r| r.reason != "new" || r.kind != RowKind::Start).partition(is_at);
        let (row, measured) = (vec![f64::NAN; judges.plain.len()], vec![f64::NAN; judges.plain.fleet().measured]);
        Self { history, judges, state, spec: judges.plain, readings, at, between, row, measured }
    }

    /// Scores all readings again; the state after them, or none if the archive turned out to be other input.
    fn run(mut self, findings: &mut Findings) -> Option<DeviceState> {
        let readings = std::mem::take(&mut self.readings);
        for reading in &readings {
            if let Err(other) = self.step(reading, findings) {
                return self.give_up(other, findings);
            }
        }
        if let Err(other) = self.beside() {
            return self.give_up(other, findings);
        }
        // What is left is about readings that the archive does not hold: not yet, or not any more.
        let newest = self.history.readings.iter().map(|r| r.ts).max();
        let later = |r: &&&Row| newest.is_none_or(|newest| r.ts > newest);
        let (late, lost): (Vec<&&Row>, Vec<&&Row>) = self.at.iter().partition(later);
        findings.not_archived += late.iter().filter(|r| r.kind == RowKind::Scored).count() as u64;
        if let Some(first) = lost.first() {
            findings.other_rows += lost.iter().filter(|r| r.kind == RowKind::Scored).count() as u64;
            findings.other_input.push(OtherInput { ts: first.ts, n: first.n, what: "the archive does not hold this reading".into() });
            return None;
        }
        Some(self.state)
    }

    fn give_up(self, other: OtherInput, findings: &mut Findings) -> Option<DeviceState> {
        findings.other_rows += self.at.iter().filter(|r| r.kind == RowKind::Scored).count() as u64;
        findings.other_input.push(other);
        None
    }

    fn step(&mut self, reading: &Archived, findings: &mut Findings) -> Result<(), OtherInput> {
        self.beside()?;
        let n = self.state.accepted() + 1;
        // The model that scored it had its residuals in the features already.
        let own = |r: &&&Row| r.n == n && r.kind == RowKind::Scored;
        if let Some(model) = self.at.iter().take(2).find(own).and_then(|r| self.judges.models.get(r.model.as_deref()?)) {
            self.spec = &model.spec;
        }
        (self.history.values)(reading.at, &mut self.measured);
        let verdict = self.state.reading(self.spec, reading.ts, &self.measured);
        if let Verdict::Refused(why) = verdict {
            let what = format!("the archive holds this reading, which is {}, and predict neither took nor refused it", why.word());
            return Err(OtherInput { ts: reading.ts, n: n - 1, what });
        }
        while let Some(row) = self.at.front().copied().filter(|r| r.n <= n) {
            self.agrees(row, reading)?;
            self.at.pop_front();
            if row.kind == RowKind::Scored {
                self.compare(row, findings);
            }
        }
        Ok(())
    }

    /// Whether the state has absorbed what predict's had at `row`.
    fn agrees(&self, row: &Row, reading: &Archived) -> Result<(), OtherInput> {
        let what = match () {
            () if row.n < self.state.accepted() => "the scores are not in order".to_owned(),
            () if row.ts != reading.ts => format!("the archive's reading number {} is that of {}", row.n, crate::time::rfc3339(reading.ts)),
            () if row.content != reading.content => "the archive holds other values for this reading".to_owned(),
            () if row.chain != self.state.chain() => "what came before this reading is other than what predict saw".to_owned(),
            () => return Ok(()),
        };
        Err(OtherInput { ts: row.ts, n: row.n, what })
    }

    fn compare(&mut self, row: &Row, findings: &mut Findings) {
        let Some((version, model)) = row.model.as_ref().and_then(|v| Some((v, self.judges.models.get(v)?))) else {
            findings.unknown_model += 1;
            return;
        };
        findings.compared += 1;
        let mut again = vec![0.0; model.horizons.len()];
        self.state.features(self.spec, &mut self.row);
        model.score(&self.row, &mut again);
        let mut hold = |archived: &[f64], again: &[f64], name: &dyn Fn(usize) -> String| {
            for at in 0..archived.len().max(again.len()) {
                let value = |of: &[f64]| of.get(at).copied().unwrap_or(f64::NAN);
                let (archived, again) = (value(archived), value(again));
                // All missing values are one.
                if archived.to_bits() != again.to_bits() && !(archived.is_nan() && again.is_nan()) {
                    findings.differing.push(Difference { ts: row.ts, n: row.n, model: version.clone(), what: name(at), archived, again });
                }
            }
        };
        // Features first: where one differs, it is why a risk does.
        if !row.features.is_empty() {
            let spec = self.spec;
            hold(&row.features, &self.row, &|at| if at < spec.len() { spec.name(at) } else { format!("feature {at}") });
        }
        hold(&row.risks, &again, &|at| format!("risk_{}", at + 1));
        findings.with_features += u64::from(!row.features.is_empty());
    }

    /// Takes the events, refusals and restarts that come before the next reading.
    fn beside(&mut self) -> Result<(), OtherInput> {
        while let Some(row) = self.between.front().copied().filter(|r| r.n <= self.state.accepted()) {
            self.between.pop_front();
            let other = |what: String| Err(OtherInput { ts: row.ts, n: row.n, what });
            match row.kind {
                RowKind::Event => match self.history.events.get(&row.content) {
                    Some(event) => self.state.event(self.spec, event),
                    None => return other(format!("the archive does not hold this event ({})", row.reason)),
                },
                RowKind::Refused => {
                    // Whether it is refused is a matter of its time alone.
                    self.measured.fill(f64::NAN);
                    let found = self.state.reading(self.spec, row.ts, &self.measured).word().unwrap_or("accepted");
                    if found != row.reason {
                        return other(format!("predict refused this reading as {}, here it is {found}", row.reason));
                    }
                }
                RowKind::Start | RowKind::Scored => (),
            }
            if row.chain != self.state.chain() {
                return other(format!(
                    "at this {} predict had absorbed other readings or events",
                    if row.kind == RowKind::Start { "restart" } else { "event or refusal" }
                ));
            }
        }
        Ok(())
    }
}

/// The readings of a part that predict accepted, in order of `ts`: all but the refused ones, each once. `before` is how many it had accepted before.
///
/// A reading that the archive holds once and the scores call refused may have been accepted at its first delivery and refused at its second,
/// while ingest or compaction kept one of both: where the scores count more accepted readings than are found, such ones are taken.
fn accepted(arrived: &[Archived], rows: &[Row], before: u64) -> Vec<Archived> {
    let mut refused: HashMap<(i64, u64), usize> = HashMap::new();
    for row in rows.iter().filter(|r| r.kind == RowKind::Refused) {
        *refused.entry((row.ts, row.content)).or_default() += 1;
    }
    let mut copies: BTreeMap<(i64, u64), (Archived, usize)> = BTreeMap::new();
    for reading in arrived {
        copies.entry((reading.ts, reading.content)).or_insert((*reading, 0)).1 += 1;
    }
    let (mut taken, mut doubtful) = (Vec::new(), Vec::new());
    for (key, (reading, copies)) in copies {
        let sure = refused.get(&key).is_none_or(|refused| copies > *refused);
        if sure { &mut taken } else { &mut doubtful }.push(reading);
    }
    let (mut since, mut known) = (i64::MIN, before);
    let mut extra = Vec::new();
    for row in rows.iter().filter(|r| r.kind == RowKind::Scored) {
        let within = |r: &&Archived| r.ts > since && r.ts <= row.ts;
        let found = taken.partition_point(|r: &Archived| r.ts <= row.ts) - taken.partition_point(|r| r.ts <= since);
        let wanted = usize::try_from(row.n.saturating_sub(known)).unwrap_or(usize::MAX);
        extra.extend(doubtful.iter().filter(within).take(wanted.saturating_sub(found)).copied());
        (since, known) = (row.ts, row.n);
    }
    taken.extend(extra);
    taken.sort_by_key(|r| r.ts);
    taken
}
