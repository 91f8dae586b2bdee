//! `homeward audit`: scores the archive again and compares with what was archived live.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use homeward_models::artifact::Model;
use homeward_models::audit::{Archived, Findings, History, Judges, Row, RowKind, audit};
use homeward_models::features::{FeatureSpec, chain_event, chain_reading};
use homeward_models::time::rfc3339;
use homeward_models::{Event, EventKind, Fleet};
use homeward_store::archive::{EventRow, ScoreTable, TelemetryTable, read_events, read_scores, read_telemetry};
use homeward_store::keys::{Key, Table};
use homeward_store::{Registry, Store, StoreError};
use serde_json::{Value, json};

use crate::args::AuditArgs;
use crate::config::Config;
use crate::{Failed, edges, report};

/// How often the archive is listed anew because compaction replaced what was being read.
const LISTINGS: u32 = 10;
/// Findings shown to people, of each kind.
const SHOWN: usize = 20;

/// What the archive knows of one device.
#[derive(Default)]
struct Told {
    /// Order of the row: rank of its writer, place in the writer's journal, rank of its kind.
    rows: Vec<((u64, i64, i32, u8), Row)>,
    /// With the order of arrival.
    readings: Vec<((i64, i64, i32), Archived)>,
    /// Measured values of the readings, one after the other.
    values: Vec<f64>,
    events: HashMap<u64, Event>,
}

pub(crate) async fn run(config: &Config, args: &AuditArgs, json: bool) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let mut devices = read(&store, config, args).await?;
    let models = models(&edges::registry(config, &store)?, &config.fleet, &devices).await;
    let plain = FeatureSpec::new(&config.fleet);
    let judges = Judges { models: &models, plain: &plain };
    let mut found: Vec<(String, Findings)> = Vec::with_capacity(devices.len());
    for (device, told) in &mut devices {
        found.push((device.clone(), told.audit(&judges, config.fleet.measured)));
    }
    let total = Total::of(&found);
    report::outcome(json, &total.json(&found), || total.text(&found))?;
    match () {
        () if total.differing > 0 => Err(Failed(format!("{} values differ in bits", total.differing)).into()),
        () if args.strict && total.other_rows + total.unknown_model > 0 => {
            Err(Failed(format!("{} rows could not be compared", total.other_rows + total.unknown_model)).into())
        }
        () => Ok(()),
    }
}

/// Reads scores, telemetry and events by device; devices without scores are passed over.
async fn read(store: &Store, config: &Config, args: &AuditArgs) -> anyhow::Result<BTreeMap<String, Told>> {
    let wanted = |device: &str| args.device.as_deref().is_none_or(|d| d == device);
    let mut devices: BTreeMap<String, Told> = BTreeMap::new();
    let scores = objects(store, Table::Scores, read_scores).await?;
    let ranks = writer_ranks(&scores);
    for (key, table) in &scores {
        let rank = ranks.get(&writer(key)).copied().unwrap_or_default();
        for (at, device) in table.device.iter().enumerate().filter_map(|(i, d)| Some((i, d?))).filter(|d| wanted(d.1)) {
            devices.entry(device.to_owned()).or_default().score(rank, table, at);
        }
    }
    drop(scores);
    for (_, table) in objects(store, Table::Telemetry, read_telemetry).await? {
        let columns: Vec<Option<&[f64]>> = config.fleet.signals().iter().map(|s| table.signal(&s.name)).collect();
        for (at, device) in table.device.iter().enumerate() {
            if let Some(told) = device.and_then(|d| devices.get_mut(d)) {
                told.reading(&table, &columns, at);
            }
        }
    }
    for (_, table) in objects(store, Table::Events, read_events).await? {
        for row in (0..table.len()).filter_map(|i| table.row(i)) {
            if let (Some(told), Some(event)) = (devices.get_mut(row.device), event(&row)) {
                told.events.insert(chain_event(0, &event), event);
            }
        }
    }
    Ok(devices)
}

/// All objects of a table, decoded.
async fn objects<T, E: std::error::Error + Send + Sync + 'static>(
    store: &Store,
    table: Table,
    decode: impl Fn(Bytes) -> Result<T, E>,
) -> anyhow::Result<Vec<(Key, T)>> {
    let mut listings = 0;
    'listed: loop {
        listings += 1;
        let mut all = Vec::new();
        for entry in store.archive(table).await? {
            match store.get(&entry.key).await {
                Err(StoreError::NotFound { .. }) if listings < LISTINGS => continue 'listed,
                bytes => {
                    let decoded = decode(bytes?).map_err(|e| anyhow::Error::new(e).context(entry.key.to_string()))?;
                    all.push((entry.key, decoded));
                }
            }
        }
        return Ok(all);
    }
}

fn writer(key: &Key) -> String {
    if let Key::Archive(key) = key { key.writer().to_string() } else { String::new() }
}

/// Writers in the order in which they began: each journal of predict counts its own positions.
fn writer_ranks(scores: &[(Key, ScoreTable)]) -> HashMap<String, u64> {
    let mut began: BTreeMap<String, i64> = BTreeMap::new();
    for (key, table) in scores {
        let first = table.received_at.iter().copied().min().unwrap_or(i64::MAX);
        let known = began.entry(writer(key)).or_insert(i64::MAX);
        *known = first.min(*known);
    }
    let mut order: Vec<(i64, String)> = began.into_iter().map(|(writer, at)| (at, writer)).collect();
    order.sort();
    order.into_iter().zip(0..).map(|((_, writer), rank)| (writer, rank)).collect()
}

fn event(row: &EventRow<'_>) -> Option<Event> {
    let text = |t: Option<&str>| t.map(String::from);
    Some(Event {
        ts: row.ts,
        kind: EventKind::parse(row.event, row.finding)?,
        component: text(row.component),
        alert_id: text(row.alert_id),
        extra: text(row.extra),
    })
}

/// The models that the rows name, as far as they are to be had and fit the fleet.
async fn models(registry: &Registry, fleet: &Fleet, devices: &BTreeMap<String, Told>) -> BTreeMap<String, Model> {
    let versions: BTreeSet<&str> = devices.values().flat_map(|t| &t.rows).filter_map(|r| r.1.model.as_deref()).collect();
    let mut models = BTreeMap::new();
    for version in versions {
        let loaded = match version.parse() {
            Ok(parsed) => homeward_predict::load(registry, &parsed, fleet).await.map_err(|e| e.to_string()),
            Err(_) => Err("no version".into()),
        };
        match loaded {
            Ok(service) => _ = models.insert(version.to_owned(), service.model),
            Err(error) => tracing::warn!(version, error, "rows of this model cannot be compared"),
        }
    }
    models
}

fn number(bits: i64) -> u64 {
    u64::from_ne_bytes(bits.to_ne_bytes())
}

impl Told {
    fn score(&mut self, writer: u64, table: &ScoreTable, at: usize) {
        let (kind, rank) = match table.kind.get(at).unwrap_or_default() {
            "start" => (RowKind::Start, 0),
            "scored" => (RowKind::Scored, 1),
            "refused" => (RowKind::Refused, 1),
            "event" => (RowKind::Event, 1),
            other => return tracing::warn!(kind = other, "a row of a kind that this version does not know, passed over"),
        };
        let row = Row {
            kind,
            ts: table.ts[at],
            received_at: table.received_at[at],
            n: u64::try_from(table.n[at]).unwrap_or_default(),
            chain: number(table.chain[at]),
            content: number(table.content[at]),
            risks: table.risks_of(at),
            features: table.features_of(at),
            model: table.model_version.get(at).map(String::from),
            reason: table.reason.get(at).unwrap_or_default().to_owned(),
        };
        self.rows.push(((writer, table.seq[at], table.idx[at], rank), row));
    }

    fn reading(&mut self, table: &TelemetryTable, columns: &[Option<&[f64]>], at: usize) {
        let start = self.values.len();
        self.values.extend(columns.iter().map(|column| column.map_or(f64::NAN, |c| c[at])));
        let (ts, received_at) = (table.ts[at], table.received_at[at]);
        let content = chain_reading(0, ts, &self.values[start..]);
        self.readings.push(((received_at, table.seq[at], table.idx[at]), Archived { ts, received_at, content, at: start }));
    }

    fn audit(&mut self, judges: &Judges<'_>, signals: usize) -> Findings {
        self.rows.sort_by_key(|r| r.0);
        self.readings.sort_by_key(|r| r.0);
        let rows: Vec<Row> = self.rows.drain(..).map(|r| r.1).collect();
        let readings: Vec<Archived> = self.readings.iter().map(|r| r.1).collect();
        let values = |at: usize, out: &mut [f64]| out.copy_from_slice(&self.values[at..at + signals]);
        audit(&History { rows: &rows, readings: &readings, events: &self.events, values: &values }, judges)
    }
}

/// Sums over all devices.
#[derive(Default)]
struct Total {
    scored: u64,
    compared: u64,
    with_features: u64,
    other_rows: u64,
    not_archived: u64,
    unknown_model: u64,
    unanchored: u64,
    other_input: usize,
    differing: usize,
}

impl Total {
    fn of(found: &[(String, Findings)]) -> Self {
        let mut total = Self::default();
        for (_, f) in found {
            total.scored += f.scored;
            total.compared += f.compared;
            total.with_features += f.with_features;
            total.other_rows += f.other_rows;
            total.not_archived += f.not_archived;
            total.unknown_model += f.unknown_model;
            total.unanchored += f.unanchored;
            total.other_input += f.other_input.len();
            total.differing += f.differing.len();
        }
        total
    }

    fn json(&self, found: &[(String, Findings)]) -> Value {
        let inputs = found
            .iter()
            .flat_map(|(device, f)| f.other_input.iter().map(move |o| json!({"device": device, "ts": o.ts, "n": o.n, "what": o.what})));
        let differing = found.iter().flat_map(|(device, f)| {
            f.differing.iter().map(move |d| {
                json!({"device": device, "ts": d.ts, "n": d.n, "model": d.model, "what": d.what, "archived": d.archived, "again": d.again,
                    "archived_bits": format!("{:016x}", d.archived.to_bits()), "again_bits": format!("{:016x}", d.again.to_bits())})
            })
        });
        json!({
            "devices": found.len(), "scored": self.scored, "compared": self.compared, "with_features": self.with_features, "differing": differing.collect::<Vec<_>>(),
            "other_input": inputs.collect::<Vec<_>>(), "other_rows": self.other_rows, "not_archived": self.not_archived,
            "unknown_model": self.unknown_model, "unanchored": self.unanchored,
        })
    }

    fn text(&self, found: &[(String, Findings)]) -> String {
        let mut lines = vec![format!(
            "{} devices: {} of {} scored rows compared, {} with all features; {} values differ in bits; {} rows of other input, {} not archived yet, {} of models that are \
             gone, {} before any start",
            found.len(),
            self.compared,
            self.scored,
            self.with_features,
            self.differing,
            self.other_rows,
            self.not_archived,
            self.unknown_model,
            self.unanchored
        )];
        let all = |device: &str, f: &Findings| {
            let different = f.differing.iter().map(|d| {
                let (archived, again) = (d.archived.to_bits(), d.again.to_bits());
                format!(
                    "DIFFERS {device} {}: {} archived {:?} ({archived:016x}), again {:?} ({again:016x}), model {}",
                    rfc3339(d.ts),
                    d.what,
                    d.archived,
                    d.again,
                    d.model
                )
            });
            let other = f.other_input.iter().map(|o| format!("other input: {device} {} (reading {}): {}", rfc3339(o.ts), o.n, o.what));
            different.chain(other).collect::<Vec<_>>()
        };
        lines.extend(found.iter().flat_map(|(device, f)| all(device, f)).take(SHOWN));
        let hidden = (self.differing + self.other_input).saturating_sub(SHOWN);
        if hidden > 0 {
            lines.push(format!("… and {hidden} more: --json has them all"));
        }
        lines.join("\n")
    }
}
