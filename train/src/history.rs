//! The archive as training sees it: per device, readings in order of `ts` and events, read through polars.

use std::collections::BTreeMap;
use std::io::Cursor;

use homeward_models::artifact::SourceObject;
use homeward_models::{Event, EventKind, Fleet};
use homeward_store::archive::{EventRow, EventTable, read_events};
use homeward_store::keys::{Key, Table};
use homeward_store::{Entry, Store, StoreError};
use polars::prelude::*;

use crate::TrainError;

/// The readings of all devices as columns, sorted by device and `ts`.
pub(crate) struct History {
    /// Milliseconds since 1970 UTC.
    pub(crate) ts: Vec<i64>,
    /// Names of the measured signals.
    pub(crate) names: Vec<String>,
    /// One column a measured signal of the fleet; NaN is missing.
    pub(crate) signals: Vec<Vec<f64>>,
    /// Each device's rows and events.
    pub(crate) devices: Vec<DeviceHistory>,
    /// What was read.
    pub(crate) objects: Vec<SourceObject>,
}

/// One device's share of the columns.
pub(crate) struct DeviceHistory {
    pub(crate) name: String,
    pub(crate) rows: std::ops::Range<usize>,
    /// Ascending by time.
    pub(crate) events: Vec<Event>,
}

/// Reads telemetry and events of `fleet` from the archive. Objects written under another set of signals read as well: a signal they lack is missing.
pub(crate) async fn read(store: &Store, fleet: &Fleet, progress: &dyn Fn(&str)) -> Result<History, TrainError> {
    let (objects, frames) = read_objects(store, Table::Telemetry, |key, bytes| {
        frame(bytes, fleet).map_err(|source| TrainError::Object { key: key.to_string(), source })
    })
    .await?;
    let (event_objects, tables) = read_objects(store, Table::Events, |key, bytes| {
        read_events(bytes).map_err(|source| TrainError::Events { key: key.to_string(), source })
    })
    .await?;
    let mut events = by_device(&tables);
    if frames.is_empty() {
        let found = "no telemetry in the archive".into();
        return Err(TrainError::TooLittle {
            found,
            needed: "readings of at least two devices, archived by homeward ingest or homeward import".into(),
        });
    }
    progress(&format!("read {} telemetry and {} event objects", objects.len(), event_objects.len()));
    let sources = objects.iter().chain(&event_objects).map(source).collect();
    columns(frames, fleet, &mut events, sources).map_err(|source| TrainError::Object { key: "telemetry/".into(), source })
}

/// How often the archive is listed anew because compaction replaced what was being read.
const LISTINGS: u32 = 10;

/// All objects of a table, each read by `each`.
async fn read_objects<T>(
    store: &Store,
    table: Table,
    each: impl Fn(&Key, bytes::Bytes) -> Result<T, TrainError>,
) -> Result<(Vec<Entry>, Vec<T>), TrainError> {
    let mut listings = 0;
    'listed: loop {
        let entries = store.archive(table).await?;
        listings += 1;
        let mut all = Vec::with_capacity(entries.len());
        for entry in &entries {
            match store.get(&entry.key).await {
                Err(StoreError::NotFound { .. }) if listings < LISTINGS => continue 'listed,
                bytes => all.push(each(&entry.key, bytes?)?),
            }
        }
        return Ok((entries, all));
    }
}

fn source(entry: &Entry) -> SourceObject {
    SourceObject { key: entry.key.to_string(), size: entry.size, etag: entry.etag.clone() }
}

/// One object as a frame with exactly the columns that training needs.
fn frame(bytes: bytes::Bytes, fleet: &Fleet) -> PolarsResult<DataFrame> {
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    let schema = reader.schema()?;
    let has = |name: &str| schema.contains(name);
    let signals = fleet.signals().iter().map(|s| s.name.as_str());
    let wanted: Vec<String> = ["device", "ts", "seq", "idx"].into_iter().chain(signals.filter(|s| has(s))).map(String::from).collect();
    let mut frame = reader.with_columns(Some(wanted)).finish()?;
    for signal in fleet.signals().iter().filter(|s| !has(&s.name)) {
        frame.with_column(Column::full_null(signal.name.as_str().into(), frame.height(), &DataType::Float64))?;
    }
    let order = ["device", "ts", "seq", "idx"].into_iter().chain(fleet.signals().iter().map(|s| s.name.as_str()));
    frame.select(order.map(String::from))
}

fn columns(
    frames: Vec<DataFrame>,
    fleet: &Fleet,
    events: &mut BTreeMap<String, Vec<Event>>,
    objects: Vec<SourceObject>,
) -> PolarsResult<History> {
    let mut frames = frames.into_iter();
    let mut all = frames.next().unwrap_or_default();
    for frame in frames {
        all.vstack_mut(&frame)?;
    }
    let all = all.sort(["device", "ts", "seq", "idx"], SortMultipleOptions::default())?;
    let ts = all.column("ts")?.datetime()?.physical().into_no_null_iter().collect();
    let signals = fleet.signals().iter().map(|s| values(all.column(&s.name)?.f64()?)).collect::<PolarsResult<Vec<_>>>()?;
    let mut devices: Vec<DeviceHistory> = Vec::new();
    for (row, name) in all.column("device")?.str()?.iter().map(Option::unwrap_or_default).enumerate() {
        match devices.last_mut() {
            Some(device) if device.name == name => device.rows.end = row + 1,
            _ => devices.push(DeviceHistory { name: name.into(), rows: row..row + 1, events: events.remove(name).unwrap_or_default() }),
        }
    }
    let names = fleet.signals().iter().map(|s| s.name.clone()).collect();
    Ok(History { ts, names, signals, devices, objects })
}

impl History {
    /// Each signal in its own column: for the fleet that the history was read for.
    pub(crate) fn columns(&self) -> Vec<Option<usize>> {
        (0..self.names.len()).map(Some).collect()
    }
}

/// A column with NaN for null, in one allocation.
fn values(column: &Float64Chunked) -> PolarsResult<Vec<f64>> {
    Ok(column.iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

fn by_device(tables: &[EventTable]) -> BTreeMap<String, Vec<Event>> {
    let mut events: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for table in tables {
        for row in (0..table.len()).filter_map(|i| table.row(i)) {
            events.entry(row.device.to_owned()).or_default().extend(event(&row));
        }
    }
    for list in events.values_mut() {
        list.sort_by_key(|e| e.ts);
        // A message that was delivered twice is one event.
        list.dedup();
    }
    events
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
